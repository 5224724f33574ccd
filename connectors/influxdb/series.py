"""Which series of an InfluxDB an address means: ``measurement.field{tag=value,...}``.

What holds a quote, brace, comma or equals sign, or a field with a dot in it, stands in double
quotes. ``tag=*`` says that series may differ in this tag and are still one; ``tag=`` that the tag
is not there.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_ADDRESS = re.compile(
    rf'(?P<measurement>{_QUOTED}|[^"{{}}]+)\.(?P<field>{_QUOTED}|[^".{{}}]+)(?:\{{(?P<tags>.*)\}})?'
)
_TAG = re.compile(rf'\s*(?P<key>{_QUOTED}|[^"{{}}=,]+)=(?P<value>{_QUOTED}|[^"{{}}=,]*)(?:,|$)')
TYPES = ("float", "boolean", "string")  # whole numbers are read as floats


@dataclass(frozen=True, slots=True)
class Series:
    """One address, taken apart."""

    measurement: str
    field: str
    tags: tuple[tuple[str, str], ...] = ()  # by name
    any_of: frozenset[str] = frozenset()  # tags in which the series may differ

    @classmethod
    def of(cls, address: str) -> "Series":
        """Take an address apart. Raises ValueError."""
        found = _ADDRESS.fullmatch(address.strip())
        if found is None:
            raise ValueError("want measurement.field or measurement.field{tag=value}")
        tags: dict[str, str] = {}
        any_of = set()
        rest = (found["tags"] or "").strip()
        while rest:
            tag = _TAG.match(rest)
            if tag is None:
                raise ValueError(f"at {rest!r}: want tag=value, with commas between")
            rest = rest[tag.end() :].strip()
            key = _bare(tag["key"])
            if key in tags or key in any_of:
                raise ValueError(f"tag {key!r} stands there twice")
            if tag["value"].strip() == "*":
                any_of.add(key)
            else:
                tags[key] = _bare(tag["value"])
        return cls(
            measurement=_bare(found["measurement"]),
            field=_bare(found["field"]),
            tags=tuple(sorted(tags.items())),
            any_of=frozenset(any_of),
        )


def selection(
    measurement: str,
    fields: Sequence[str],
    tags: Sequence[tuple[str, str]],
    *,
    retention_policy: str | None,
    since: int,
    until: int,
) -> str:
    """InfluxQL: these fields in (since, until], ns since 1970 UTC; one column for each of TYPES.

    A field may be of another type in another shard, and without a cast one type hides the others.
    """
    columns = ", ".join(f"{_name(field)}::{kind}" for field in fields for kind in TYPES)
    policy = f"{_name(retention_policy)}." if retention_policy else ""
    conditions = [f"time > {since}", f"time <= {until}"]
    conditions += [f"{_name(key)}::tag = {_text(value)}" for key, value in tags]
    table = f"{policy}{_name(measurement)}"
    return f"SELECT {columns} FROM {table} WHERE {' AND '.join(conditions)}"  # noqa: S608 - quoted


def _bare(text: str) -> str:
    text = text.strip()
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text


def _name(text: str) -> str:
    """An identifier of InfluxQL."""
    return '"' + _escaped(text).replace('"', r"\"") + '"'


def _text(text: str) -> str:
    """A string of InfluxQL."""
    return "'" + _escaped(text).replace("'", r"\'") + "'"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")
