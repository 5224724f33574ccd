"""`watchkeeper reload` as a user and as a script see it, and SIGHUP."""

import asyncio
import shutil
import signal

import pytest
from support import plants
from support.commands import process, wait_for, watchkeeper
from support.plants import CHANNELS, TICKS, until

from monitor.live.control import NotRunningError, ask
from monitor.state.database import DatabaseReader
from monitor.state.store import Store

ALL = TICKS * len(CHANNELS)


@pytest.fixture
async def running(tmp_path):
    """A service that waits for one of its two recordings, and its plant."""
    made = plants.never_ending(plants.plant(tmp_path / "plant", assets=1))
    async with plants.serving(made) as found:
        await until(lambda: found.status["samples_received"] == ALL)
        yield found, made


async def run(*words):
    """A command, while the service goes on in this thread."""
    return await asyncio.to_thread(watchkeeper, *words)


def raised_limit(made):
    made.settings["kinds"]["pump"]["channels"]["flow"]["limits"]["high"] = 75.0
    return made.save()


LIMIT = "kinds.pump.channels.flow.limits.high: 70.0 -> 75.0"


async def test_it_says_what_has_changed_and_how_many_assets_it_did_not_touch(running):
    service, made = running
    was = (await run("status", made.file, "--json")).json["running"]["config"]
    said = await run("reload", raised_limit(made).file, "--dry-run")
    assert (said.code, said.err) == (0, "")
    assert said.out == f"{LIMIT}\nok: 1 change would be in force; 0 assets not touched.\n"
    made.settings["state"] = {"detail_hours": 7}
    said = await run("reload", made.save().file)
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines() == [
        LIMIT,
        "state.detail_hours: 48.0 -> 7.0",
        "ok: 2 changes are in force; 0 assets not touched.",
    ]
    assert (await run("status", made.file, "--json")).json["running"]["config"] != was
    said = await run("reload", made.file)
    assert (said.code, said.out) == (0, "ok: nothing changed.\n")
    assert service.service.setup.retention.detail_hours == 7


async def test_for_scripts_it_is_json(running):
    _, made = running
    said = await run("reload", raised_limit(made).file, "--json")
    assert said.json == {"changes": [LIMIT], "untouched": 0, "error": "", "again": False}


async def test_a_wrong_file_is_told_as_check_tells_it_and_the_service_goes_on(running):
    service, made = running
    made.settings["kinds"]["pump"]["tick_ms"] = 0
    made.settings["assets"]["m0"]["kind"] = "pumpp"
    said = await run("reload", made.save().file)
    assert said.code == 2
    assert "kinds.pump.tick_ms: got 0, want more than 0" in said.err
    assert "assets.m0.kind: no kind 'pumpp'. Did you mean 'pump'?" in said.err
    assert not service.task.done()


async def test_a_reload_that_fails_is_told_by_status_until_one_does_not(running):
    _, made = running
    name, model = made.settings["site"]["name"], made.folder / "model"
    made.settings["site"]["name"] = "other"
    said = await run("reload", made.save().file)
    assert (said.code, said.out) == (4, "")
    assert "only a restart can change this: site.name: works -> other" in said.err
    status = await run("status", made.file)
    assert "reload failed: only a restart can change this" in status.out
    made.settings["site"]["name"] = name
    model.rename(made.folder / "elsewhere")
    said = await run("reload", made.save().file)
    assert said.code == 3
    assert "no model in" in said.err
    shutil.copytree(made.folder / "elsewhere", model)
    assert (await run("reload", made.file)).code == 0
    assert "reload failed" not in (await run("status", made.file)).out


def test_where_no_service_runs_there_is_nothing_to_reload(tmp_path):
    made = plants.plant(tmp_path / "plant", assets=1)
    said = watchkeeper("reload", made.file)
    assert said.code == 3
    assert "no service runs here" in said.err


def standing(made):
    """How the service says that it stands; nothing before it answers."""
    try:
        return ask(made.data, "status")
    except NotRunningError:
        return {}


@pytest.mark.timeout(60)
def test_a_hangup_lets_the_service_take_up_what_the_file_says(tmp_path):
    made = plants.never_ending(plants.plant(tmp_path / "plant", assets=1, model=None))
    service = process("run", made.file)
    try:
        wait_for(lambda: standing(made).get("sources"))
        was = standing(made)["reload"]["at"]
        made.settings["assets"]["m1"] = made.settings["assets"]["m9"]
        del made.settings["assets"]["m9"]
        made.save()
        service.send_signal(signal.SIGHUP)
        wait_for(lambda: standing(made)["reload"]["at"] > was)
    finally:
        service.terminate()
        _, err = service.communicate(timeout=30)
    assert service.returncode == 0
    assert "The configuration is reloaded: assets.m9: removed; assets.m1: added" in err
    with DatabaseReader(made.data) as database:
        assert Store(database).done()
