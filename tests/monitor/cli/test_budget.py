"""`watchkeeper budget` as a user and as a script see it."""

import json
import shutil

import pytest
from support import plants
from support.commands import watchkeeper

from models.bundle import Bundle
from monitor.core.records import AlarmClass
from monitor.state.database import DatabaseReader
from monitor.state.store import Store

LOOSE = ("--per-asset", 30_000, "--per-site", 1_000_000)


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    """A plant of two machines, of which one was faulty, that ran."""
    made = plants.plant(tmp_path_factory.mktemp("lived") / "plant", assets=2)
    plants.run(made)
    return made


@pytest.fixture
def made(lived, tmp_path):
    shutil.copytree(lived.folder, tmp_path / "plant")
    return plants.Plant(tmp_path / "plant", json.loads(json.dumps(lived.settings)))


def test_its_episodes_are_the_process_alarms_of_the_live_run(made):
    found = watchkeeper("budget", made.file, "--json").json
    with DatabaseReader(made.data) as database:
        alarms = [one for one in Store(database).alarms() if one.alarm_class is AlarmClass.PROCESS]
    live = sorted((one.asset, one.raised, one.changed) for one in alarms)
    assert [(one["asset"], one["raised_ns"], one["returned_ns"]) for one in found["episodes"]] == (
        live
    )
    assert found["alarms"] == len(live) == 2
    assert found["kinds"]["pump"]["threshold"] == found["kinds"]["pump"]["in_force"]
    assert found["assets"]["m0"]["alarms"] == 0
    assert found["assets"]["m1"]["months"] == {"2023-11": 2}
    assert found["weeks"] == {"2023-W46": 2}
    first, _ = found["episodes"]
    assert max(first["channels"], key=first["channels"].get) == "flow"
    assert first["lasted_s"] >= 30


def test_for_people_it_says_that_a_short_history_is_provisional(made):
    said = watchkeeper("budget", made.file)
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[0] == "budget   1 alarm per asset in 30 days, 10 per site in a week"
    assert "provisional: 19.5 min of healthy time cannot say; 89.9 days would" in said.out
    (chosen,) = (line for line in lines if line.lstrip().startswith(">"))
    assert chosen.split()[1] == "1"
    assert chosen.endswith("provisional")
    assert "alarms   2 would have been raised" in said.out
    assert any(line.startswith("2023-11-14 23:15:") and "m1" in line for line in lines)


def test_a_larger_budget_never_has_a_higher_threshold(made):
    (kind,) = watchkeeper("budget", made.file, *LOOSE, "--json").json["kinds"].values()
    levels = kind["levels"]
    asked = [level["per_asset_30_days"] for level in levels]
    thresholds = [level["threshold"] for level in levels]
    assert asked == sorted(asked)
    assert thresholds == sorted(thresholds, reverse=True)
    assert thresholds[0] > thresholds[-1]
    assert [level["chosen"] for level in levels] == [False, False, True, False, False]


def test_the_budget_of_the_site_is_shared_by_its_machines(made):
    found = watchkeeper("budget", made.file, "--per-site", 0.14, "--json").json
    assert found["budget"]["each_asset_30_days"] == pytest.approx(0.3)
    assert ": 0.3 for each asset" in watchkeeper("budget", made.file, "--per-site", 0.14).out


def test_another_budget_is_put_on_the_card_without_training(made):
    before = Bundle.load(made.folder / "model").card
    said = watchkeeper("budget", made.file, *LOOSE)
    assert "chosen for another budget; --apply puts" in said.out
    assert Bundle.load(made.folder / "model").card == before
    found = watchkeeper("budget", made.file, *LOOSE, "--apply", "--json").json["kinds"]["pump"]
    after = Bundle.load(made.folder / "model").card
    assert after.threshold == found["threshold"] == found["in_force"] < before.threshold
    assert not after.provisional
    assert after.support.per_asset_30_days == 30_000
    assert after.weights_sha256 == before.weights_sha256
    again = watchkeeper("budget", made.file, "--apply", "--json").json["kinds"]["pump"]
    assert again["threshold"] == before.threshold
    assert Bundle.load(made.folder / "model").card == before


def test_other_delays_than_those_it_was_counted_with_are_said_and_not_applied(made):
    made.settings["kinds"]["pump"]["alarm"]["on_delay_s"] = 3.0
    made.save()
    assert "`alarm` has changed since it was trained" in watchkeeper("budget", made.file).out
    said = watchkeeper("budget", made.file, "--apply")
    assert said.code == 4
    assert "counted with other delays. Train it again." in said.err
    assert "chosen for other delays; train it again" in watchkeeper("check", made.file).out


