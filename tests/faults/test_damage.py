"""What is stored is damaged, and the service goes on: what is lost is counted and stated."""

import asyncio
import contextlib
import itertools
import shutil
import sqlite3
from contextlib import closing

import pytest
from support import plants
from support.keeping import scores
from support.plants import CHANNELS, TICKS, until

from connectors.batch import NoticeKind
from monitor.core.pipeline import Pipeline
from monitor.core.records import Results
from monitor.live.clock import SystemClock
from monitor.live.stepper import Stepper
from monitor.site import plant as rooms
from monitor.site.status import summary
from monitor.state import salvage as salvage_room
from monitor.state import torn
from monitor.state.database import Database, DatabaseReader
from monitor.state.errors import FailingDiskError
from monitor.state.journal import Journal
from monitor.state.names import Family, Names
from monitor.state.outbox import Outbox
from monitor.state.salvage import salvage, surviving
from monitor.state.snapshot import Snapshots
from monitor.state.store import Store

BATCH = 10  # rows of a record: 30 records of samples
PAGE = 4096


def copied(made, folder):
    """The same plant in a folder of its own."""
    shutil.copytree(made.folder, folder / "plant")
    return plants.Plant(folder / "plant", made.settings)


@pytest.fixture(scope="module")
def journaled_once(tmp_path_factory):
    made = plants.plant(tmp_path_factory.mktemp("journaled") / "plant", batch_rows=BATCH)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stepper, "_step_group", lambda _: False)
        plants.run(made)
    return made


@pytest.fixture
def journaled(journaled_once, tmp_path):
    """A plant whose whole recording is in the journal, and nothing of it is stepped yet."""
    return copied(journaled_once, tmp_path)


def sql(made, *statements):
    """Change the database behind everybody's back."""
    with closing(sqlite3.connect(made.data / "state.db")) as connection, connection:
        return [connection.execute(one).fetchall() for one in statements]


@pytest.fixture
def gaps(monkeypatch):
    """The gaps that the step was told of: source, since, until and reason."""
    told, step = [], Pipeline.step

    def stepped(pipeline, record):
        if getattr(record.body, "kind", None) is NoticeKind.GAP:
            told.append(record.body)
        return step(pipeline, record)

    monkeypatch.setattr(Pipeline, "step", stepped)
    return told


def samples_records(made):
    """The numbers of the records that hold samples."""
    ((rows),) = sql(made, "SELECT number FROM journal WHERE kind = 'samples' ORDER BY number")
    return [number for (number,) in rows]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE journal SET body = substr(body, 1, 90) || x'ff' || substr(body, 92)",
        "UPDATE journal SET source = 'another'",
        "DELETE FROM journal",
    ],
)
def test_records_that_do_not_read_back_are_a_gap_and_all_others_are_stepped(
    damage, journaled, gaps, caplog
):
    numbers = samples_records(journaled)
    lost = numbers[4:6]
    sql(journaled, f"{damage} WHERE number IN ({lost[0]}, {lost[1]})")
    found = plants.run(journaled)
    assert found.summary["samples_received"] == (TICKS - 2 * BATCH) * len(CHANNELS)
    assert found.summary["samples_conserved"]
    assert found.summary["damaged"]["journal_records"] == 2
    assert [gap.source for gap in gaps] == ["rig"]
    assert f"records {lost[0]} to {lost[1]} of the journal are lost" in gaps[0].reason
    assert gaps[0].since < gaps[0].until
    assert f"Records {lost[0]} to {lost[1]} of the journal are lost" in caplog.text
    with DatabaseReader(journaled.data) as database:
        assert Store(database).done() == Journal(database).last()
    again = plants.run(journaled)
    assert again.summary["damaged"]["journal_records"] == 2, "once"
    assert again.digest == found.digest


def test_damage_at_the_end_of_the_journal_is_told_with_the_next_record(journaled, gaps):
    *_, last = samples_records(journaled)
    ((end,),) = sql(journaled, "SELECT MAX(number) FROM journal")[0]
    sql(journaled, f"UPDATE journal SET body = x'00' WHERE number >= {last}")  # noqa: S608 - ours
    found = plants.run(journaled)
    assert found.summary["samples_received"] == (TICKS - BATCH) * len(CHANNELS)
    assert found.summary["damaged"]["journal_records"] == end - last + 1
    assert len(gaps) == 1


