"""What the numbers of a server mean: its units against ours, and whether they changed.

Read when a session begins and whenever the server says that a meaning changed, from the properties
EngineeringUnits, EURange and InstrumentRange (Part 8, 5.3 and 5.6). A unit that is in the table is
converted into the configured one. A unit that is not, and becomes another, makes the values bad
until it is what it was. Where the server or the configuration names no unit, nothing is judged.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from connectors.batch import F64, I32, U32, Notice, NoticeKind, usable
from connectors.contract import TagRef
from connectors.opcua.values import Meant

if TYPE_CHECKING:
    from asyncua import ua

    from connectors.opcua.link import Facts, Link

Part = TypeVar("Part")

logger = logging.getLogger(__name__)

BAD_CONFIGURATION_ERROR = 0x8089_0000  # Part 6, A.2: "a problem with the configuration"
PROPERTIES = ("EngineeringUnits", "EURange", "InstrumentRange")
UNECE = "http://www.opcfoundation.org/UA/units/un/cefact"  # Part 8, 5.6.4.3: whose codes they are
CALLS_AT_ONCE = 8  # 20,000 tags at 100 a call are 1400 calls: one by one, 140 s at 0.1 s each
MOST_NAMED = 20  # tags named in one log line
MOST_KEPT = 200  # meanings in a position: positions stay small


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit: x of it are factor * x + offset of the first unit of its quantity."""

    quantity: str
    factor: float
    offset: float = 0.0


# Codes: UN/ECE Recommendation 20. Names as in configurations, simplified by _plain. Gauge and
# absolute pressure are never taken for one another, nor is anything made into kelvin: K may stand
# for a difference, which has no offset.
_TABLE: tuple[tuple[str, str, Unit], ...] = (
    ("CEL", "degC C Cel celsius", Unit("temperature", 1.0)),
    ("FAH", "degF F fahrenheit", Unit("temperature", 5 / 9, -160 / 9)),
    ("KEL", "K kelvin", Unit("temperature", 1.0, -273.15)),
    ("BAR", "bar", Unit("pressure", 1.0)),
    ("MBR", "mbar", Unit("pressure", 1e-3)),
    ("PAL", "Pa", Unit("pressure", 1e-5)),
    ("A97", "hPa", Unit("pressure", 1e-3)),
    ("KPA", "kPa", Unit("pressure", 1e-2)),
    ("MPA", "MPa", Unit("pressure", 10.0)),
    ("PS", "psi lbf/in2", Unit("pressure", 0.0689475729)),
    ("", "barg bar(g)", Unit("gauge pressure", 1.0)),
    ("", "psig psi(g)", Unit("gauge pressure", 0.0689475729)),
    ("", "bara bar(a)", Unit("absolute pressure", 1.0)),
    ("", "psia psi(a)", Unit("absolute pressure", 0.0689475729)),
    ("C16", "mm/s", Unit("velocity", 1.0)),
    ("MTS", "m/s", Unit("velocity", 1e3)),
    ("IU", "in/s ips", Unit("velocity", 25.4)),
    ("MSK", "m/s2", Unit("acceleration", 1.0)),
    ("K40", "g", Unit("acceleration", 9.80665)),
    ("MMT", "mm", Unit("length", 1.0)),
    ("4H", "um", Unit("length", 1e-3)),
    ("CMT", "cm", Unit("length", 10.0)),
    ("MTR", "m", Unit("length", 1e3)),
    ("INH", "in", Unit("length", 25.4)),
    ("MQH", "m3/h", Unit("flow", 1.0)),
    ("MQS", "m3/s", Unit("flow", 3600.0)),
    ("L2", "l/min", Unit("flow", 0.06)),
    ("G51", "l/s", Unit("flow", 3.6)),
    ("E32", "l/h", Unit("flow", 1e-3)),
    ("G2", "gpm", Unit("flow", 0.227124707)),
    ("E93", "kg/h", Unit("mass rate", 1.0)),
    ("KGS", "kg/s", Unit("mass rate", 3600.0)),
    ("E18", "t/h", Unit("mass rate", 1e3)),
    ("RPM", "rpm 1/min r/min", Unit("speed", 1.0)),
    ("RPS", "rps 1/s r/s", Unit("speed", 60.0)),
    ("HTZ", "Hz", Unit("frequency", 1.0)),
    ("KHZ", "kHz", Unit("frequency", 1e3)),
    ("AMP", "A", Unit("current", 1.0)),
    ("4K", "mA", Unit("current", 1e-3)),
    ("VLT", "V", Unit("voltage", 1.0)),
    ("2Z", "mV", Unit("voltage", 1e-3)),
    ("KVT", "kV", Unit("voltage", 1e3)),
    ("WTT", "W", Unit("power", 1.0)),
    ("KWT", "kW", Unit("power", 1e3)),
    ("MAW", "MW", Unit("power", 1e6)),
    ("NU", "Nm N.m", Unit("torque", 1.0)),
    ("P1", "%", Unit("share", 1.0)),
)


