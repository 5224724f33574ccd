"""`watchkeeper backfill` as a user and as a script see it."""

import json
import shutil

import pytest
from support import plants
from support.commands import watchkeeper
from support.plants import CHANNELS, TICKS

from monitor.state.database import Database
from monitor.state.journal import Journal


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    """A plant that ran."""
    made = plants.plant(tmp_path_factory.mktemp("lived") / "plant", assets=1)
    assert watchkeeper("run", made.file).code == 0
    return made


@pytest.fixture
def made(lived, tmp_path):
    shutil.copytree(lived.folder, tmp_path / "plant")
    return plants.Plant(tmp_path / "plant", json.loads(json.dumps(lived.settings)))


def digest(made, *options):
    return watchkeeper("status", made.file, "--digest", "--json", *options).json["digest"]


@pytest.mark.parametrize("origin", ["sources", "journal"])
def test_history_gives_the_digest_of_the_live_run(origin, made):
    said = watchkeeper("backfill", made.file, "--from", origin)
    assert said.code == 0
    assert f"frames   {TICKS:,} closed" in said.out
    assert digest(made, "--backfill") == digest(made)


def test_for_scripts_it_is_json(made):
    found = watchkeeper("backfill", made.file, "--json").json
    assert found["samples_received"] == TICKS * len(CHANNELS)
    assert found["score_latency_ms"] == {"p50": None, "p99": None}


def test_only_what_was_asked_for_is_scored(made):
    found = watchkeeper(
        "backfill",
        made.file,
        "--since",
        "2023-11-14T22:13:29Z",  # START + 9 s
        "--until",
        "2023-11-14T23:13:39+01:00",  # START + 19 s
        "--json",
    ).json
    assert found["frames"] == 10


@pytest.mark.parametrize("given", ["yesterday", "2023-11-14T22:13:29", "2023"])
def test_a_time_without_its_zone_is_not_guessed(given, made):
    said = watchkeeper("backfill", made.file, "--since", given)
    assert said.code == 2
    assert "--since" in said.err
    assert "want a time with its zone" in said.err


def test_where_all_of_a_source_was_rejected_it_fails_and_says_why(made):
    made.settings["sources"]["rig"]["time_format"] = "epoch_ms"  # and all of it is in 1970
    said = watchkeeper("backfill", made.save().file, "--json")
    assert said.code == 2
    assert said.json["frames"] == 0
    assert "source rig: all 900 samples were rejected: 900 ancient (stamped before" in said.err
    assert "Mend it, and score again." in said.err


def test_a_journal_is_replayed_whole(made):
    said = watchkeeper(
        "backfill", made.file, "--from", "journal", "--since", "2023-11-14T22:13:29Z"
    )
    assert said.code == 2
    assert "leave out --since" in said.err


def test_without_a_journal_there_is_nothing_to_replay(tmp_path):
    made = plants.plant(tmp_path / "plant", assets=1)
    said = watchkeeper("backfill", made.file, "--from", "journal")
    assert said.code == 3
    assert "there is no state here" in said.err


def test_it_may_run_beside_the_service(made):
    with Database(made.data):
        said = watchkeeper("backfill", made.file, "--from", "journal")
    assert said.code == 0


def test_a_journal_whose_beginning_is_gone_is_replayed_with_a_warning(made):
    whole = watchkeeper("backfill", made.file, "--from", "journal", "--json")
    assert "warning" not in whole.err
    with Database(made.data) as database, database.atomic() as tx:
        Journal(database).forget(tx, 3)
    said = watchkeeper("backfill", made.file, "--from", "journal", "--json")
    assert said.code == 0
    assert said.json["samples_received"] < whole.json["samples_received"]
    assert "warning: " in said.err
    assert "the journal begins with record 3" in said.err


def test_two_at_once_are_refused(made):
    with Database(made.data / "backfill.unfinished"):
        said = watchkeeper("backfill", made.file)
    assert said.code == 4
    assert "is running on this folder" in said.err


def test_a_backfill_that_cannot_be_done_leaves_the_last_one(made):
    assert watchkeeper("backfill", made.file).code == 0
    before = digest(made, "--backfill")
    shutil.rmtree(made.folder / "model")
    assert watchkeeper("backfill", made.file).code == 3
    assert digest(made, "--backfill") == before
