"""Labelled episodes: what is said of a bad table, and what a model that learnt from one says."""

import numpy as np
import pytest
from support import plants
from support.commands import watchkeeper
from support.machines import healthy
from support.plants import CHANNELS, START

from models.bundle import Bundle
from models.naming import UNKNOWN
from monitor.site import plant as rooms
from monitor.site.labels import read
from monitor.site.problems import PlantError
from monitor.state.database import DatabaseReader
from monitor.state.store import Store

TICKS = 1200
HEALTHY = 400
LASTS = 40
# of m0 and m1: 6 times too much flow, 6 times too little load, and each time another fault once
EPISODES = [
    (asset, fault, HEALTHY + 50 + 120 * number)
    for asset in ("m0", "m1")
    for number, fault in enumerate(("surge", "slip") * 3)
]
MOVES = {"surge": ("flow", 25.0), "slip": ("load", -25.0)}


def stamp(tick: int) -> str:
    return str(np.datetime64(START + tick, "s")) + "Z"


def table(rows, *, head="asset,fault,onset,end") -> str:
    return "\n".join([head, *rows]) + "\n"


def labelled(asset, fault, tick, lasts=LASTS) -> str:
    return f"{asset},{fault},{stamp(tick)},{stamp(tick + lasts)}"


@pytest.fixture
def made(tmp_path):
    """Two machines, a model of their healthy beginning that is not trained yet, and labels."""
    made = plants.plant(tmp_path / "plant", assets=2, model=None)
    shown = {}
    for number, name in enumerate(made.assets):
        value = healthy(TICKS, number, channels=len(CHANNELS))
        for asset, fault, tick in EPISODES:
            channel, by = MOVES[fault]
            if asset == name:
                value[tick : tick + LASTS, CHANNELS.index(channel)] += by
        shown |= {f"{name}.{channel}": value[:, c] for c, channel in enumerate(CHANNELS)}
    plants.write(made.folder / "rig.csv", shown)
    kind = made.settings["kinds"]["pump"]
    for channel in CHANNELS:
        settings = kind["channels"][channel]
        settings.pop("limits", None)
        settings["sensor"] = {"jump": False}
    kind["model"] = {"bundle": "model", "device": "cpu"}
    kind["training"] = {
        "until": stamp(HEALTHY),
        "model": dict(plants.MODELS["ewma"]),
        "fit": dict(plants.QUICK),
    }
    kind["diagnosis"] = {"labels": "labels.csv", "memory_ticks": 20, "least_ticks": 5}
    (made.folder / "labels.csv").write_text(table(labelled(*one) for one in EPISODES))
    return made.save()


def refused(made, *rows, head="asset,fault,onset,end") -> str:
    path = made.folder / "labels.csv"
    path.write_text(table(rows, head=head))
    with pytest.raises(PlantError) as caught:
        read(path, made.config(), "pump")
    return str(caught.value).removeprefix(str(path))


# ---- the table ----------------------------------------------------------------------------------


def test_an_asset_that_is_not_there_is_named_with_its_line_and_who_is(made):
    said = refused(made, labelled("m0", "slip", 500), labelled("m11", "slip", 500))
    assert said == ":3: no asset 'm11'. There are m0, m1."


def test_two_faults_of_one_asset_at_once_are_refused(made):
    said = refused(made, labelled("m0", "slip", 520), labelled("m0", "surge", 500))
    assert said.startswith(":2: m0 has slip while line 3 says surge; want one fault at a time")


def test_faults_that_follow_each_other_at_once_do_not_overlap(made):
    path = made.folder / "labels.csv"
    path.write_text(table([labelled("m0", "slip", 500), labelled("m0", "surge", 500 + LASTS)]))
    assert len(read(path, made.config(), "pump")) == 2


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("m0,slip,2026-01-01T00:00:00,2026-01-02T00:00:00Z", ":2: got '2026-01-01T00:00:00' as"),
        ("m0,slip,soon,2026-01-02T00:00:00Z", ":2: got 'soon' as onset, want a time with its zone"),
        ("m0,slip,2026-01-01T00:00:00Z", ":2: got '' as end"),
        ("m0,slip,2026-01-02T00:00:00Z,2026-01-02T00:00:00Z", ":2: ends at 2026-01-02T00:00:00Z"),
        ("m0,,2026-01-01T00:00:00Z,2026-01-02T00:00:00Z", ":2: got '' as a fault"),
        ("m0,unknown,2026-01-01T00:00:00Z,2026-01-02T00:00:00Z", ":2: got 'unknown' as a fault"),
    ],
)
def test_a_row_that_makes_no_sense_is_named_with_its_line(made, row, words):
    assert refused(made, row).startswith(words)


def test_a_table_without_a_column_says_what_it_has(made):
    said = refused(made, "m0,slip,1,2", head="asset,fault,begin,end")
    assert said == ":1: no column onset; got asset, fault, begin, end."


