"""A running service takes up another configuration: who is not concerned does not notice it."""

import asyncio
import contextlib
import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from support import building, plants
from support.building import kind, samples
from support.feeds import Feed, RetunableSource, feeds
from support.plants import CHANNELS, HeldClock, until

from connectors.batch import Samples
from monitor.core.digest import digest
from monitor.core.pipeline import Pipeline
from monitor.core.records import Cause, Epoch, Record, Scores, ScoreState
from monitor.live.control import ask
from monitor.live.service import Service
from monitor.live.stepper import Stepper, Works
from monitor.live.supervisor import Supervisor
from monitor.live.tidying import Retention
from monitor.site.settings import StateSettings
from monitor.state.database import Database, DatabaseReader
from monitor.state.errors import StorageFullError
from monitor.state.journal import Journal
from monitor.state.names import Family, Names
from monitor.state.snapshot import Snapshots
from monitor.state.store import Store
from monitor.state.writer import Writer

__all__ = ["feeds"]

RETENTION = Retention(**StateSettings().model_dump(exclude={"channel_score_s"}))
ROWS = 220  # of a feed
HALF = 140  # rows: in the middle of a fault
pytestmark = pytest.mark.timeout(40)


def works(folder, feeds):
    """Two pumps at one feed, a fan at another, each kind with a model."""
    made = plants.plant(folder, assets=1, model="gru")
    shutil.copytree(plants.trained("gru"), made.folder / "fan")
    pump = made.settings["kinds"]["pump"]
    made.settings["kinds"]["fan"] = pump | {"model": {"bundle": "fan", "device": "cpu"}}
    made.settings["sources"] = {
        "hall": {"type": "tuned", "feed": "hall"},
        "roof": {"type": "feed", "feed": "roof"},
    }
    made.settings["assets"] = {
        "m0": {"kind": "pump", "source": "hall", "address": "{asset}.{tag}"},
        "m1": {"kind": "pump", "source": "hall", "address": "{asset}.{tag}"},
        "m2": {"kind": "fan", "source": "roof", "address": "{asset}.{tag}"},
    }
    names = [f"m{number}" for number in range(5)]
    shown = {
        f"{name}.{channel}": plants.values(row, faulty=row in {1, 2})[:ROWS, place]
        for row, name in enumerate(names)
        for place, channel in enumerate(CHANNELS)
    }
    for feed in ("hall", "roof", "yard"):
        feeds[feed] = Feed(shown)
    return made.save()


def let(feeds, rows):
    for feed in feeds.values():
        feed.let(rows)


def end(feeds):
    for feed in feeds.values():
        feed.end()


async def stepped(running, rows):
    """Wait until the step has seen so many rows of both feeds."""
    await until(lambda: running.status["samples_received"] >= rows * 3 * len(CHANNELS))
    await until(lambda: running.store.done() == Journal(running.database).last())


def said(caplog, level=logging.INFO):
    """What the log says from this level on."""
    return "\n".join(r.getMessage() for r in caplog.records if r.levelno >= level)


async def asked(made, **changed):
    """Ask for it as the command does, in a thread; the answer."""
    return await asyncio.to_thread(
        ask, made.data, "reload", within_s=30, file=str(made.file), **changed
    )


def digests(made):
    """The scores of each asset, in a number."""
    with DatabaseReader(made.data) as database:
        names, store = Names(database).of(Family.ASSET), Store(database)
        return {name: digest(store.scores(asset=number), names) for number, name in names.items()}


def events(made, *names):
    """What became of the alarms of these assets: (alarm, transition, tick)."""
    with DatabaseReader(made.data) as database:
        found = Store(database).alarm_events()
        return {(e.id, str(e.transition), e.tick) for e in found if e.asset in names}


def epochs(made):
    """The causes of the epochs in the journal, and whether each is of the same configuration."""
    with DatabaseReader(made.data) as database:
        found = [r.body for _, r in Journal(database).read(0) if isinstance(r.body, Epoch)]
    return [epoch.cause for epoch in found], [epoch.config for epoch in found]


def given(made):
    """How many samples of each source are in the journal."""
    counts = {}
    with DatabaseReader(made.data) as database:
        for _, record in Journal(database).read(0):
            if isinstance(record.body, Samples):
                source = record.body.source
                counts[source] = counts.get(source, 0) + len(record.body)
    return counts


