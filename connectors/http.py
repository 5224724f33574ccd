"""What every connector that speaks HTTP shares: addresses, certificates, and patience asked for."""

import math
import os
import ssl
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

from connectors.contract import NotReadyError

LONGEST_WAIT_S = 86_400.0  # who asks for more than a day is asked again tomorrow


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises ValueError for a port that is none
    except ValueError as error:
        raise ValueError(f"no URL: {error}; want one as https://host:8086") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"scheme {parts.scheme!r}; want http:// or https://")
    if not parts.hostname or any(c.isspace() or not c.isprintable() for c in url):
        raise ValueError("want a host, and no blanks, as https://host:8086")
    if parts.username is not None or parts.password is not None:
        raise ValueError("holds a user or password; want them in a file, with a setting of its own")
    if parts.fragment:
        raise ValueError("has a #fragment; want the address alone")
    return url


HttpUrl = Annotated[str, AfterValidator(_checked)]
"""An address in the configuration: http or https, with no user or password in it."""


def host_of(url: str) -> str:
    """Scheme, host and port: all of an address that a text may show, for paths can be secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def retry_after_s(header: str | None, *, now_s: float) -> float | None:
    """Seconds asked for by Retry-After (RFC 9110, 10.2.3), up to a day; None: nothing readable.

    ``now_s`` is s since 1970 UTC: the header may name a date.
    """
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            date = parsedate_to_datetime(header)
        except ValueError:
            return None
        seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now_s
    return min(max(seconds, 0.0), LONGEST_WAIT_S) if math.isfinite(seconds) else None


def trust(ca_file: str | None, *, connector: str) -> ssl.SSLContext:
    """Verify peers: by the authorities in ``ca_file``, or by those of this machine.

    Raises NotReadyError where the file is no list of certificates.
    """
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise NotReadyError(
            f"{connector}: ca_file {ca_file}: {error.strerror or error}; want certificates in PEM",
            connector=connector,
        ) from error


def plain(error: BaseException) -> str:
    """Why a connection failed, in words that stay the same from one attempt to the next."""
    deepest: BaseException | None = error
    while deepest is not None:
        if isinstance(deepest, ConnectionError) and deepest.errno:
            return os.strerror(deepest.errno)  # asyncio's own words hold addresses
        if isinstance(deepest, OSError) and deepest.strerror:
            return deepest.strerror
        if isinstance(deepest, BaseExceptionGroup):  # an attempt for each address of a name
            deepest = deepest.exceptions[0]
        else:
            deepest = deepest.__cause__ or deepest.__context__
    return (
        "no answer in time" if "timeout" in type(error).__name__.lower() else type(error).__name__
    )