def test_a_record_at_which_the_step_fails_stops_it_once_and_is_a_gap_from_then_on(
    journaled, gaps, monkeypatch
):
    poison = samples_records(journaled)[4]
    with DatabaseReader(journaled.data) as database:
        position = dict(Journal(database).read(0))[poison].body.position
    step = Pipeline.step

    def stepped(pipeline, record):
        if getattr(record.body, "position", None) == position:
            raise ZeroDivisionError
        return step(pipeline, record)

    monkeypatch.setattr(Pipeline, "step", stepped)
    with pytest.raises(ZeroDivisionError):
        plants.run(journaled)
    found = plants.run(journaled)
    assert [gap.source for gap in gaps] == ["rig"]
    assert "the step failed at it" in gaps[0].reason
    assert found.summary["samples_received"] == (TICKS - BATCH) * len(CHANNELS)
    assert found.summary["damaged"]["journal_records"] == 1
    assert plants.run(journaled).summary["damaged"]["journal_records"] == 1


def test_without_a_snapshot_that_reads_the_journal_is_stepped_as_far_as_it_goes(tmp_path, caplog):
    calm = plants.plant(tmp_path / "calm", assets=1, batch_rows=BATCH)
    expected = plants.run(calm)
    made = plants.plant(tmp_path / "plant", assets=1, batch_rows=BATCH)
    whole = (made.folder / "rig.csv").read_text()
    (made.folder / "rig.csv").write_text("\n".join(whole.splitlines()[:150]) + "\n")
    plants.run(made, snapshot_s=0.01)
    for path in (made.data / "snapshots").iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    (made.folder / "rig.csv").write_text(whole)
    found = plants.run(made)
    assert "none of" in caplog.text
    assert found.summary["samples_received"] == expected.summary["samples_received"]
    assert found.events == expected.events
    assert found.digest == expected.digest
    assert made.messages() == calm.messages()


def test_a_damaged_score_block_stops_neither_the_status_nor_the_next_run(tmp_path):
    made = plants.plant(tmp_path / "plant", assets=1, batch_rows=BATCH)
    plants.run(made)
    sql(made, "UPDATE score_block SET body = x'00' WHERE id = (SELECT MAX(id) FROM score_block)")
    with DatabaseReader(made.data) as database:
        assert summary(database)["assets"]["m0"]["state"] == "ok"
    with Database(made.data) as database:
        asyncio.run(rooms.service(made.config(), database, clock=SystemClock()).run())


def test_a_status_that_does_not_read_back_is_made_anew(tmp_path):
    made = plants.plant(tmp_path / "plant", assets=1, batch_rows=BATCH)
    expected = plants.run(made)
    sql(made, "UPDATE status SET body = '{'")
    assert plants.run(made).summary["samples_received"] == expected.summary["samples_received"]


# The database itself


def damage(path, table, *, share=0.5):
    """Overwrite a page of a table's rows; which one, as a share of all of them."""
    with closing(sqlite3.connect(path)) as connection:
        pages = [
            page
            for (page,) in connection.execute(
                "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path",
                (table,),
            )
        ]
    page = pages[int(share * (len(pages) - 1))]
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(b"\xa5" * PAGE)
    return page


def survive(made, **given):
    """Run the service as `watchkeeper run` does."""

    def watch(database):
        made_of = rooms.service(made.config(**given), database, clock=SystemClock())
        return asyncio.run(made_of.run())

    return surviving(made.data, watch, now=SystemClock().now)


def test_a_damaged_page_of_the_journal_costs_what_stood_in_it_and_nothing_else(
    journaled, gaps, caplog
):
    path = journaled.data / "state.db"
    damage(path, "journal")
    survive(journaled)
    found = plants.outcome(journaled.data).summary
    lost = found["damaged"]["journal_records"]
    assert 0 < lost < 15
    assert found["samples_received"] == (TICKS - lost * BATCH) * len(CHANNELS)
    assert found["samples_conserved"]
    assert [gap.source for gap in gaps] == ["rig"]
    (aside,) = journaled.data.glob("damaged-*")
    assert b"\xa5" * PAGE in (aside / "state.db").read_bytes(), "what was damaged is kept"
    assert "of the journal are lost" in caplog.text
    assert "was damaged. It is kept in" in caplog.text


