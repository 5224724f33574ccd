"""`watchkeeper alarms list` as a user and as a script see it."""

import re

import pytest
from support import plants
from support.commands import watchkeeper
from support.plants import FAULTS, SECOND, START

from monitor.state.database import Database

TIME = re.compile(r"2023-11-14 23:\d\d:\d\d\.000\+01:00")  # Europe/Berlin


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    """A plant that ended in the middle of its second fault, and has another machine."""
    made = plants.plant(tmp_path_factory.mktemp("lived") / "plant", assets=2)
    ticks = FAULTS[1][0] + 10
    columns = {name: shown[:ticks] for name, shown in plants.columns(made.assets).items()}
    plants.write(made.folder / "rig.csv", columns)
    plants.run(made)
    return made


def listed(made, *options):
    said = watchkeeper("alarms", "list", made.file, *options)
    assert said.code == 0
    return said


def test_the_newest_comes_first_in_the_sites_time(lived):
    lines = listed(lived).out.splitlines()
    assert len(lines) == 4
    assert all(TIME.match(line) for line in lines)
    assert lines == sorted(lines, key=lambda line: line[:29], reverse=True)
    assert [("active" in line, "returned" in line) for line in lines] == [
        (True, False),
        (True, False),
        (False, True),
        (False, True),
    ]
    assert sum("flow" in line for line in lines) == 4, "what it is about"


def test_for_scripts_it_is_json_in_ns(lived):
    found = listed(lived, "--json").json
    assert [alarm["state"] for alarm in found] == ["active", "active", "returned", "returned"]
    for alarm in found:
        assert alarm["asset"] == "m1"
        assert alarm["class"] in ("process", "limit")
        since = [first for first, _ in FAULTS]
        second = alarm["raised_ns"] // SECOND - START
        assert any(first <= second <= first + 5 for first in since)
        assert alarm["value"] >= alarm["threshold"]


def test_only_those_that_were_asked_for_are_shown(lived):
    assert len(listed(lived, "--active", "--json").json) == 2
    assert listed(lived, "--asset", "m0", "--json").json == []
    assert len(listed(lived, "--asset", "m1", "--json").json) == 4
    assert len(listed(lived, "--since", "2023-11-14T22:16:00Z", "--json").json) == 2
    assert listed(lived, "--asset", "m0").out == "No alarms.\n"


def test_an_asset_that_is_not_there_is_a_mistake(lived):
    said = watchkeeper("alarms", "list", lived.file, "--asset", "m7")
    assert said.code == 2
    assert "no asset 'm7'; there are: m0, m1." in said.err


def test_those_of_a_backfill_are_kept_apart(lived):
    plants.backfill(lived, until=(START + 160) * SECOND)
    assert [alarm["state"] for alarm in listed(lived, "--backfill", "--json").json] == [
        "returned",
        "returned",
    ]
    assert len(listed(lived, "--json").json) == 4


def test_it_reads_beside_the_service(lived):
    with Database(lived.data):
        assert len(listed(lived, "--json").json) == 4


def test_a_plant_that_never_ran_has_no_list(tmp_path):
    made = plants.plant(tmp_path / "plant", assets=1)
    said = watchkeeper("alarms", "list", made.file)
    assert said.code == 3
    assert "nothing is stored there yet" in said.err