def test_check_says_where_a_threshold_is_of_another_budget(made):
    assert "alarm_budget" not in watchkeeper("check", made.file).out
    made.settings["site"]["alarm_budget"] = {"per_asset_30_days": 2}
    said = watchkeeper("check", made.save().file)
    assert "leaves 2 alarms to each asset in 30 days" in said.out
    assert "was chosen for 1; `watchkeeper budget --apply`" in said.out
    made.settings["kinds"]["pump"]["alarm"]["threshold"] = 4
    assert "alarm_budget" not in watchkeeper("check", made.save().file).out


def test_a_threshold_by_hand_stands_whatever_the_budget(made):
    made.settings["kinds"]["pump"]["alarm"]["threshold"] = 3.0
    before = Bundle.load(made.save().folder / "model").hash
    found = watchkeeper("budget", made.file, "--apply", "--json").json["kinds"]["pump"]
    assert found["by_hand"]
    assert found["threshold"] == found["in_force"] == 3.0
    assert [level["threshold"] for level in found["levels"]] == [4.0, 3.5, 3.0, 2.5, 2.0]
    assert "as the configuration says" in watchkeeper("budget", made.file).out
    assert Bundle.load(made.folder / "model").hash == before


def test_a_model_from_before_budgets_is_shown_at_its_threshold(made):
    card = made.folder / "model" / "card.json"
    content = json.loads(card.read_text())
    del content["support"]
    card.write_text(json.dumps(content))
    said = watchkeeper("budget", made.file)
    assert said.code == 0
    assert "of a model from before budgets: train it again (provisional)" in said.out
    assert "Train it again." in watchkeeper("budget", made.file, "--apply").err


def test_a_picture_shows_each_kind_the_weeks_and_the_months(made, tmp_path):
    said = watchkeeper("budget", made.file, "--picture", tmp_path / "budget.png")
    assert said.code == 0
    assert (tmp_path / "budget.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--per-asset", 0], 2, "--per-asset: got 0, want more than 0"),
        (["--per-site", "nan"], 2, "--per-site: got nan, want more than 0"),
        (["--since", "soon"], 2, "--since: got 'soon'"),
        (["--since", "2030-01-01T00:00:00Z"], 2, "no frame of the history could be scored"),
        (["--until", "2023-11-14T22:13:25Z"], 2, "longer than the model's warm-up"),
    ],
)
def test_what_cannot_be_done_is_said_with_what_to_do(made, options, code, words):
    said = watchkeeper("budget", made.file, *options)
    assert (said.code, said.out) == (code, "")
    assert words in said.err


def test_without_a_model_there_is_nothing_to_ask(made):
    shutil.rmtree(made.folder / "model")
    said = watchkeeper("budget", made.file)
    assert said.code == 3
    assert "`watchkeeper train` makes it" in said.err
    del made.settings["kinds"]["pump"]["model"], made.settings["kinds"]["pump"]["training"]
    said = watchkeeper("budget", made.save().file)
    assert said.code == 4
    assert "no kind has a model" in said.err


def test_what_was_rejected_of_the_history_is_told(made):
    made.settings["sources"]["rig"]["time_format"] = "epoch_ms"  # and all of it is in 1970
    said = watchkeeper("budget", made.save().file)
    assert said.code == 2
    assert "source rig: all 1,800 samples were rejected" in said.err


def test_status_says_where_more_was_raised_than_is_acceptable(made):
    lines = watchkeeper("status", made.file).out.splitlines()
    (over,) = (line for line in lines if line.startswith("alarms   m1: "))
    assert over.endswith("; of its model in 30 days 2, over the budget of 1")
    assert "alarms   m0: 0; of its model in 30 days 0, of a budget of 1" in lines
    assert "alarms   site, of models in 7 days: 2, of a budget of 10" in lines
    budget = watchkeeper("status", made.file, "--json").json["budget"]
    assert (budget["over"], budget["site_over"]) == (["m1"], False)
    made.settings["site"]["alarm_budget"] = {"per_asset_30_days": 5, "per_site_week": 1}
    budget = watchkeeper("status", made.save().file, "--json").json["budget"]
    assert (budget["over"], budget["site_over"], budget["alarms_week"]) == ([], True, 2)
