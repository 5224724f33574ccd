"""`watchkeeper alarms` as a user and as a script see it."""

import asyncio
import getpass
import re

import pytest
from support import plants
from support.commands import watchkeeper
from support.plants import FAULTS, SECOND, START, TICKS, HeldClock, until

from monitor.state.database import Database, DatabaseReader
from monitor.state.store import Store

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


# What a person does


@pytest.fixture
async def running(tmp_path):
    """A service that runs on, with all its alarms raised: two, of which none stands."""
    made = plants.never_ending(plants.plant(tmp_path / "plant", assets=1, model=None))
    async with plants.serving(made) as found:
        await until(lambda: found.status["samples_received"] == 900)
        await until(lambda: len(made.messages()) == 2 * len(FAULTS))
        yield found, made


async def run(*words):
    """A command, while the service goes on in this thread."""
    return await asyncio.to_thread(watchkeeper, *words)


async def test_a_person_acknowledges_by_the_beginning_of_an_id(running):
    service, made = running
    alarm = (await run("alarms", "list", made.file, "--json")).json[0]
    said = await run("alarms", "ack", made.file, alarm["id"][:8], "--why", "seen", "--who", "ann")
    assert (said.code, said.err) == (0, "")
    assert said.out == f"{alarm['id'][:8]}  acknowledged\n"
    (event,) = [one for one in service.store.alarm_events() if one.transition == "acknowledged"]
    assert (event.id, event.who, event.reason) == (alarm["id"], "ann", "seen")
    await until(lambda: len(made.messages()) == 2 * len(FAULTS) + 1)
    assert alarm["id"][:8] in (await run("alarms", "list", made.file)).out

    again = await run("alarms", "ack", made.file, alarm["id"][:8])
    assert again.code == 4
    assert "was acknowledged before" in again.err


async def test_who_is_the_login_name_if_nobody_else_is_named(running):
    service, made = running
    alarm = (await run("alarms", "list", made.file, "--json")).json[0]["id"]
    found = (await run("alarms", "ack", made.file, alarm, "--json")).json
    assert found == {"alarm": alarm, "stepped": True, "transitions": ["acknowledged"]}
    assert service.store.alarms(beginning=alarm)[0].who == getpass.getuser()


@pytest.mark.parametrize(
    ("target", "words"), [("", "target: "), ("zz", "no alarm 'zz'"), (" ", "target: ")]
)
async def test_an_alarm_that_is_not_there_reaches_no_journal(target, words, running):
    service, made = running
    said = await run("alarms", "ack", made.file, target)
    assert said.code == 4
    assert words in said.err
    assert not service.database.query("SELECT 1 FROM journal WHERE kind = 'command'")


def test_without_a_service_nothing_is_done_and_that_is_said(lived):
    alarm = listed(lived, "--json").json[0]["id"]
    said = watchkeeper("alarms", "ack", lived.file, alarm)
    assert said.code == 3
    assert "no service runs here; `watchkeeper run` starts it" in said.err
    with Database(lived.data) as database:
        assert not database.query("SELECT 1 FROM journal WHERE kind = 'command'")


async def test_a_person_shelves_for_a_time_and_a_reason_and_all_can_see_it(running):
    service, made = running
    alarm = service.store.alarms()[0]
    said = await run(
        "alarms", "shelve", made.file, alarm.id[:8], "--for", "1h30min", "--why", "in repair"
    )
    assert (said.code, said.out) == (0, f"{alarm.id[:8]}  shelved\n")
    (found,) = service.store.alarms(shelved_only=True)
    assert found.id == alarm.id
    line = next(
        line
        for line in (await run("alarms", "list", made.file)).out.splitlines()
        if alarm.id[:8] in line
    )
    assert re.search(r"\(shelved until 20\d\d-.*\+0\d:00\)$", line)
    listed = (await run("alarms", "list", made.file, "--json")).json
    assert {one["id"]: one["shelved_until_ns"] for one in listed}[alarm.id] == found.shelved_until
    await until(lambda: len(made.messages()) == 2 * len(FAULTS) + 1)

    said = await run("alarms", "unshelve", made.file, alarm.id, "--why", "done")
    assert said.out == f"{alarm.id[:8]}  unshelved\n"
    assert service.store.alarms(shelved_only=True) == []
    again = await run("alarms", "unshelve", made.file, alarm.id)
    assert (again.code, "is not shelved" in again.err) == (4, True)


async def test_an_older_alarm_stands_for_its_point(running):
    service, made = running
    newest, oldest = service.store.alarms()
    assert newest.point == oldest.point
    await run("alarms", "shelve", made.file, oldest.id, "--for", "1h", "--why", "in repair")
    (found,) = service.store.alarms(shelved_only=True)
    assert found.id == newest.id


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (
            ("--for", "9h", "--why", "w"),
            4,
            "shelving: want an end from now on, at most 8 h away (site.shelve_hours)",
        ),
        (("--for", "1h", "--why", " "), 4, "shelving wants a reason"),
        (("--for", "0h", "--why", "w"), 2, "--for: got '0h', want as 30min, 2h or 1h30min"),
        (("--for", "soon", "--why", "w"), 2, "--for: got 'soon'"),
    ],
)
async def test_shelving_wants_an_end_and_a_reason(options, code, words, running):
    service, made = running
    alarm = service.store.alarms()[0].id
    said = await run("alarms", "shelve", made.file, alarm, *options)
    assert said.code == code
    assert words in said.err
    assert not service.database.query("SELECT 1 FROM journal WHERE kind = 'command'")


async def test_what_is_shelved_stays_so_over_a_restart_and_is_told_when_it_ends(tmp_path):
    made = plants.never_ending(plants.plant(tmp_path / "plant", assets=1, model=None))
    columns = plants.columns(["m0"])
    first = {name: shown[: FAULTS[0][0] + 10] for name, shown in columns.items()}
    plants.write(made.folder / "rig.csv", first)
    clock = HeldClock(1e6)
    async with plants.serving(made, clock=clock) as service:
        await until(lambda: len(made.messages()) == 1)
        alarm = service.store.alarms()[0].id
        found = await service.service._commands.do(
            {
                "action": "shelve",
                "target": alarm,
                "who": "ann",
                "why": "in repair",
                "until": clock.now() + 3600 * SECOND,
            }
        )
        assert found["transitions"] == ["shelved"]
        await until(lambda: len(made.messages()) == 2)
    plants.write(made.folder / "rig.csv", columns)
    async with plants.serving(made, clock=clock) as service:
        await until(lambda: service.status["samples_received"] == TICKS * 3)
        events = service.store.alarm_events()
        assert [str(event.transition) for event in events] == [
            "raised",
            "shelved",
            "returned",
            "raised",
            "returned",
        ]
        assert len(made.messages()) == 2
        clock.second += 3601
        await until(lambda: len(made.messages()) == 4)  # of the one that was told, and of the last
    told = [event for event in service_events(made) if event.transition == "unshelved"]
    assert [event.active for event in told] == [False, False]


def service_events(made):
    with DatabaseReader(made.data) as database:
        return Store(database).alarm_events()