def code_number(code: str) -> int:
    """The UnitId of a UNECE code: its characters as bytes of one number (Part 8, 5.6.4.3)."""
    return int.from_bytes(code.encode("ascii"), "big")


def _plain(name: str) -> str:
    """A unit's name as the table has it."""
    for given, plain in (("°", "deg"), ("²", "2"), ("³", "3"), ("µ", "u"), ("μ", "u"), ("^", "")):
        name = name.replace(given, plain)
    return "".join(name.split())


_BY_NAME = {name: unit for _, names, unit in _TABLE for name in names.split()}
_NAMES = {code_number(code): names.split()[0] for code, names, _ in _TABLE if code}


def conversion(theirs: str, ours: str) -> tuple[float, float] | None:
    """Factor and offset that make a value in ours of one in theirs; None: there is no such."""
    theirs, ours = _plain(theirs), _plain(ours)
    if theirs == ours:
        return 1.0, 0.0
    here, there = _BY_NAME.get(ours), _BY_NAME.get(theirs)
    if here is None or there is None or here.quantity != there.quantity:
        return None
    if here == there:
        return 1.0, 0.0
    if here is _BY_NAME["K"]:
        return None
    return there.factor / here.factor, (there.offset - here.offset) / here.factor


def contradicts(theirs: str, ours: str) -> bool:
    """Whether two units cannot be of one value: bar and degC cannot, bar and barg may."""
    here, there = _BY_NAME.get(_plain(ours)), _BY_NAME.get(_plain(theirs))
    if here is None or there is None:
        return False
    return here.quantity.split()[-1] != there.quantity.split()[-1]


def unit_name(found: Any) -> str:
    """The unit of an EUInformation: of its UNECE code, else as it is displayed; empty: none."""
    number, namespace = getattr(found, "UnitId", -1), getattr(found, "NamespaceUri", None)
    if number in _NAMES and namespace in (None, "", UNECE):
        return _NAMES[number]
    shown = getattr(getattr(found, "DisplayName", None), "Text", None)
    return shown.strip() if isinstance(shown, str) else ""


def _range_name(*found: Any) -> str:
    """EURange and InstrumentRange in words; empty: it has neither."""
    return ", instrument ".join(
        f"{one.Low:g} to {one.High:g}" if hasattr(one, "Low") and hasattr(one, "High") else "none"
        for one in found
        if one is not None
    )


