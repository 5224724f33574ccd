"""A plant that lived: what a run of the service left in a real InfluxDB, and in its own store."""

import asyncio
import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import plants
from support.cameras import with_camera
from support.databases import TOKEN, Influx, Shim, new_database, shared_influx
from support.grafana import ALL, filled_in
from support.growing import progression
from support.pictures import noise, png
from support.plants import CHANNELS, SECOND, START, TICKS, HeldClock, Split, until
from support.servers import free_port, started
from support.watching import STRANGE, StandIn, painted, put

from monitor.core.records import AlarmEvent, Scores
from monitor.live import service
from monitor.live.points import HEALTH_NS
from monitor.live.standing import ServiceStanding
from monitor.site import cameras as rooms
from monitor.state.names import Family, Names
from monitor.state.picture_results import PictureResults

SINCE, UNTIL = START - 60, START + TICKS + 60  # s; the whole run
SOON = 30  # rows of the source that comes later
PICTURES = 3  # good, scratched, and one that cannot be inspected
RECEIVED = (SOON + 1) * len(CHANNELS)  # samples of it
# Of a source that has the name of an asset.
OF_SOURCE = (
    "alarm_event,site=works,asset=m1,class=pipeline,point=lost,transition=raised "
    'value=0,threshold=0,valid=0,shelved=0,alarm_id="s1",reason="not heard",who="",fault="" '
    f"{(START + 100) * SECOND}"
)
Fields = dict[str, Any]
Tags = dict[str, str]
Row = tuple[tuple[tuple[str, str], ...], int, tuple[tuple[str, Any], ...]]  # tags, ns, columns
EVERYTHING: Mapping[str, str | list[str]] = {
    "site": "works",
    **dict.fromkeys(("area", "asset", "channel", "camera", "source", "sink"), ALL),
}


@dataclass(frozen=True, slots=True)
class Lived:
    """A run, as it lies in the database and in the store."""

    influx: Influx
    database: str
    contents: dict[tuple[Any, ...], Fields]
    latest: dict[str, Scores]  # by asset
    scores: dict[tuple[str, int], tuple[Scores, int]]  # by asset and tick: block and row
    events: list[AlarmEvent]
    standing: ServiceStanding

    def ask(self, query: str, *, interval: str = "1s", **chosen: str | list[str]) -> list[Row]:
        """What a query gives, as Grafana sends it; rows without any value are left out."""
        text = filled_in(
            query, dict(EVERYTHING) | chosen, since_s=SINCE, until_s=UNTIL, interval=interval
        )
        return sorted(
            (
                row(
                    one.get("tags", {}),
                    values[0],
                    dict(zip(one["columns"][1:], values[1:], strict=True)),
                )
                for one in self.influx.query(text, self.database)
                for values in one["values"]
                if any(value is not None for value in values[1:])
            ),
            key=repr,
        )

    def values(self, query: str, **chosen: str | list[str]) -> list[str]:
        """The values that a variable may have."""
        text = filled_in(
            query, dict(EVERYTHING) | chosen, since_s=SINCE, until_s=UNTIL, interval="1s"
        )
        return sorted(v for one in self.influx.query(text, self.database) for _, v in one["values"])

    def points(self, measurement: str, **tags: str | None) -> Iterator[tuple[Tags, int, Fields]]:
        """The points of a measurement, the oldest first; a tag that is "" must not be there."""
        for (name, own, time), fields in sorted(self.contents.items(), key=lambda one: one[0][2]):
            known = dict(own)
            if name == measurement and all(known.get(k, "") == v for k, v in tags.items()):
                yield known, time, fields


def row(tags: Tags, time: int, found: Fields) -> Row:
    """A row of an answer, in a form that can be compared: numbers are floats of nine digits."""
    columns = {
        name: float(f"{value:.9g}") if isinstance(value, int | float) else value or ""
        for name, value in found.items()
    }
    own = {name: value for name, value in tags.items() if value}
    return tuple(sorted(own.items())), time, tuple(sorted(columns.items()))


class CreepingClock(HeldClock):
    """A clock that moves a little each time that somebody looks, so that nothing takes no time."""

    def now(self) -> int:
        self.second += 0.0001
        return super().now()


def spoil(path: Path, asset: str) -> None:
    """One cell is no number, one sensor is silent for a while, one row late, one there twice.

    In the end the flow of m0 is so high that an alarm stands.
    """
    head, *body = csv.reader(path.read_text(encoding="utf-8").splitlines())
    flow, load = head.index(f"{asset}.flow"), head.index(f"{asset}.load")
    body[20][load] = "broken"
    for cells in body[150:190]:
        cells[load] = ""
    if asset == "m0":
        for cells in body[-20:]:
            cells[flow] = "99"
    body += [body.pop(40), body[60]]
    path.write_text("\n".join(map(",".join, [head, *body])) + "\n", encoding="utf-8")