@pytest.fixture
def plant(tmp_path, feeds, caplog):
    """The plant and its feeds."""
    caplog.set_level(logging.INFO)
    return works(tmp_path / "plant", feeds), feeds


@dataclass(frozen=True)
class Calm:
    """What the same plant comes to without any reload, by asset."""

    digests: dict[str, str]
    events: dict[str, set[tuple[str, str, int]]]


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        found = feeds.__wrapped__(patch)
        made = works(tmp_path_factory.mktemp("calm") / "plant", found)
        end(found)
        plants.run(made)
    happened = {name: events(made, name) for name in made.assets}
    assert happened["m1"]
    assert happened["m2"]
    return Calm(digests(made), happened)


def asset_added_by_retuning(made):
    made.settings["assets"]["m3"] = made.settings["assets"]["m0"] | {"area": "hall_2"}


def asset_added_first_at_a_source_that_is_opened_anew(made):
    added = {"m4": {"kind": "fan", "source": "roof", "address": "{asset}.{tag}"}}
    made.settings["assets"] = added | made.settings["assets"]


def asset_added_with_its_source(made):
    made.settings["sources"]["yard"] = {"type": "feed", "feed": "yard"}
    made.settings["assets"]["m3"] = made.settings["assets"]["m0"] | {"source": "yard"}


def limit_changed(made):
    kind = made.settings["kinds"]["pump"]
    flow = kind["channels"]["flow"] | {"limits": {"high": 75.0, "on_delay_s": 2.0}}
    made.settings["kinds"]["pump"] = kind | {"channels": kind["channels"] | {"flow": flow}}


def asset_removed(made):
    del made.settings["assets"]["m0"]


def source_removed_while_an_alarm_stands(made):
    del made.settings["assets"]["m2"], made.settings["sources"]["roof"]


def model_replaced(made):
    shutil.rmtree(made.folder / "fan")
    shutil.copytree(plants.trained("ewma"), made.folder / "fan")


def sink_and_state_changed(made):
    made.settings["sinks"]["inbox"]["folder"] = "outbox"
    (made.folder / "outbox").mkdir()
    made.settings["sinks"]["second"] = {"type": "files", "folder": "outbox"}
    made.settings["state"] = {"detail_hours": 7, "snapshot_s": 5}


@dataclass(frozen=True)
class Case:
    """A change, the assets that are not to notice it, and which sources were opened by the end."""

    change: Callable[[plants.Plant], None]
    scores: str = "m0 m1 m2"
    alarms: str = "m0 m1 m2"
    opened: str = "hall roof"


CASES = [
    Case(asset_added_by_retuning),
    Case(asset_added_first_at_a_source_that_is_opened_anew, opened="hall roof roof"),
    Case(asset_added_with_its_source, opened="hall roof yard"),
    Case(limit_changed, alarms="m0 m2"),
    Case(asset_removed, scores="m1 m2", alarms="m1 m2"),
    Case(source_removed_while_an_alarm_stands, scores="m0 m1", alarms="m0 m1"),
    Case(model_replaced, scores="m0 m1", alarms="m0 m1"),
    Case(sink_and_state_changed),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.change.__name__)
async def test_the_scores_of_who_is_not_concerned_are_the_same_to_the_bit(case, calm, plant):
    made, feeds = plant
    async with plants.serving(made) as running:
        let(feeds, HALF)
        await stepped(running, HALF)
        case.change(made)
        asking = asyncio.create_task(asked(made.save()))
        let(feeds, HALF + 60)  # while it is under way
        answer = await asking
        assert answer["error"] == ""
        assert answer["changes"]
        end(feeds)
        await running.task
    found = digests(made)
    for name in case.scores.split():
        assert found[name] == calm.digests[name]
    for name in case.alarms.split():
        assert events(made, name) == calm.events[name]
    assert plants.outcome(made.data).summary["samples_conserved"]
    assert epochs(made)[0] == [Cause.START, Cause.RELOAD]
    names = [name for feed in feeds.values() for name in feed.opened]
    assert sorted(names) == case.opened.split()


# ---- what is refused, or goes wrong -------------------------------------------------------------


def no_yaml(made):
    made.file.write_text("config_version: [", encoding="utf-8")


def a_name_that_nothing_has(made):
    made.settings["assets"]["m1"]["kind"] = "pumpp"
    made.settings["assets"]["m0"]["source"] = "halll"


def no_model(made):
    shutil.rmtree(made.folder / "fan")