@pytest.fixture(scope="module")
def halfway_once(tmp_path_factory):
    made = plants.plant(tmp_path_factory.mktemp("half") / "plant", assets=2, batch_rows=BATCH)
    whole = (made.folder / "rig.csv").read_text()
    (made.folder / "rig.csv").write_text("\n".join(whole.splitlines()[:180]) + "\n")
    made.inbox.rename(made.folder / "away")
    made.inbox.write_text("no folder: nothing is delivered")
    made.save()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("monitor.live.service.FAREWELL_S", 0.1)
        plants.run(made, snapshot_s=0.01)
    made.inbox.unlink()
    (made.folder / "away").rename(made.inbox)
    (made.folder / "rig.csv").write_text(whole)
    return made


@pytest.fixture
def halfway(halfway_once, tmp_path):
    """A plant that was watched half its time, with two snapshots, and messages that wait."""
    return copied(halfway_once, tmp_path)


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """What becomes of it where nothing is damaged."""
    made = plants.plant(tmp_path_factory.mktemp("calm") / "plant", assets=2, batch_rows=BATCH)
    return plants.run(made), made.messages()


@pytest.mark.parametrize("table", ["journal", "score_block", "outbox", "alarm", "snapshot"])
def test_whatever_page_is_damaged_the_plant_is_watched_on(table, halfway, calm):
    expected, messages = calm
    damage(halfway.data / "state.db", table, share=1.0)
    assert survive(halfway).refused == {}
    found = plants.outcome(halfway.data)
    last = {name: one["tick_ns"] for name, one in found.summary["assets"].items()}
    assert last == {name: one["tick_ns"] for name, one in expected.summary["assets"].items()}
    assert found.summary["samples_conserved"]
    if table != "alarm":
        assert found.events == expected.events
    if table != "outbox":
        assert set(halfway.messages()) >= set(messages), "each person was told"


def test_where_names_do_not_read_nothing_is_taken_for_anothers(halfway, caplog):
    damage(halfway.data / "state.db", "name")
    survive(halfway)
    with DatabaseReader(halfway.data) as database:
        assert Names(database).of(Family.ASSET) == {0: "m0", 1: "m1"}
        ticks = [block.tick.min() for block in Store(database).scores()]
        assert min(ticks) > (plants.START + 170) * plants.SECOND
        assert [one for one in Store(database).alarms() if one.raised < min(ticks)]
    assert "names do not read" in caplog.text
    assert halfway.messages()


def test_a_file_that_is_no_database_is_kept_and_a_new_one_begun(tmp_path):
    made = plants.plant(tmp_path / "plant", assets=1, batch_rows=BATCH)
    made.data.mkdir()
    (made.data / "state.db").write_text("this is no database at all" * 100)
    survive(made)
    assert plants.outcome(made.data).summary["frames"] == TICKS
    (aside,) = made.data.glob("damaged-*")
    assert (aside / "state.db").read_text().startswith("this is no database")


@pytest.mark.parametrize("stop_at", range(6))
def test_a_salvage_that_is_interrupted_is_ended_by_the_next_start(stop_at, halfway, monkeypatch):
    path = halfway.data / "state.db"
    damage(path, "score_block", share=1.0)
    moved = []

    class PowerCutError(Exception):
        pass

    def cut(what):
        def call(self, *given):
            if "snapshots" not in str(self):
                moved.append(self)
                if len(moved) > stop_at:
                    raise PowerCutError
            return what(self, *given)

        return call

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", cut(type(path).replace))
        patch.setattr("monitor.state.salvage._write", cut(salvage_room._write))
        with contextlib.suppress(PowerCutError):
            salvage(halfway.data, now=plants.START * plants.SECOND)

    def work(database):
        with database.atomic() as tx:  # onto the last page of them
            Store(database).write(tx, Results(scores=(scores([1]),)), done=1000)

    surviving(halfway.data, work, now=SystemClock().now)
    (aside, *more) = halfway.data.glob("damaged-*")
    assert more == []
    assert b"\xa5" * PAGE in (aside / "state.db").read_bytes()
    assert not (halfway.data / "salvage").exists()
    with DatabaseReader(halfway.data) as database:
        assert Store(database).done() == 1000
        assert Snapshots(database).latest() is not None
        assert Outbox(database).backlog("inbox").items


