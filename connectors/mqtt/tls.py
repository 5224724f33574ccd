"""Who a broker is to us, and we to it: the certificates, read anew for each link."""

import ssl

from connectors.contract import NotReadyError
from connectors.mqtt.settings import TlsSettings


def tls_context(settings: TlsSettings, *, connector: str) -> ssl.SSLContext:
    """A context that checks the broker's name and certificate. Raises NotReadyError."""
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        if settings.cert_file is not None:
            context.load_cert_chain(settings.cert_file, settings.key_file, password=lambda: "")
    except (OSError, ValueError) as error:  # an encrypted key, a wrong file, none at all
        named = [name for name in ("ca_file", "cert_file", "key_file") if getattr(settings, name)]
        raise NotReadyError(
            f"{connector}: tls: {' or '.join(named)} cannot be used: "
            f"{getattr(error, 'strerror', None) or error}. Want PEM files, the key without a "
            "password and that of the certificate",
            connector=connector,
        ) from error
    return context