def a_damaged_model(made):
    (made.folder / "fan" / "weights.safetensors").write_bytes(b"cut short")


def history_only(made):
    made.settings["sources"]["hall"] = {
        "type": "influxdb",
        "url": "http://localhost:1",
        "database": "d",
        "token_env": "HOME",
    }


def another_name(made):
    made.settings["site"]["name"] = "other"
    made.settings["web"] = {"port": 1}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (no_yaml, "the configuration is wrong: .*plant.yaml:1:"),
        (a_name_that_nothing_has, "(?s)no source 'halll'.*no kind 'pumpp'"),
        (no_model, "kind fan: no model in .*`watchkeeper train` makes it"),
        (a_damaged_model, "kind fan: .*not the weights of this card"),
        (another_name, "only a restart .*alarms are named by it.*the port is opened at the start"),
    ],
)
async def test_what_is_not_right_is_said_and_nothing_is_touched(change, words, plant, caplog):
    made, feeds = plant
    async with plants.serving(made) as running:
        let(feeds, HALF)
        await stepped(running, HALF)
        made.save()
        change(made)
        if change is not no_yaml:
            made.save()
        answer = await asked(made)
        assert re.search(words, answer["error"])
        assert answer["again"] is (change is no_model)
        standing = await running.service.standing()
        assert standing.reload.error == answer["error"]
        assert standing.reload.at == standing.started
    assert re.search(words, said(caplog, logging.ERROR))
    assert epochs(made)[0] == [Cause.START]
    assert [len(feed.opened) for feed in feeds.values()] == [1, 1, 0]


async def test_a_reload_without_a_change_says_so_and_forgives_a_failed_one(plant):
    made, feeds = plant
    async with plants.serving(made) as running:
        let(feeds, 5)
        await stepped(running, 5)
        text = made.file.read_text(encoding="utf-8")
        no_yaml(made)
        assert (await asked(made))["error"]
        made.file.write_text(f"# a word\n{text}", encoding="utf-8")
        answer = await asked(made)
        assert (answer["changes"], answer["error"], answer["untouched"]) == ([], "", 3)
        standing = await running.service.standing()
        assert (standing.reload.error, standing.reload.at) == ("", standing.started)
    assert epochs(made)[0] == [Cause.START]


async def test_a_dry_run_says_what_would_change_and_changes_nothing(plant):
    made, feeds = plant
    async with plants.serving(made) as running:
        let(feeds, 5)
        await stepped(running, 5)
        asset_added_by_retuning(made)
        no_model(made.save())
        assert "no model" in (await asked(made, dry_run=True))["error"]
        assert (await running.service.standing()).reload.error == ""
        shutil.copytree(plants.trained("ewma"), made.folder / "fan")
        answer = await asked(made, dry_run=True)
        assert answer["changes"] == [
            "assets.m3: added (kind pump, source hall)",
            "kinds.fan.model: another model; its assets warm up anew",
        ]
        assert (answer["error"], answer["untouched"]) == ("", 2)
        assert "m3" not in Names(running.database).of(Family.ASSET).values()
    assert epochs(made)[0] == [Cause.START]


async def test_a_bug_is_a_failed_reload_too(plant, caplog, monkeypatch):
    made, feeds = plant
    async with plants.serving(made) as running:
        let(feeds, 5)
        await stepped(running, 5)
        monkeypatch.setattr("monitor.site.staging.load", lambda _: 1 / 0)
        assert (await asked(made))["error"] == "division by zero"
        assert (await running.service.standing()).reload.error == "division by zero"
    assert "A reload has failed." in said(caplog)


async def test_a_file_that_it_does_not_run_with_is_refused(plant):
    made, feeds = plant
    other = made.folder / "other.yaml"
    other.write_bytes(made.file.read_bytes())
    async with plants.serving(made) as running:
        let(feeds, 5)
        await stepped(running, 5)
        answer = await asyncio.to_thread(ask, made.data, "reload", file=str(other))
        assert "the service runs with" in answer["error"]


class BrokenError(Exception):
    """What nobody thought of."""


def the_journal_is_full(patch, _feeds):
    append = Journal.append

    def appended(journal, tx, row):
        if row.kind == "epoch":
            raise StorageFullError("state.db: the disk is full.")
        return append(journal, tx, row)

    patch.setattr(Journal, "append", appended)
    return "the disk is full"


