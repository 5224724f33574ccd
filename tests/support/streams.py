"""Streams of samples as plants send them, and every way they may be delivered.

What a plant sends is made once, from a seed. A delivery cuts it into batches, mixes the sources and
lets samples overtake each other by less than the lateness.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from support.building import NOW, START

from connectors.batch import BAD, GOOD, Notice, NoticeKind, Samples
from monitor.core.plan import MILLISECOND, SECOND, Plan
from monitor.core.records import Beat, Record

NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Item:
    """One sample, or (without a tag) one statement of being alive in (since, time]."""

    source: str
    time: int  # ns
    tag: int = -1
    value: float = NAN
    status: int = GOOD
    since: int = 0
    copy: int = 0  # 1: the same tag and time again, later and with another value


def sent(plan: Plan, *, seed: int, ticks: int) -> list[Item]:
    """What a plant sends: reports on change, bad samples, repeats, stops, silences, vouching."""
    random = np.random.default_rng(seed)
    quiet = {source: _quiet(random, ticks) for source in sources_of(plan)}
    items = [
        Item(source, until, since=since)
        for source, spans in quiet.items()
        for since, until in spans
    ]
    for asset in plan.assets:
        kind = plan.kinds[asset.kind]
        silent: set[int] = set()
        for begin in random.integers(0, ticks, random.integers(0, 3)).tolist():
            lengths = [kind.gap_ticks - 1, kind.gap_ticks, int(random.integers(1, 25))]
            silent |= set(range(begin, begin + int(random.choice(lengths))))
        late = int(random.integers(0, 5))
        heard = [late + t for t in range(ticks) if t not in silent]
        often = random.uniform(0.2, 1.0)
        for name, (tag, source) in asset.tags.items():
            of_tag = {
                START + (t * kind.tick_ms + part) * MILLISECOND
                for t in heard
                for part in _parts(random, kind.tick_ms, often)
            }
            for time in sorted(of_tag):
                if not any(since < time <= until for since, until in quiet[source]):
                    items += _sampled(random, name, Item(source, time, tag))
    return items


def _parts(random: np.random.Generator, tick_ms: int, often: float) -> list[int]:
    """When a tag is sampled within a tick, in ms: half of it on the tick, as controllers stamp."""
    count = int(random.choice([1, 1, 1, 2, 4])) if random.random() < often else 0
    return [int(random.choice([0, random.integers(0, tick_ms)])) for _ in range(count)]


def _sampled(random: np.random.Generator, name: str, item: Item) -> list[Item]:
    """A sample with a value, now and then bad, now and then a second one with the same stamp."""
    if name == "speed":
        value = 1000.0 * (random.random() > 0.1)
    else:
        value = 50 + 3 * random.normal() + 20 * (random.random() < 0.05)
    status = BAD if random.random() < 0.05 else GOOD
    again = [replace(item, value=value + 7, copy=1)] if random.random() < 0.05 else []
    return [replace(item, value=value, status=status), *again]


def _quiet(random: np.random.Generator, ticks: int) -> list[tuple[int, int]]:
    """Spans in which a source sends nothing, and says so afterwards; some follow on each other."""
    spans, at = [], START + int(random.integers(0, ticks) * SECOND)
    for _ in range(random.integers(0, 4)):
        until = at + int(random.choice([300, 1000, 1700, 4000, 15_000])) * MILLISECOND
        spans.append((at, until))
        at = until + int(random.choice([0, 700, 9000])) * MILLISECOND
    return spans


def sources_of(plan: Plan) -> list[str]:
    """The names of all sources."""
    return sorted({source for asset in plan.assets for _, source in asset.tags.values()})


def deliveries(
    plan: Plan, items: Sequence[Item], *, seed: int, largest: int, received: int = NOW
) -> list[Record]:
    """One way to deliver everything, with none late: records in the order of the journal.

    Each source may swap what lies less than the lateness (above 0) apart; sources run ahead of each
    other as they like. ``largest`` bounds the samples of one batch.
    """
    random = np.random.default_rng(seed)
    lateness = min(kind.lateness_ms for kind in plan.kinds.values()) * MILLISECOND
    queues = {}
    for source in sources_of(plan):
        mine = [item for item in items if item.source == source]
        delays = random.random(len(mine)) * 0.99 * lateness
        keys = [
            (_arrival(item, delay, lateness), item.copy, number)
            for number, (item, delay) in enumerate(zip(mine, delays.tolist(), strict=True))
        ]
        order = [mine[number] for _, _, number in sorted(keys)]
        queues[source] = list(_batches(source, order, random, largest))
    records = []
    while queues:
        source = sorted(queues)[random.integers(len(queues))]
        records.append(Record(received, queues[source].pop(0)))
        if not queues[source]:
            del queues[source]
        if random.random() < 0.1:
            records.append(Record(received, Beat()))
    return records


def _arrival(item: Item, delay: float, lateness: float) -> float:
    """When an item comes, in ns of its source's time."""
    if item.tag < 0:  # after what came before it, and before a frame it vouches for can close
        return max(item.time, item.since + delay)
    return item.time + (lateness * 0.999 if item.copy else delay)  # the first of two stays it


def _batches(
    source: str, order: Sequence[Item], random: np.random.Generator, largest: int
) -> Iterator[Samples | Notice]:
    """Consecutive samples in batches of random size, notices between them, and the end."""
    waiting: list[Item] = []
    size = int(random.integers(1, largest + 1))
    for item in order:
        if item.tag >= 0:
            waiting.append(item)
        if waiting and (item.tag < 0 or len(waiting) >= size):
            yield columns(waiting)
            waiting, size = [], int(random.integers(1, largest + 1))
        if item.tag < 0:
            yield Notice(source=source, kind=NoticeKind.ALIVE, since=item.since, until=item.time)
    if waiting:
        yield columns(waiting)
    yield Notice(source=source, kind=NoticeKind.ENDED)


def columns(items: Sequence[Item]) -> Samples:
    """Samples of one source as a batch."""
    return Samples(
        source=items[0].source,
        tag=np.array([item.tag for item in items], np.int32),
        time=np.array([item.time for item in items], np.int64),
        value=np.array([item.value for item in items], np.float64),
        status=np.array([item.status for item in items], np.uint32),
        flags=np.zeros(len(items), np.uint8),
    )
