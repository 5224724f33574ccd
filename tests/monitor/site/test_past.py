"""What was, scored again: by a backfill of the sources, by a replay of the journal."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from support import plants
from support.plants import TICKS

from monitor.site import past
from monitor.site.problems import PlantError
from monitor.state.database import Database, DatabaseReader
from monitor.state.errors import LockedError
from monitor.state.journal import Journal
from monitor.state.names import Family, Names
from monitor.state.store import Store


@pytest.fixture
def made(tmp_path):
    return plants.plant(tmp_path / "plant", assets=1)


def test_a_backfill_replaces_the_one_before(made):
    first = plants.backfill(made)
    assert plants.backfill(made) == first


def test_a_backfill_leaves_the_live_store_alone(made):
    before = plants.run(made)
    plants.backfill(made, until=(plants.START + 10) * plants.SECOND)
    after = plants.outcome(made.data)
    assert (after.digest, after.events, after.summary) == (
        before.digest,
        before.events,
        before.summary,
    )


def test_a_database_that_is_being_filled_is_not_wiped(tmp_path):
    folder = tmp_path / "data"
    with past.replacing_database(folder):
        with pytest.raises(LockedError), past.replacing_database(folder):
            raise AssertionError("it was handed out")
        assert not folder.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_database_that_was_not_filled_leaves_the_one_before(tmp_path):
    with past.replacing_database(tmp_path / "data"):
        (tmp_path / "data.unfinished" / "mark").touch()
    with pytest.raises(KeyError), past.replacing_database(tmp_path / "data"):
        raise KeyError("in the middle")
    assert (tmp_path / "data" / "mark").exists()
    with past.replacing_database(tmp_path / "data"):
        pass
    assert not (tmp_path / "data" / "mark").exists()


def test_a_fresh_database_takes_the_place_of_the_one_before_at_once(tmp_path):
    with past.fresh_database(tmp_path / "data"):
        (tmp_path / "data" / "mark").touch()
        with pytest.raises(LockedError), past.fresh_database(tmp_path / "data"):
            raise AssertionError("it was handed out")
        assert (tmp_path / "data" / "mark").exists(), "not while it is in use"
    with past.fresh_database(tmp_path / "data"):
        assert not (tmp_path / "data" / "mark").exists()


def forget(made, before):
    with Database(made.data) as database, database.atomic() as tx:
        Journal(database).forget(tx, before)


def test_a_replay_of_a_journal_whose_beginning_is_gone_warns_from_where_it_is(made, caplog):
    before = plants.run(made)
    assert plants.replay(made).digest == before.digest
    assert caplog.text == ""
    forget(made, 4)
    assert plants.replay(made).digest != before.digest
    (said,) = [record.getMessage() for record in caplog.records]
    with DatabaseReader(made.data) as journal:
        received = Journal(journal).begins()
    moment = datetime.fromtimestamp(received // plants.SECOND, ZoneInfo("Europe/Berlin"))
    assert f"begins with record 4, received at {moment.isoformat(sep=' ')}" in said
    assert "alarms that stood are not known" in said


def test_a_replay_names_its_tags_as_the_journal_does(tmp_path):
    made = plants.plant(tmp_path / "plant", assets=2, split=plants.Split.ASSET)
    order = [*range(250), 200, *range(250, TICKS)]  # a row that comes too late
    plants.write(made.folder / "rig_m1.csv", plants.columns(["m1"]), order=order)
    path = made.folder / "rig_m1.csv"
    lines = path.read_text().splitlines()
    lines[251] = lines[251].replace("1700000200,", "1700000200.5,")
    path.write_text("\n".join(lines) + "\n")
    plants.run(made)
    made.settings["assets"] = dict(reversed(made.settings["assets"].items()))
    plants.replay(made.save())
    told = []
    for folder in (made.data, made.data / "backfill"):
        with DatabaseReader(folder) as database:
            names = Names(database).of(Family.TAG)
            late = [samples for _, samples in Store(database).late()]
            told.append([names[tag] for samples in late for tag in samples.tag.tolist()])
    assert told[0] == told[1] == ["m1/flow", "m1/heat", "m1/load"]


def test_a_journal_of_another_configuration_is_refused(made):
    plants.run(made)
    made.settings["kinds"]["pump"]["channels"]["speed"] = {"model": False}
    made.settings["assets"]["m0"]["tags"]["speed"] = "m0.speed"
    with pytest.raises(PlantError, match=r"no tag m0/speed in its journal"):
        plants.replay(made.save())