def names_cannot_be_kept(patch, _feeds):
    def refused(*_):
        raise StorageFullError("state.db: the disk is full.")

    patch.setattr(Names, "tag_ids", refused)
    return "the disk is full"


def the_step_cannot_go_on(patch, _feeds):
    def broken(_pipeline, _tree):
        raise BrokenError("no such state")

    patch.setattr(Pipeline, "restore", broken)
    return "no such state; the configuration before it is in force again"


def a_source_refuses_its_tags(_patch, feeds):
    feeds["hall"].refuses.add("m3.flow")
    return "hall: no such address: m3.flow; the configuration before it is in force again"


def a_source_cannot_be_made_anew(patch, _feeds):
    replace_, calls = Supervisor.replace, []

    async def replaced(supervisor, assignment):
        calls.append(supervisor.name)
        await supervisor.stop()
        if len(calls) == 1:
            raise BrokenError("the source is stopped, and not more")
        await replace_(supervisor, assignment)

    patch.setattr(Supervisor, "replace", replaced)
    return "the source is stopped, and not more"


@pytest.mark.parametrize(
    ("failure", "causes"),
    [
        (names_cannot_be_kept, [Cause.START]),
        (the_journal_is_full, [Cause.START]),
        (the_step_cannot_go_on, [Cause.START, Cause.RELOAD, Cause.RELOAD]),
        (a_source_refuses_its_tags, [Cause.START, Cause.RELOAD, Cause.RELOAD]),
        (a_source_cannot_be_made_anew, [Cause.START, Cause.RELOAD, Cause.RELOAD]),
    ],
)
async def test_where_it_fails_the_old_configuration_goes_on_and_nothing_is_lost(
    failure, causes, calm, plant, monkeypatch
):
    made, feeds = plant
    old = made.config().hash
    async with plants.serving(made) as running:
        let(feeds, HALF)
        await stepped(running, HALF)
        asset_added_by_retuning(made)
        asset_added_with_its_source(made)
        asset_added_first_at_a_source_that_is_opened_anew(made)
        made.settings["assets"]["m3"]["source"] = "hall"
        made.settings["assets"]["m5"] = made.settings["assets"]["m0"] | {
            "source": "yard",
            "address": "m3.{tag}",
        }
        made.settings["sinks"]["second"] = {"type": "files", "folder": "inbox"}
        with monkeypatch.context() as patch:
            words = failure(patch, feeds)
            asking = asyncio.create_task(asked(made.save()))
            let(feeds, HALF + 60)
            answer = await asking
        assert words in answer["error"]
        standing = await running.service.standing()
        assert words in standing.reload.error
        assert (standing.config, set(standing.sources)) == (old, {"hall", "roof"})
        assert set(standing.sinks) == set(running.status["backlog"]) == {"inbox"}
        end(feeds)
        await running.task
    found = digests(made)
    assert {name: found[name] for name in calm.digests} == calm.digests
    assert {name: events(made, name) for name in calm.events} == calm.events
    outcome = plants.outcome(made.data)
    assert outcome.summary["samples_conserved"]
    assert outcome.summary["samples_late"] == outcome.summary["samples_duplicated"] == 0
    assert epochs(made)[0] == causes
    assert epochs(made)[1][-1] == old
    assert given(made)["hall"] >= 2 * ROWS * len(CHANNELS)
    assert given(made)["roof"] >= ROWS * len(CHANNELS)


async def test_where_there_is_no_way_back_all_follow_the_new_configuration(
    plant, caplog, monkeypatch
):
    made, feeds = plant
    async with plants.serving(made) as running:
        let(feeds, 5)
        await stepped(running, 5)
        asset_added_by_retuning(made)
        asset_added_with_its_source(made)
        asset_added_first_at_a_source_that_is_opened_anew(made)
        made.settings["sinks"]["second"] = {"type": "files", "folder": "inbox"}
        with monkeypatch.context() as patch:
            words = a_source_cannot_be_made_anew(patch, feeds)
            put_in_force, calls = Service.put_in_force, []

            async def put(service, setup, works):
                calls.append(setup)
                if len(calls) == 2:
                    raise BrokenError("no way back")
                await put_in_force(service, setup, works)

            patch.setattr(Service, "put_in_force", put)
            answer = await asked(made.save())
        assert (answer["error"], len(calls)) == ("", 2)
        assert words in caplog.text
        standing = await running.service.standing()
        assert (standing.config, standing.reload.error) == (made.config().hash, "")
        assert set(standing.sources) == set(made.settings["sources"])
        assert set(standing.sinks) == {"inbox", "second"}
        assert (await asked(made))["changes"] == []


