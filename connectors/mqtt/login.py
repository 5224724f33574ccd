"""Who we are to a broker: the password and the certificates, read anew for each link."""

import os
import ssl
from pathlib import Path

from connectors.contract import NotReadyError
from connectors.mqtt.settings import LinkSettings, TlsSettings


def password(settings: LinkSettings, *, connector: str) -> str | None:
    """The password, if there is to be one. Raises NotReadyError where it cannot be read."""
    if settings.password_file is not None:
        try:
            lines = Path(settings.password_file).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
            raise NotReadyError(
                f"{connector}: password_file {settings.password_file}: {why}. Trying again; make "
                "the file, readable for this user",
                connector=connector,
            ) from None  # what was read is not for logs
        return lines[0] if lines else ""
    if settings.password_env is not None:
        if settings.password_env not in os.environ:
            raise NotReadyError(
                f"{connector}: no environment variable {settings.password_env} (password_env). "
                "Set it and start again",
                connector=connector,
            )
        return os.environ[settings.password_env]
    return None


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
