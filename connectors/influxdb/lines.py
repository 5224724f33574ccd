"""Points to line protocol: whole columns at once, never one object a point.

Blocks that share measurement, field names and text names are made in one go, however many blocks
they are. Numbers are written in the fewest digits that read back as the same float64, stamps as
whole ns. Source: the line protocol of InfluxDB 2, which InfluxDB 1, 3 and VictoriaMetrics read too.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors.batch import I32
from connectors.points import Points

_MEASUREMENT = str.maketrans({",": r"\,", " ": r"\ "})
_KEY = str.maketrans({",": r"\,", " ": r"\ ", "=": r"\="})
# A backslash before what is escaped, or at the end, is read differently by different servers.
_UNWRITABLE = re.compile(r'[\x00-\x1f\x7f]|\\(?=[\\,= "]|$)')


@dataclass(slots=True)
class Lines:
    """Lines ``start`` to ``stop`` of many; a view, that copies nothing."""

    text: bytes  # of all of them; each ends with a newline
    offset: I32  # where each begins in ``text``, and where the last one ends
    start: int
    stop: int

    def __len__(self) -> int:
        """Count of lines."""
        return self.stop - self.start

    @property
    def data(self) -> bytes:
        """These lines."""
        return self.text[self.offset[self.start] : self.offset[self.stop]]

    def part(self, start: int, stop: int) -> "Lines":
        """Lines ``start`` to ``stop`` of these, as far as there are any."""
        first, last = self.start + start, min(self.start + stop, self.stop)
        return Lines(self.text, self.offset, first, last)


def lines(blocks: Sequence[Points]) -> tuple[dict[int, Lines], dict[int, str]]:
    """The lines of each block, by index; and why some blocks cannot be written, by index."""
    written: dict[int, Lines] = {}
    refused: dict[int, str] = {}
    heads: dict[int, str] = {}
    alike: dict[tuple[tuple[str, ...], ...], list[int]] = defaultdict(list)
    for index, block in enumerate(blocks):
        names = (tuple(block.fields), tuple(block.texts))
        try:
            heads[index] = _head(block.measurement, tuple(block.tags.items()), *names)
            for texts in block.texts.values():
                "".join(texts).encode()  # a lone surrogate has no bytes: a ValueError
        except ValueError as error:
            refused[index] = str(error)
        else:
            alike[names].append(index)
    for indices in alike.values():
        made = _together([blocks[i] for i in indices], [heads[i] for i in indices])
        written.update(zip(indices, made, strict=True))
    return written, refused


@lru_cache(maxsize=100_000)  # a line for each series of a plant: the same again each tick
def _head(
    measurement: str,
    tags: tuple[tuple[str, str], ...],
    fields: tuple[str, ...],
    texts: tuple[str, ...],
) -> str:
    """Measurement and tags as they begin each line. Raises ValueError for what has no form."""
    if not measurement or measurement.startswith("#"):
        raise ValueError(f"measurement {measurement!r}: want a name that begins without #")
    if not fields and not texts:
        raise ValueError(f"{measurement}: has no field; want one or more")
    names = [*(key for key, _ in tags), *fields, *texts]
    for name in names:
        if name in ("", "time"):
            raise ValueError(f"{measurement}: a tag or field {name!r}; want another name")
    if len(set(names)) < len(names):
        raise ValueError(f"{measurement}: two tags or fields of one name: {sorted(names)}")
    for text in (measurement, *names, *(value for _, value in tags)):
        text.encode()  # a lone surrogate has no bytes: a ValueError
        if _UNWRITABLE.search(text):
            raise ValueError(
                f"{measurement}: {text!r} has no form in line protocol; want no control "
                "character, and no backslash at the end or before a comma, blank, quote or ="
            )
    written = (  # in the order of their names, in which servers keep them
        f",{key.translate(_KEY)}={value.translate(_KEY)}" for key, value in sorted(tags) if value
    )
    return measurement.translate(_MEASUREMENT) + "".join(written)


def _together(blocks: Sequence[Points], heads: Sequence[str]) -> list[Lines]:
    """The lines of blocks that have the same fields and texts, block for block."""
    count = np.array([len(block) for block in blocks])
    head = pa.array(heads, pa.string()).take(np.repeat(np.arange(len(heads)), count))
    parts: list[Any] = [head]
    before = " "
    for name in blocks[0].fields:
        column = pa.array(np.concatenate([block.fields[name] for block in blocks]))
        parts += [f"{before}{name.translate(_KEY)}=", pc.cast(column, pa.string())]
        before = ","
    for name in blocks[0].texts:
        column = pa.array(chain.from_iterable(block.texts[name] for block in blocks), pa.string())
        for character in ("\\", '"'):
            column = pc.replace_substring(column, character, "\\" + character)
        parts += [f'{before}{name.translate(_KEY)}="', column, '"']
        before = ","
    time = pa.array(np.concatenate([block.time for block in blocks]))
    parts += [" ", pc.cast(time, pa.string()), "\n"]
    return _cut(pc.binary_join_element_wise(*parts, ""), np.cumsum(count).tolist())


def _cut(joined: Any, stops: Sequence[int]) -> list[Lines]:
    """Cut all lines into blocks that stop at these lines; ``joined`` is a string array."""
    _, offsets, data = joined.buffers()
    offset = np.frombuffer(offsets, np.int32)
    text = data.to_pybytes() if data is not None else b""
    return [Lines(text, offset, *lines) for lines in pairwise([0, *stops])]
