"""Files that earlier versions wrote must be read by every later one.

``tests/data/state`` keeps one database of each schema (packed) and one snapshot of each version, as
``fill`` made them when that version was current, and whole plants that were watched by earlier
versions. A new schema or version adds its file; none is ever changed.
"""

import gzip
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from support import plants
from support.keeping import batch, event, message, points, same, scores

from connectors.batch import Notice, NoticeKind
from connectors.points import Message, Points
from monitor.core.records import (
    Action,
    Beat,
    Command,
    Epoch,
    Gap,
    PictureResult,
    Record,
    Results,
    Scores,
    Transition,
)
from monitor.state import migrations
from monitor.state.database import Database, DatabaseReader
from monitor.state.journal import Journal
from monitor.state.losses import Losses
from monitor.state.names import Family, Names
from monitor.state.outbox import Outbox
from monitor.state.rollups import Rollups, Width
from monitor.state.snapshot import Snapshots, save
from monitor.state.store import Store

KEPT = Path(__file__).parents[2] / "data" / "state"
RECORDS = [
    batch(1, size=3),
    Record(2, Notice(source="press", kind=NoticeKind.ALIVE, since=1, until=2, tags=(4, 5))),
    Record(3, Command(action=Action.ACKNOWLEDGE, target="a1", who="ann", why="seen")),
    Record(4, Epoch(config="c0", bundles={"pump": "b0"})),
    Record(5, Beat()),
    Record(
        6,
        PictureResult(camera=1, time=6, part=None, label="scratch", probability=0.9),
    ),
]
FIRST = Results(scores=(scores([1, 2]),))
SECOND = Results(
    scores=(scores([100, 101], asset=1),),
    alarms=(event(Transition.RAISED, 0), event(Transition.ACKNOWLEDGED, 3, who="ann")),
    gaps=(Gap(asset="p1", since=1, until=9),),
    late=(batch(9).body,),
)
DIGEST = "bb6777520f8f5a9d657bd53ef5c1659457d7ad73193846d38d4b7ebfe80657a1"
TREE = {"gru": {"h": scores([1]).blame}, "count": 3}


def fill(database):
    """One of everything that can be stored."""
    journal, store, outbox = Journal(database), Store(database), Outbox(database)
    with database.atomic() as tx:
        Names(database).asset_ids(tx, ["p1", "p2"])
        Names(database).tag_ids(tx, ["p1/flow"])
        outbox.register(tx, {"all": (Message, Points), "done": (Message,)})
        for record in RECORDS:
            journal.append(tx, record)
        store.write(tx, FIRST, done=1)
        Rollups(database).step(tx, before=1 << 62)
        store.write(tx, SECOND, done=6)
        store.write_status(tx, {"received": 3})
        outbox.put(tx, [message("m1"), points(1, 2)])
        outbox.dead_letter(tx, "all", 1, "refused")
        outbox.advance(tx, "done", 2)
    save(database, Snapshots(database), TREE, record=6, meta={"epoch": "c0"})


def check(database):
    """What fill() stored is there, value for value."""
    found = [record for _, record in Journal(database).read(0)]
    assert len(found) == len(RECORDS)
    assert all(map(same, found, RECORDS))
    assert Journal(database).positions() == {"press": "1"}
    assert Names(database).of(Family.ASSET) == {0: "p1", 1: "p2"}
    store = Store(database)
    assert store.done() == 6
    assert all(map(same, store.scores(), SECOND.scores))
    assert store.digest() == DIGEST
    assert store.alarm_events() == list(SECOND.alarms)
    assert [alarm.state for alarm in store.alarms()] == ["acknowledged"]
    assert store.gaps() == list(SECOND.gaps)
    assert [same(late, SECOND.late[0]) for _, late in store.late()] == [True]
    assert store.status() == {"received": 3}
    for width in Width:
        (rolled,) = Rollups(database).read(width, 0)
        assert rolled.states.tolist() == [[2, 0, 0, 0]]
    outbox = Outbox(database)
    ((number, item),) = outbox.pending("all", limit_items=9, limit_bytes=1 << 20)
    assert number == 2
    assert same(item, points(1, 2))
    assert same(outbox.dead_letters()[0].item, message("m1"))
    assert outbox.pending("done", limit_items=9, limit_bytes=1 << 20) == []


def test_what_this_version_writes_it_reads(database):
    fill(database)
    check(database)


@pytest.mark.parametrize("kept", sorted(KEPT.glob("schema-*.db.gz")), ids=lambda path: path.name)
def test_a_database_of_an_earlier_schema_is_read(kept, tmp_path):
    with gzip.open(kept) as packed, (tmp_path / "state.db").open("wb") as file:
        shutil.copyfileobj(packed, file)
    with Database(tmp_path) as database:
        check(database)


@pytest.mark.parametrize("kept", sorted(KEPT.glob("schema-*.db.gz")), ids=lambda path: path.name)
def test_what_an_earlier_schema_kept_can_be_let_go_of(kept, tmp_path):
    with gzip.open(kept) as packed, (tmp_path / "state.db").open("wb") as file:
        shutil.copyfileobj(packed, file)
    with Database(tmp_path) as database:
        store, outbox = Store(database), Outbox(database)
        with database.atomic() as tx:
            outbox.advance(tx, "all", 2)
            assert outbox.prune(tx, limit=9) == 2
            assert store.forget_late(tx, now=5, before=4, limit=9) == 0
            assert store.forget_late(tx, now=6, before=5, limit=9) == 1
            assert outbox.forget_dead_letters(tx, now=1, before=0, limit_bytes=0, limit=9) == 1
        assert Losses(database).counts() == {"late_samples": 1, "dead_letters": 1}
        assert database.query("SELECT SUM(bytes) FROM held") == [(0,)]


@pytest.mark.parametrize("kept", sorted(KEPT.glob("*.snapshot")), ids=lambda path: path.name)
def test_a_snapshot_of_an_earlier_version_is_read(kept, database):
    fill(database)
    (path,) = (database.folder / "snapshots").iterdir()
    shutil.copyfile(kept, path)
    found = Snapshots(database).latest()
    assert same(found.tree, TREE)
    assert found.meta == {"epoch": "c0"}


@pytest.mark.parametrize("kept", sorted(KEPT.glob("plant-*.tar.gz")), ids=lambda path: path.name)
def test_a_plant_that_an_earlier_version_watched_is_watched_on(kept, tmp_path):
    """It was stopped in the middle of an alarm, after 155 of 240 s: database, snapshots, model."""
    with tarfile.open(kept) as packed:
        packed.extractall(tmp_path, filter="data")
    made = plants.Plant(tmp_path / "plant", {})
    expected = plants.backfill(made)
    found = plants.run(made)
    assert found.summary["samples_received"] == 2 * 240 * 3
    assert found.summary["samples_conserved"]
    assert found.summary["frames"] == expected.summary["frames"] == 480
    assert found.summary["frames_scored"] == expected.summary["frames_scored"]
    assert [one[:2] for one in found.events] == [one[:2] for one in expected.events]
    with DatabaseReader(made.data) as live, DatabaseReader(made.data / "backfill") as anew:
        one, other = (Scores.join(list(Store(of).scores(asset=1))) for of in (live, anew))
    assert one.tick.tolist() == other.tick.tolist()
    assert one.state.tolist() == other.state.tolist()
    assert np.allclose(one.surprise, other.surprise, atol=0.01, equal_nan=True)


def test_every_schema_has_its_kept_file():
    assert len(list(KEPT.glob("schema-*.db.gz"))) == len(migrations.STEPS)
    assert (KEPT / "version-1.snapshot").exists()