async def test_an_asset_that_comes_back_as_its_removal_fails_goes_on_with_what_it_had(
    plant, monkeypatch
):
    made, feeds = plant
    made.inbox.rmdir()
    made.inbox.write_text("a file stands in the way", encoding="utf-8")
    monkeypatch.setattr("monitor.live.service.FAREWELL_S", 0.1)
    async with plants.serving(made) as running:
        let(feeds, HALF)
        await stepped(running, HALF)
        waiting = running.status["backlog"]["inbox"]
        assert waiting
        asset_removed(made)
        made.settings["sinks"] = {}
        feeds["hall"].refuses.add("m1.flow")  # and so its tags stay as they are
        answer = await asked(made.save())
        assert "no such address" in answer["error"]
        assert running.status["backlog"] == {"inbox": waiting}, "nothing is forgotten, either"
        end(feeds)
        await running.task
    with DatabaseReader(made.data) as database:
        number = {name: n for n, name in Names(database).of(Family.ASSET).items()}["m0"]
        state = Scores.join(list(Store(database).scores(asset=number))).state
    assert len(state) == ROWS
    assert set(state[20:].tolist()) == {ScoreState.OK}, "it does not warm up anew"
    assert feeds["hall"].opened == ["hall"], "what refused its tags goes on with those it had"


# ---- what follows -------------------------------------------------------------------------------


def of_cause(cause, retention=RETENTION):
    """Works of one asset with a limit."""
    limited = kind(channels={"x": {"limits": {"high": 5}}})
    return Works(
        epoch=Epoch(config="c", bundles={}, cause=cause),
        pipeline=Pipeline(building.plan(limited), {}),
        points=None,
        retention=retention,
    )


@contextlib.contextmanager
def stepping(folder, works, *bodies):
    """A step that finds these records in its journal once it starts, and its database."""
    with Database(folder) as database, Writer(database) as writer:
        with database.atomic() as tx:
            for body in bodies:
                Journal(database).append(tx, Record(building.NOW, body))
        yield (
            Stepper(
                database,
                writer,
                works,
                site="plant",
                clock=HeldClock(0),
                announce=lambda: None,
                troubles=dict,
            ),
            database,
        )


def test_what_the_step_has_found_is_stored_before_it_is_asked_what_people_were_told(
    tmp_path, monkeypatch
):
    """All in one group: an alarm is raised, the reload comes, and the alarm returns."""
    kept = []
    monkeypatch.setattr("monitor.live.stepper.Tidying", lambda _, keep: kept.append(keep))
    shorter = replace(RETENTION, detail_hours=7)
    before, after = of_cause(Cause.START), of_cause(Cause.RELOAD, shorter)
    raised, returned = (samples((0, t, v), (0, t + 1.5, v)) for t, v in ((1, 9.0), (3, 1.0)))
    with stepping(tmp_path / "data", before, before.epoch, raised, after.epoch, returned) as (
        stepper,
        database,
    ):
        taken = stepper.take(after, after=0)
        stepper.start()
        stepper.stop()
        assert taken.result() is None
        events = [str(event.transition) for event in Store(database).alarm_events()]
        assert events == ["raised", "returned"]
        assert kept == [RETENTION, shorter]
        assert Snapshots(database).latest().record == 4


def test_works_that_were_given_up_before_their_epoch_are_not_taken(tmp_path):
    before, after = of_cause(Cause.START), of_cause(Cause.RELOAD)
    with stepping(tmp_path / "data", before, before.epoch, after.epoch) as (stepper, _):
        taken = stepper.take(after, after=0)
        assert taken.cancel()
        stepper.start()
        stepper.stop()
        assert (stepper.failed, stepper.done) == (None, 2)
        assert after.pipeline.snapshot()["wall"] == 0, "nobody steps with it"


async def test_a_source_that_only_has_another_name_is_closed_before_it_opens(plant):
    made, feeds = plant
    async with plants.serving(made) as running:
        let(feeds, HALF)
        await stepped(running, HALF)
        made.settings["sources"]["attic"] = made.settings["sources"].pop("roof")
        made.settings["assets"]["m2"]["source"] = "attic"
        assert (await asked(made.save()))["error"] == ""
        await until(lambda: feeds["roof"].opened == ["roof", "attic"])
        assert feeds["roof"].most == 1
        standing = await running.service.standing()
        assert set(standing.sources) == {"hall", "attic"}


