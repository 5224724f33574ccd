import logging

import numpy as np
import pytest
from support.keeping import same

from monitor.core.records import Results
from monitor.state.database import Database
from monitor.state.errors import CorruptError, SchemaError, StateError, StorageFullError
from monitor.state.snapshot import Snapshots, save
from monitor.state.store import Store

TREE = {
    "gru": {"h": np.arange(6, dtype=np.float32).reshape(2, 3), "none": {}},
    "open": {"tick": np.array([7]), "name": ["a", None], "nan": 0.5, "deep": {"x": np.array(3.0)}},
    "count": 3,
}


def reach(database, record):
    with database.atomic() as tx:
        Store(database).write(tx, Results(), done=record)


def files(database):
    return sorted(path.name for path in (database.folder / "snapshots").iterdir())


@pytest.fixture
def three(database):
    """Snapshots after records 10, 20 and 30."""
    snapshots = Snapshots(database)
    reach(database, 30)
    for record in (10, 20, 30):
        save(database, snapshots, TREE | {"count": record}, record=record, meta={"at": record})
    return snapshots


def path_of(snapshots, record):
    return snapshots._folder / f"{record:020d}.snapshot"


def test_a_tree_reads_back_equal_after_a_restart(tmp_path):
    with Database(tmp_path) as database:
        reach(database, 5)
        save(database, Snapshots(database), TREE, record=5, meta=["bundle"])
    with Database(tmp_path) as database:
        found = Snapshots(database).latest()
    assert (found.record, found.meta) == (5, ["bundle"])
    assert same(found.tree, TREE)
    found.tree["gru"]["h"][0, 0] = 9  # the step goes on with it in place


def test_before_the_first_there_is_none(database):
    assert Snapshots(database).latest() is None
    assert Snapshots(database).oldest() == 0


def test_two_are_kept_and_older_files_go(three, database):
    assert [int(name.split(".")[0]) for name in files(database)] == [20, 30]
    assert three.latest().record == 30
    assert three.oldest() == 20


def test_with_one_snapshot_the_whole_journal_is_still_needed(database):
    reach(database, 5)
    save(database, Snapshots(database), TREE, record=5)
    assert Snapshots(database).oldest() == 0


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_snapshot_gives_way_to_the_one_before_with_a_warning(three, caplog, damage):
    path = path_of(three, 30)
    raw = path.read_bytes()
    match damage:
        case "flip":
            path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
        case "cut":
            path.write_bytes(raw[: len(raw) // 2])
        case "gone":
            path.unlink()
    with caplog.at_level(logging.WARNING):
        found = three.latest()
    assert (found.record, found.tree["count"]) == (20, 20)
    assert path.name in caplog.text


def test_two_damaged_snapshots_are_an_error_and_no_fresh_start(three):
    for record in (20, 30):
        path_of(three, record).write_bytes(b"")
    with pytest.raises(CorruptError, match="none of 2 snapshots reads back"):
        three.latest()


def test_a_snapshot_that_was_written_but_not_committed_does_not_count(three, database):
    three.write(TREE, record=30)  # the same name again: replaced whole
    reach(database, 40)
    three.write(TREE, record=40)
    assert three.latest().record == 30
    three.sweep()
    assert [int(name.split(".")[0]) for name in files(database)] == [20, 30]


def test_a_half_written_file_is_swept(three, database):
    (database.folder / "snapshots" / "00.unfinished").write_bytes(b"half")
    three.sweep()
    assert len(files(database)) == 2


def test_a_snapshot_ahead_of_the_stored_results_is_refused(three, database):
    with pytest.raises(StateError, match="after record 31, but results are stored up to 30"):
        save(database, three, TREE, record=31)
    assert three.latest().record == 30


@pytest.mark.usefixtures("three")
def test_a_snapshot_of_an_older_version_is_brought_up_to_date(database):
    def rename(tree):
        return {"counted": tree.pop("count"), **tree}

    def double(tree):
        return tree | {"counted": 2 * tree["counted"]}

    upgraded = Snapshots(database, upgrades=[rename, double])
    assert upgraded.latest().tree["counted"] == 60
    save(database, upgraded, {"counted": 5}, record=30)
    assert upgraded.latest().tree == {"counted": 5}  # written as version 3: nothing to do


def test_a_snapshot_of_a_newer_version_is_refused_in_clear_words(three, database):
    save(database, Snapshots(database, upgrades=[dict]), {"count": 1}, record=30)
    with pytest.raises(SchemaError, match="of version 2, this program reads up to 1"):
        three.latest()


def test_a_tree_that_is_none_is_refused_by_name(database):
    with pytest.raises(TypeError, match="want text as key, got 3"):
        Snapshots(database).write({"a": {3: 1}}, record=1)
    with pytest.raises(TypeError):
        Snapshots(database).write({"a": [np.zeros(2)]}, record=1)
    assert files(database) == []


def test_a_full_disk_leaves_the_snapshots_before_as_they_are(small_disk):
    with Database(small_disk / "state") as database:
        reach(database, 2)
        save(database, Snapshots(database), TREE, record=1)
        large = {"x": np.random.default_rng(1).standard_normal(500_000)}
        with pytest.raises(StorageFullError, match="the disk is full"):
            save(database, Snapshots(database), large, record=2)
        assert len(files(database)) == 1
        assert Snapshots(database).latest().record == 1