def test_no_table_at_all_is_said(made):
    with pytest.raises(PlantError, match=r"none\.csv: no such file\. Correct `diagnosis\.labels`"):
        read(made.folder / "none.csv", made.config(), "pump")


def test_faults_of_instruments_are_left_to_the_instrument_alarms(made):
    path = made.folder / "labels.csv"
    rows = [f"{labelled('m0', 'frozen', 500)},instrument", f"{labelled('m0', 'slip', 520)},process"]
    path.write_text(table(rows, head="asset,fault,onset,end,family"))
    assert [label.fault for label in read(path, made.config(), "pump")] == ["slip"]


# ---- teaching -----------------------------------------------------------------------------------


def test_a_trained_model_names_the_faults_of_its_labels_in_alarms(made):
    learnt = plants.learn(made)
    assert learnt.taught is not None
    card = learnt.taught.card
    assert card is not None
    assert card.episodes == {"slip": 6, "surge": 6}
    assert card.validation.accuracy == 1.0
    assert learnt.taught.warnings == ()

    assert rooms.unfit(made.config()) == ()
    assert plants.run(made).events == plants.backfill(made).events
    with DatabaseReader(made.data / "backfill") as database:
        alarms = Store(database).alarms()
        events = Store(database).alarm_events()
    right = {(asset, tick + 1): fault for asset, fault, tick in EPISODES}
    named = {}
    for alarm in alarms:
        at = alarm.raised // plants.SECOND - START
        for (asset, tick), fault in right.items():
            if alarm.asset == asset and tick - 2 <= at < tick + LASTS:
                named[asset, tick] = (alarm.diagnosis.fault, fault)
    assert len(named) == len(EPISODES)
    assert {said for said, fault in named.values() if said != fault} == set(), named
    raised = [event.diagnosis.fault for event in events if event.transition == "raised"]
    assert UNKNOWN in raised  # too early then
    shown = watchkeeper("alarms", "list", made.file, "--backfill")
    assert shown.out.replace("\n", " ").count("(looks like s") == len(alarms)
    said = watchkeeper("alarms", "list", made.file, "--backfill", "--json").json
    assert {alarm["diagnosis"]["fault"] for alarm in said} == {"slip", "surge"}


def test_labels_that_teach_nothing_are_named_and_the_model_is_kept(made):
    path = made.folder / "labels.csv"
    path.write_text(
        table(
            [
                *(labelled(*one) for one in EPISODES),
                labelled("m0", "slip", TICKS + 500),  # after all data
                labelled("m1", "surge", 100),  # nothing happened
                labelled("m1", "crash", EPISODES[-1][2] + 200, 5),
            ]
        )
    )
    first, second = plants.learn(made).taught.warnings
    assert f"no data of {path}:14 (m0, slip), {path}:16 (m1, crash)" in first
    assert f"no process alarm of 6 ticks or more in {path}:15 (m1, surge)" in second
    assert Bundle.load(made.folder / "model").diagnosis is not None


def test_labels_of_a_machine_that_the_model_has_not_learnt_from_are_named(made):
    made.settings["kinds"]["pump"]["training"]["assets"] = ["m0"]
    (warning,) = plants.learn(made.save()).taught.warnings
    assert "the model has no healthy days of m1, and sees faults there less clearly" in warning


def test_a_fault_with_one_episode_alone_is_said_not_to_be_checked(made):
    (made.folder / "labels.csv").write_text(
        table(labelled(*one) for one in EPISODES if one[1] == "slip" or one is EPISODES[0])
    )
    taught = plants.learn(made).taught
    assert (
        "one episode alone of surge: how well it is named cannot be checked" in taught.warnings[0]
    )


def test_without_any_episode_the_model_is_kept_without_a_head(made):
    (made.folder / "labels.csv").write_text(table([labelled("m1", "surge", 100)]))
    taught = plants.learn(made).taught
    assert taught.card is None
    assert "no labelled episode can be learnt from" in taught.warnings[-1]
    assert any("the model was taught no faults" in said for said in rooms.unfit(made.config()))
    assert Bundle.load(made.folder / "model").diagnosis is None


def test_a_table_that_is_wrong_stops_before_anything_is_trained(made):
    (made.folder / "labels.csv").write_text(table([labelled("m7", "surge", 100)]))
    with pytest.raises(PlantError, match="no asset 'm7'"):
        plants.learn(made)
    assert not (made.folder / "model").exists()


def test_train_prints_what_is_called_what_and_json_has_it(made):
    said = watchkeeper("train", made.file)
    assert said.code == 0
    out = " ".join(said.out.split())
    assert "names 2 faults, learnt from 12 of 12 labelled episodes: slip, surge" in out
    assert "100% of 12 were named right and 0% called unknown" in out
    (found,) = watchkeeper("train", made.file, "--json").json
    assert found["diagnosis"]["confusion"] == {"slip": {"slip": 6}, "surge": {"surge": 6}}