async def test_an_alarm_of_what_is_taken_out_returns_with_the_reload(plant):
    made, feeds = plant
    async with plants.serving(made) as running:
        let(feeds, HALF)
        await stepped(running, HALF)
        (alarm, *_) = [one for one in running.store.alarms(active_only=True) if one.asset == "m2"]
        source_removed_while_an_alarm_stands(made)
        assert (await asked(made.save()))["error"] == ""
        last = running.store.alarm_events(alarm=alarm.id)[-1]
        assert (last.transition, last.reason) == ("returned", "no longer configured")
        standing = await running.service.standing()
        assert set(standing.sources) == {"hall"}


async def test_after_a_reload_the_state_is_saved_and_a_crash_goes_on_from_there(calm, plant):
    made, feeds = plant
    with pytest.MonkeyPatch.context() as patch:
        async with plants.serving(made, snapshot_s=1000) as running:
            let(feeds, HALF)
            await stepped(running, HALF)
            asset_added_by_retuning(made)
            assert (await asked(made.save()))["error"] == ""
            (epoch,) = [
                number
                for number, record in Journal(running.database).read(0)
                if isinstance(record.body, Epoch) and record.body.cause is Cause.RELOAD
            ]
            saved = Snapshots(running.database).latest()
            assert saved.record == epoch
            assert "m3" in saved.tree["kinds"]["pump"]["assets"]
            let(feeds, HALF + 60)
            await stepped(running, HALF + 60)
            patch.setattr(Stepper, "_save", lambda _: None)  # as if it crashed
    end(feeds)
    await asyncio.to_thread(plants.run, made)
    found = digests(made)
    assert {name: found[name] for name in calm.digests} == calm.digests


async def test_a_sink_that_is_removed_is_forgotten_with_what_it_had_not_got(plant, caplog):
    made, feeds = plant
    made.inbox.rmdir()
    made.inbox.write_text("a file stands in the way", encoding="utf-8")
    async with plants.serving(made) as running:
        let(feeds, HALF)
        await until(lambda: running.status["backlog"].get("inbox"))
        made.settings["sinks"] = {"second": {"type": "files", "folder": "second"}}
        (made.folder / "second").mkdir()
        assert (await asked(made.save()))["error"] == ""
        assert running.status["backlog"].keys() == {"second"}
        assert "Sink inbox is gone; 4 items were not delivered to it." in said(caplog)
        end(feeds)
        await running.task
    assert list((made.folder / "second").glob("*.json")), "what came after the reload"


async def test_points_are_told_of_from_the_moment_that_a_sink_wants_them(plant, monkeypatch):
    monkeypatch.setattr("monitor.live.service.FAREWELL_S", 0.1)
    made, feeds = plant
    async with plants.serving(made) as running:
        let(feeds, HALF)
        await stepped(running, HALF)
        assert running.service.works.points is None
        made.settings["sinks"]["db"] = {
            "type": "influxdb",
            "url": "http://localhost:1",
            "bucket": "b",
            "org": "o",
            "token_env": "HOME",
        }
        assert (await asked(made.save()))["error"] == ""
        let(feeds, HALF + 10)
        await until(lambda: running.status["backlog"]["db"])


async def test_a_stop_in_the_middle_of_a_reload_ends_all_of_it(plant, monkeypatch):
    made, feeds = plant
    async with plants.serving(made) as running:
        let(feeds, 5)
        await stepped(running, 5)
        started, retune = asyncio.Event(), RetunableSource.retune

        async def slowly(source, tags):
            started.set()
            await asyncio.sleep(3600)
            await retune(source, tags)

        monkeypatch.setattr(RetunableSource, "retune", slowly)
        asset_added_by_retuning(made)
        made.save()
        task = running.service.reloading.start()
        await started.wait()
        await asyncio.wait_for(running.stop(), 10)
        assert task.cancelled()


async def test_one_reload_waits_for_the_other(plant):
    made, feeds = plant
    async with plants.serving(made) as running:
        let(feeds, 5)
        await stepped(running, 5)
        limit_changed(made)
        made.save()
        one, other = [running.service.reloading.start() for _ in range(2)]
        assert len((await one).changes) == 1
        assert (await other).changes == ()
