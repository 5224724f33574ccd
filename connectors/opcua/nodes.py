"""Node ids as they stand in a configuration, and what they mean to a server today.

A namespace is named by its URI. Its index belongs to one run of one server: after a restart the
same index may be another namespace. Written form: OPC UA Part 6, 5.1.12.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

_FORM = re.compile(r"(?:nsu=(?P<uri>[^;]+);)?(?P<kind>[isgb])=(?P<identifier>.+)", re.DOTALL)
_WANTED = "want nsu=<namespace URI>;s=<text>, or i=<number>, g=<GUID>, b=<base64> in place of s="
OPC_UA = "http://opcfoundation.org/UA/"  # namespace 0, on every server


@dataclass(frozen=True, slots=True)
class Address:
    """A node id that holds on every run of the server."""

    uri: str
    identifier: int | str | UUID | bytes


def parse(address: str) -> Address:
    """Read a node id. Raises ValueError for one that no server could know."""
    if re.match(r"ns=\d", address):
        raise ValueError(
            "a namespace index may mean another namespace after the server's next start; "
            "want the namespace's URI, as nsu=<URI>;" + address.partition(";")[2]
        )
    form = _FORM.fullmatch(address)
    if form is None:
        raise ValueError(_WANTED)
    kind, text = form["kind"], form["identifier"]
    uri = (form["uri"] or OPC_UA).replace("%3B", ";").replace("%3b", ";").replace("%25", "%")
    try:
        identifier = _identifier(kind, text)
    except (ValueError, binascii.Error) as error:
        raise ValueError(f"{kind}={text}: {error}; {_WANTED}") from error
    return Address(uri, identifier)


def _identifier(kind: str, text: str) -> int | str | UUID | bytes:
    match kind:
        case "i":
            number = int(text) if text.isascii() and text.isdigit() else -1
            if not 0 <= number < 1 << 32:
                raise ValueError("no whole number from 0 to 4294967295")
            return number
        case "g":
            return UUID(text)
        case "b":
            return base64.b64decode(text, validate=True)
        case _:
            return text


def index_of(address: Address, namespaces: Sequence[str]) -> int | None:
    """Where the server has the address's namespace now; None: it has no such namespace."""
    if address.uri == OPC_UA:
        return 0
    return namespaces.index(address.uri) if address.uri in namespaces else None