class Meanings:
    """What the tags of a source mean on its server; outlives a session."""

    def __init__(self, source: str, known: Mapping[int, tuple[str, str]]) -> None:
        """``known``: what they meant before, as ``kept`` gave it."""
        self.known = dict(known)  # by tag: the unit that was right, and the range
        self.bad: dict[int, str] = {}  # by tag: why its values mean nothing
        self._source = source
        self._converted: dict[int, tuple[float, float]] = {}
        self._table: tuple[NDArray[np.intp], F64] | None = None  # the same, as columns
        self._said: set[tuple[int, str]] = set()

    @property
    def converted(self) -> int:
        """Count of tags whose values are converted."""
        return len(self._converted)

    def kept(self) -> dict[int, tuple[str, str]]:
        """What a position is to hold: all, or where that is much, only what no table tells."""
        if len(self.known) <= MOST_KEPT:
            return self.known
        return {
            t: one for t, one in self.known.items() if one[0] and _plain(one[0]) not in _BY_NAME
        }

    async def read(
        self,
        link: "Link",
        facts: "Facts",
        nodes: Mapping[int, "ua.NodeId"],
        tags: Mapping[int, TagRef],
    ) -> list[Notice]:
        """Ask the server what these tags mean now; returns what changed.

        ``nodes`` and ``tags`` by number. Raises what ``link`` raises.
        """
        found: dict[int, list[Any]] = {tag: [None] * len(PROPERTIES) for tag in nodes}
        paths = [(tag, n) for tag in nodes for n in range(len(PROPERTIES))]
        there: list[tuple[int, int, ua.NodeId]] = []

        async def locate(some: Sequence[tuple[int, int]]) -> None:
            targets = await link.properties([(nodes[tag], PROPERTIES[n]) for tag, n in some])
            there.extend(
                (tag, n, node)
                for (tag, n), node in zip(some, targets, strict=True)
                if node is not None
            )

        async def fetch(some: Sequence[tuple[int, int, "ua.NodeId"]]) -> None:
            values = await link.read([node for _, _, node in some])
            for (tag, n, _), value in zip(some, values, strict=True):
                found[tag][n] = value

        await at_once(locate, portions(paths, facts.paths_per_call))
        await at_once(fetch, portions(there, facts.reads_per_call))
        changed: dict[tuple[str, bool], list[int]] = {}  # by words, and whether all is right again
        for tag, (unit, *ranges) in found.items():
            said = self._judge(tags[tag], unit_name(unit), _range_name(*ranges))
            if said:
                changed.setdefault((said, self._right(tags[tag], said)), []).append(tag)
        for (words, _), whose in changed.items():
            logger.warning(
                "Source %s: %s: %s.",
                self._source,
                shortened([tags[t].address for t in whose]),
                words,
            )
        return [
            Notice(
                source=self._source,
                kind=NoticeKind.UNIT_RESTORED if right else NoticeKind.UNIT_CHANGED,
                tags=tuple(sorted(whose)),
                reason=words,
            )
            for (words, right), whose in changed.items()
        ]

    def _judge(self, tag: TagRef, unit: str, spread: str) -> str:
        """Take note of what a tag means now; what changed, in words."""
        was, was_spread = self.known.get(tag.id, ("", None))
        was_bad = self.bad.pop(tag.id, "")
        self._converted.pop(tag.id, None)
        words = []
        if was_spread is not None and spread != was_spread:
            words.append(f"its range is {spread or 'none'}, and was {was_spread or 'none'}")
        unit = unit or was  # that it is not said now does not make it another
        right = unit
        if unit and tag.unit:
            right, told = self._fit(tag, unit, was or unit)
            if told and (not was_bad or was_bad != self.bad.get(tag.id)):
                words.append(told)
        if was_bad and tag.id not in self.bad:
            words.append(f"its unit is right again: {unit or 'none is said'}")
        self.known.pop(tag.id, None)
        if right or spread:
            self.known[tag.id] = (right, spread)
        self._table = None
        return "; ".join(words)

    def _right(self, tag: TagRef, said: str) -> bool:
        """Whether what changed makes a unit the configured one again."""
        unit = self.known.get(tag.id, ("", None))[0]
        same = bool(unit and tag.unit) and conversion(unit, tag.unit or "") == (1.0, 0.0)
        again = "its unit is right again" in said or (same and "its unit" in said)
        return again and tag.id not in self.bad

    def _fit(self, tag: TagRef, unit: str, was: str) -> tuple[str, str]:
        """How a unit goes with the configured one: the unit that is right, and what changed."""
        assert tag.unit is not None  # noqa: S101 (see above)
        factors = conversion(unit, tag.unit)
        said = f"its unit is {unit}" + (f", and was {was}" if unit != was else "")
        if factors is None and (unit != was or contradicts(unit, tag.unit)):
            right = was if unit != was else ""
            self.bad[tag.id] = f"{tag.address} ({unit} for {right or tag.unit})"
            return (
                right,
                f"{said}, which cannot be made {tag.unit}: its values are bad until it can",
            )
        if factors is None:
            self._say_once(tag, f"{said}, and {tag.unit} here: values are taken as they are")
        elif factors != (1.0, 0.0):
            self._converted[tag.id] = factors
            said += f": its values are converted to {tag.unit}"
            if unit == was:
                self._say_once(tag, said)
        return unit, said if unit != was else ""

    def _say_once(self, tag: TagRef, words: str) -> None:
        if (tag.id, words) not in self._said:
            self._said.add((tag.id, words))
            logger.warning("Source %s: %s: %s.", self._source, tag.address, words)

    def forget(self, tags: Iterable[int]) -> None:
        """These are no longer watched, or are other nodes now."""
        for tag in tags:
            self.known.pop(tag, None)
            self.bad.pop(tag, None)
            self._converted.pop(tag, None)
        self._table = None

    def meant(self, tag: I32, value: F64, status: U32) -> Meant:
        """Values [N] in the units of the configuration; bad where their unit tells nothing."""
        if self._converted:
            if self._table is None:
                whose = sorted(self._converted)
                self._table = np.array(whose), np.array([self._converted[one] for one in whose])
            tags, factors = self._table
            row = np.searchsorted(tags, tag).clip(max=len(tags) - 1)
            made = value * factors[row, 0] + factors[row, 1]
            value = np.where(tags[row] == tag, made, value)
        if self.bad:
            wrong = np.isin(tag, list(self.bad)) & usable(status)
            status = np.where(wrong, np.uint32(BAD_CONFIGURATION_ERROR), status)
        return value, status


async def at_once(
    call: Callable[[Part], Awaitable[None]], given: Iterable[Part], *, most: int = CALLS_AT_ONCE
) -> None:
    """Call for each, several on their way. The first that fails ends the others, and is raised."""
    left = iter(given)

    async def one_by_one() -> None:
        for one in left:
            await call(one)

    tasks = [asyncio.ensure_future(one_by_one()) for _ in range(most)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def portions(parts: Sequence[Part], size: int) -> Iterable[Sequence[Part]]:
    """Some at a time."""
    return (parts[start : start + size] for start in range(0, len(parts), size))


def shortened(names: Sequence[str]) -> str:
    """The first of many names, for people."""
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