def live(folder: Path) -> Lived:
    """Two machines watched from end to end, the second has faults; another one comes later."""
    influx = shared_influx()
    made = plants.plant(folder / "plant", assets=2, split=Split.ASSET, batch_rows=20)
    for asset in made.assets:
        spoil(made.folder / f"rig_{asset}.csv", asset)
    made.settings["kinds"]["pump"]["channels"]["load"]["stale_s"] = 3.0
    made.settings["kinds"]["pump"]["fusion"] = {}
    made.settings["assets"]["m0"]["area"] = "hall.2"
    made.settings["state"] = {"channel_score_s": 5}
    for asset, source in (("m8", "soon"), ("m9", "other")):
        made.settings["sources"][source] = {
            "type": "files",
            "path": f"{source}.csv",
            "layout": "wide",
            "time_format": "epoch_s",
            "batch_rows": 10,
        }
        made.settings["assets"][asset] = {"kind": "pump", "source": source}
    with_camera(made, progression="growth", mm_per_pixel=0.5, alarm={"warn_area_mm2": 1000})
    progression(longer=1.0, inspection=StandIn.hash).save(made.folder / "growth")
    cameras = made.settings["cameras"]
    cameras["side"], cameras["top"]["asset"] = dict(cameras["top"]), "m8"  # side shows nothing
    (made.folder / "pictures" / "side").mkdir()
    shown = (painted(1), painted(2, STRANGE), png(noise(3, 8, 8, 3)))
    for number, picture in enumerate(shown):
        put(made.folder / "pictures" / "top", TICKS - PICTURES + number, picture)
    database, strict = new_database(influx), new_database(influx)
    # The database `strict` knows a field by another type, and refuses ours.
    influx.write(strict, f'asset_score,site=works surprise="high" {START * SECOND}')
    (folder / "token").write_text(TOKEN)
    with pytest.MonkeyPatch.context() as patch, started(Shim(folder / "shim", influx)) as shim:
        patch.setattr(rooms, "Inspection", StandIn)
        patch.setattr(service, "HEALTH_S", 0.05)
        patch.setattr(service, "FAREWELL_S", 2.0)  # one of the sinks is away
        made.settings["sinks"] |= {
            name: {
                "type": "influxdb",
                "url": url,
                "bucket": bucket,
                "token_file": str(folder / "token"),
            }
            for name, url, bucket in (
                ("history", shim.url, database),
                ("strict", shim.url, strict),
                ("away", f"http://127.0.0.1:{free_port()}", database),
            )
        }
        return asyncio.run(watched(made.save(), influx, database))


async def watched(made: plants.Plant, influx: Influx, database: str) -> Lived:
    """Run until all is in the database, with a person who acknowledges and shelves meanwhile."""
    clock = CreepingClock(TICKS)
    asked = partial(influx.query, database=database)

    async def told(where: str) -> None:
        """Wait until the health of this moment says so."""
        stamp = f"time = {clock.now() // HEALTH_NS * HEALTH_NS}"
        query = f"SELECT * FROM pipeline_health WHERE {where} AND {stamp}"  # noqa: S608 - ours
        await until(lambda: asked(query))

    async with plants.serving(made, clock=clock) as running:
        await until(lambda: running.status["frames"] == 2 * TICKS)
        await until(lambda: running.service.stepper.shown)
        await told("source = 'soon' AND received = 0")
        await until(lambda: len(PictureResults(running.database).read()) == PICTURES)
        alarms = running.store.alarms(asset="m1")
        for action, more in (
            ("acknowledge", {}),
            ("shelve", {"until": clock.now() + 3600 * SECOND}),
        ):
            command = {"action": action, "target": alarms[0].id, "who": "ann", "why": "seen"}
            await running.service._commands.do(command | more)
        clock.second += 10
        shown = plants.values(3, SOON)
        shown[12, 0] = np.nan
        columns = {name: shown[:, place] for place, name in enumerate(CHANNELS)}
        order = [*range(4), *range(5, SOON), 4, 20]  # one is late, one is there twice
        draft = made.folder / "draft"
        plants.write(draft, columns, since=TICKS, order=order)
        draft.write_text(draft.read_text().replace("nan", "broken"))
        draft.rename(made.folder / "soon.csv")
        await told(f"source = 'soon' AND received = {RECEIVED}")
        clock.second += 10
        await told(f"source = 'soon' AND received = {RECEIVED}")
        last = f"time = {START + TICKS + SOON - 1}s"  # and all that came before it is there, too
        query = f"SELECT * FROM asset_score WHERE asset = 'm8' AND {last}"  # noqa: S608 - as above
        await until(lambda: asked(query))
        await told("sink = 'strict' AND dead_letters > 0")
        influx.write(database, OF_SOURCE)
        standing = await running.service.standing()
        names = Names(running.database).of(Family.ASSET)
        found = {
            "latest": {names[number]: one for number, one in running.store.latest().items()},
            "scores": {
                (names[int(block.asset[place])], int(block.tick[place])): (block, place)
                for block in running.store.scores()
                for place in range(len(block))
            },
            "events": running.store.alarm_events(),
        }
    return Lived(
        influx=influx,
        database=database,
        contents=influx.contents(database),
        standing=standing,
        **found,
    )