def test_a_disk_that_does_not_read_just_now_is_not_taken_for_damage(halfway, monkeypatch):
    before = (halfway.data / "state.db").read_bytes()
    in_order = salvage_room._in_order

    def fails(rows, keys, *, descending):
        yield from itertools.islice(in_order(rows, keys, descending=descending), 3)
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_IOERR_READ, "IOERR_READ"
        raise error

    monkeypatch.setattr(salvage_room, "_in_order", fails)
    with pytest.raises(FailingDiskError, match="disk I/O error"):
        salvage(halfway.data, now=plants.START * plants.SECOND)
    assert (halfway.data / "state.db").read_bytes() == before
    assert list(halfway.data.glob("damaged-*")) == []


def test_nothing_that_was_moved_aside_is_ever_replaced(halfway):
    for _ in range(3):
        salvage(halfway.data, now=plants.START * plants.SECOND)
    kept = list(halfway.data.glob("damaged-*/state.db"))
    assert len(kept) == 3
    with DatabaseReader(halfway.data) as database:
        assert Outbox(database).backlog("inbox").items
        assert Names(database).of(Family.ASSET) == {0: "m0", 1: "m1"}


# The write-ahead log


@pytest.fixture
async def killed(tmp_path):
    """The data of a service that was killed in the middle: its log is full of commits."""
    made = plants.plant(tmp_path / "plant", assets=1, batch_rows=BATCH, speed=1000.0)
    async with plants.serving(made) as running:
        await until(lambda: running.service.stepper.done > TICKS / BATCH / 2)
        shutil.copytree(made.data, tmp_path / "copy", ignore=shutil.ignore_patterns("*.sock"))
        await running.stop()
    shutil.rmtree(made.data)
    (tmp_path / "copy").rename(made.data)
    return made


async def test_commits_that_a_damaged_log_loses_are_counted_and_a_gap(killed, gaps, caplog):
    log = killed.data / "state.db-wal"
    frames = torn.commits(killed.data / "state.db")
    assert len(frames) > 10
    with log.open("r+b") as file:
        at = 3 * len(frames) // 4  # the first commits make the tables: those lose no samples
        file.seek(32 + frames[at] * (24 + PAGE) + 1000)
        file.write(b"\xa5")
    await asyncio.to_thread(survive, killed)
    found = plants.outcome(killed.data).summary
    assert found["damaged"]["commits"] == len(frames) - at - 2
    assert [gap.source for gap in gaps] == ["rig"]
    assert "is damaged: at least" in gaps[0].reason
    assert found["samples_received"] == TICKS * len(CHANNELS), "a recording is read on from there"
    assert "commits are lost" in caplog.text


@pytest.mark.parametrize("size", [4, 32, 512])
async def test_a_log_that_is_damaged_where_it_begins_tells_how_many_commits_it_had(size, killed):
    frames = torn.commits(killed.data / "state.db")
    with (killed.data / "state.db-wal").open("r+b") as file:
        file.write(bytes(size))
    found = torn.commits(killed.data / "state.db")
    assert len(found) > 10
    assert found == [frame for frame in frames if frame > (size > 32)]
    await asyncio.to_thread(survive, killed)
    assert plants.outcome(killed.data).summary["damaged"]["commits"] > 0


async def test_a_log_that_is_whole_or_ends_within_a_commit_tells_of_no_damage(killed, gaps):
    log = killed.data / "state.db-wal"
    frames = torn.commits(killed.data / "state.db")
    with log.open("r+b") as file:
        file.truncate(32 + frames[-1] * (24 + PAGE) - PAGE)
    await asyncio.to_thread(survive, killed)
    assert plants.outcome(killed.data).summary["damaged"]["commits"] == 0
    assert gaps == []


async def test_a_salvage_takes_over_what_stands_in_the_log_alone(killed):
    shutil.copytree(killed.data, killed.folder / "same")
    with Database(killed.folder / "same") as database:
        expected = [number for number, _ in Journal(database).read(0)]
        done = Store(database).done()
    salvage(killed.data, now=plants.START * plants.SECOND)
    with DatabaseReader(killed.data) as database:
        assert [number for number, _ in Journal(database).read(0)] == expected
        assert Store(database).done() == done
    (aside,) = killed.data.glob("damaged-*")
    assert (aside / "state.db-wal").exists()
