"""How fast are points written as line protocol, against the client's own Point?

The same blocks both ways: ``connectors.influxdb.lines`` makes whole columns at once; the peer makes
one ``influxdb_client.Point`` of each row and asks it for its line. Both texts are taken apart again
by one small parser, and must hold the same points.

    python benchmarks/line_protocol.py [--quick] [--json FILE]
"""

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from _machine import RESULTS, race, table, write
from influxdb_client import Point

from connectors.influxdb.lines import lines
from connectors.points import Points

START = 1_700_000_000_000_000_000  # ns since 1970 UTC
REPEATS = 10  # of the faster side, so that both work for a while
FIELDS = ("surprise", "raw", "coverage")
Side = Callable[[Sequence[Points]], bytes]
Parsed = set[tuple[str, tuple[tuple[str, float], ...], int]]


@dataclass(frozen=True, slots=True)
class Case:
    """So many blocks, each of so many rows."""

    blocks: int
    rows: int

    @property
    def name(self) -> str:
        """The case in words."""
        row = "row" if self.rows == 1 else "rows"
        return f"{self.blocks} blocks of {self.rows} {row}"


CASES = (Case(5000, 1), Case(500, 10), Case(100, 60), Case(5, 1000))
QUICK_CASES = (Case(20, 1), Case(3, 5))


def blocks_of(case: Case) -> list[Points]:
    """Scores of assets: float64 with all their digits."""
    random = np.random.default_rng(7)
    return [
        Points(
            measurement="asset_score",
            tags={"site": "works", "asset": f"pump_{number}", "model": "gru"},
            time=START + np.arange(case.rows) * 1_000_000_000,
            fields={name: random.normal(size=case.rows) for name in FIELDS},
        )
        for number in range(case.blocks)
    ]


def ours(blocks: Sequence[Points]) -> bytes:
    """All lines, as the sink sends them."""
    written, refused = lines(blocks)
    assert not refused
    return b"".join(written[index].data for index in range(len(blocks)))


def points(blocks: Sequence[Points]) -> bytes:
    """All lines, a Point a row."""
    made = []
    for block in blocks:
        columns = [(name, column.tolist()) for name, column in block.fields.items()]
        for row, time in enumerate(block.time.tolist()):
            point = Point(block.measurement).time(time)
            for key, value in block.tags.items():
                point.tag(key, value)
            for name, column in columns:
                point.field(name, column[row])
            made.append(point.to_line_protocol())
    return "\n".join(made).encode()


def parsed(text: bytes) -> Parsed:
    """Series, fields by name, and stamp of each line."""
    found = set()
    for line in text.decode().splitlines():
        series, fields, stamp = line.split(" ")
        pairs = (pair.split("=") for pair in fields.split(","))
        values = sorted((name, float(value)) for name, value in pairs)
        found.add((series, tuple(values), int(stamp)))
    return found


def measured(case: Case, rounds: int) -> dict[str, float]:
    """Microseconds a point of both sides."""
    blocks = blocks_of(case)
    said: dict[str, bytes] = {}

    def contestant(name: str, side: Side, times: int) -> Callable[[], Callable[[], object]]:
        def work() -> None:
            for _ in range(times):
                said[name] = side(blocks)

        return lambda: work

    mine, peer = race(
        {"ours": contestant("ours", ours, REPEATS), "Point": contestant("Point", points, 1)}, rounds
    )
    assert parsed(said["ours"]) == parsed(said["Point"])
    count = case.blocks * case.rows
    assert len(parsed(said["ours"])) == count
    us, mine_us = 1e6 / count, 1e6 / count / REPEATS
    return {
        "us": mine.best * mine_us,
        "us_worst": mine.worst * mine_us,
        "peer_us": peer.best * us,
        "peer_us_worst": peer.worst * us,
        "ratio": peer.best / mine.best * REPEATS,
    }


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small and once: is it still right?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures there")
    given = parser.parse_args()
    rounds = 1 if given.quick else 5
    found = {case.name: measured(case, rounds) for case in (QUICK_CASES if given.quick else CASES)}
    rows = [
        [
            name,
            f"{each['us']:.3g} to {each['us_worst']:.3g}",
            f"{each['peer_us']:.3g} to {each['peer_us_worst']:.3g}",
            f"{each['ratio']:.1f}",
        ]
        for name, each in found.items()
    ]
    print(table(("µs a point", "columns", "Point", "times faster"), rows))
    if given.json or not given.quick:
        path = given.json or RESULTS / "line_protocol.json"
        write(path, {"set": "line_protocol", "rounds": rounds, "points": found})


if __name__ == "__main__":
    main()
