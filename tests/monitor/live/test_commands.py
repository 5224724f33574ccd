"""What is refused before it is a record, and what is answered where the step is behind."""

from types import SimpleNamespace

import pytest
from support.keeping import event
from support.plants import HeldClock

from monitor.core.records import Results, Transition
from monitor.live import commands as room
from monitor.live.commands import Commands
from monitor.live.control import RequestError
from monitor.state.database import Database
from monitor.state.errors import StorageFullError
from monitor.state.store import Store


@pytest.fixture
def database(tmp_path):
    """Two alarms whose ids begin alike."""
    with Database(tmp_path / "data") as found:
        alarms = tuple(event(Transition.RAISED, second, id=f"ab{second}") for second in (1, 2))
        with found.atomic() as tx:
            Store(found).write(tx, Results(alarms=alarms), done=1)
        yield found


def commands(database, *, record, done=0):
    return Commands(
        database,
        record=record,
        stepper=SimpleNamespace(done=done),
        clock=HeldClock(0),
        shelve_hours=lambda: 8,
    )


async def unwanted(_command):
    raise AssertionError("it must not become a record")


async def test_a_beginning_of_several_ids_names_them_all(database):
    taken = commands(database, record=unwanted)
    with pytest.raises(RequestError, match=r"'ab' begins several ids: ab1 .*, ab2 .*give more"):
        await taken.do({"action": "acknowledge", "target": "ab", "who": "ann"})


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"action": "serviced"}, "action: "),
        ({"who": ""}, "who: "),
        ({"why": "w" * 2000}, "why: "),
        ({"more": 1}, "more: "),
        ({"until": "soon"}, "until: "),
    ],
)
async def test_a_request_that_is_not_understood_says_where(changed, words, database):
    taken = commands(database, record=unwanted)
    with pytest.raises(RequestError, match=words):
        await taken.do({"action": "acknowledge", "target": "ab1", "who": "ann"} | changed)


async def test_where_the_step_is_behind_it_is_accepted_and_said_so(database, monkeypatch):
    monkeypatch.setattr(room, "STEPPED_S", 0.05)

    async def record(command):
        assert (command.target, command.who) == ("ab1", "ann")
        return 7

    taken = commands(database, record=record, done=6)
    found = await taken.do({"action": "acknowledge", "target": "ab1", "who": " ann "})
    assert found == {"alarm": "ab1", "stepped": False, "transitions": []}


async def test_a_full_disk_is_said_to_whoever_asked(database):
    async def record(_command):
        raise StorageFullError("state.db: the disk is full.")

    with pytest.raises(RequestError, match="the disk is full"):
        await commands(database, record=record).do(
            {"action": "acknowledge", "target": "ab1", "who": "ann"}
        )
