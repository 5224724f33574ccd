"""`watchkeeper adopt` as a user and as a script see it: a machine that came after the training."""

import re
import shutil

import pytest
import yaml
from support.commands import watchkeeper

from models.bundle import Bundle
from monitor.site.simulate.recordings import Form, Recordings, write
from monitor.site.simulate.unit import DAY_MS

BEGIN_MS = 20_454 * DAY_MS
DAY = "2026-01-02T00:00:00Z"  # the end of the first one


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Three tanks over two days; a model of the first two."""
    folder = tmp_path_factory.mktemp("site") / "plant"
    what = Recordings(
        machines={"tank": 3},
        seed=3,
        begin_ms=BEGIN_MS,
        days=2,
        period_ms=300_000,
        healthy_ms=BEGIN_MS + 2 * DAY_MS,
        form=Form.PARQUET,
    )
    write(what, folder, progress=lambda _name, _share: None)
    settings = yaml.safe_load((folder / "plant.yaml").read_text(encoding="utf-8"))
    settings["kinds"]["tank"]["training"] |= {
        "assets": ["tank_1", "tank_2"],
        "model": {"type": "ewma", "spans": [1, 4]},
    }
    (folder / "plant.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    assert watchkeeper("train", folder / "plant.yaml").code == 0
    return folder


@pytest.fixture
def made(site, tmp_path):
    return shutil.copytree(site, tmp_path / "plant")


def card_of(made):
    return Bundle.load(made / "models" / "tank").card


def test_a_machine_that_came_later_gets_its_own_scaling_and_nothing_else_changes(made):
    before = card_of(made)
    warned = watchkeeper("check", made / "plant.yaml").out
    assert "has none of tank_3" in warned
    said = watchkeeper("adopt", made / "plant.yaml", "tank_3")
    assert said.code == 0
    assert said.out.startswith("adopted: tank_3, by ")
    after = card_of(made)
    assert set(after.own) == {"tank_1", "tank_2", "tank_3"}
    assert after.own["tank_3"].scaling != after.scaling
    assert after.model_copy(update={"own": before.own}) == before
    assert "has none of" not in watchkeeper("check", made / "plant.yaml").out


def test_what_was_adopted_is_what_the_step_scores_by(made):
    figures = []
    for _ in range(2):
        watchkeeper("backfill", made / "plant.yaml")
        status = watchkeeper("backfill", made / "plant.yaml", "--json").json
        figures.append(status["assets"])
        assert watchkeeper("adopt", made / "plant.yaml", "tank_3").code == 0
    (first, second) = figures
    assert [one["not_learnt"] for one in first.values()] == [False, False, True]
    assert not any(one["not_learnt"] for one in second.values())
    assert first["tank_1"]["surprise"] == second["tank_1"]["surprise"]
    assert first["tank_3"]["surprise"] > second["tank_3"]["surprise"]


def test_for_scripts_it_is_json(made):
    found = watchkeeper("adopt", made / "plant.yaml", "tank_3", "--until", DAY, "--json").json
    assert (found["asset"], found["kind"], found["pooled"]) == ("tank_3", "tank", [])
    assert found["learnt"] == card_of(made).own["tank_3"].learnt.model_dump()
    assert found["learnt"]["frames"] == 289, "midnight and midnight"


def test_too_little_history_is_refused_and_the_model_stays_as_it_was(made):
    before = card_of(made)
    half = "2026-01-01T12:00:00Z"
    said = watchkeeper("adopt", made / "plant.yaml", "tank_3", "--until", half)
    assert said.code != 0
    assert "want at least 24 h of healthy running in which some channel moves, got 12." in said.err
    assert card_of(made) == before


def test_since_alone_that_is_after_the_end_of_training_asks_for_until(made):
    settings = yaml.safe_load((made / "plant.yaml").read_text(encoding="utf-8"))
    settings["kinds"]["tank"]["training"]["until"] = DAY
    (made / "plant.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    said = watchkeeper("adopt", made / "plant.yaml", "tank_3", "--since", DAY)
    assert said.code != 0
    assert "training.until: give --since and --until" in " ".join(said.err.split())


def test_a_machine_that_is_not_there_is_named_with_those_that_are(made):
    said = watchkeeper("adopt", made / "plant.yaml", "tank_9")
    assert said.code == 2
    assert "no asset 'tank_9'; there are: tank_1, tank_2, tank_3" in said.err


def test_a_new_training_says_whom_it_forgets_and_how_to_adopt_them_again(made):
    assert watchkeeper("adopt", made / "plant.yaml", "tank_3", "--until", DAY).code == 0
    before = card_of(made).own["tank_3"]
    said = watchkeeper("train", made / "plant.yaml")
    assert set(card_of(made).own) == {"tank_1", "tank_2"}
    (again,) = re.findall(r"tank_3 had been adopted, .*: watchkeeper (adopt .*)", said.out)
    assert watchkeeper(*again.split()).code == 0
    assert card_of(made).own["tank_3"] == before
    assert watchkeeper("train", made / "plant.yaml", "--json").json[0]["forgotten"] == ["tank_3"]


def test_a_kind_without_a_model_adopts_nobody(made):
    shutil.rmtree(made / "models")
    said = watchkeeper("adopt", made / "plant.yaml", "tank_3")
    assert said.code != 0
    assert "no model in" in said.err
