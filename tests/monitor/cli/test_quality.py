"""`watchkeeper quality` as a user and as a script see it."""

import numpy as np
import pytest
from support import plants
from support.commands import watchkeeper


@pytest.fixture
def made(tmp_path):
    return plants.teaching(tmp_path / "plant", "ewma", ticks=400)


def spoil(made, name, value):
    """Another column in place of one of the recording's."""
    columns = plants.columns(made.assets, 400, healthy_only=True)
    plants.write(made.folder / "rig.csv", columns | {name: value})


def test_a_healthy_history_has_nothing_but_its_length_against_it(made):
    said = watchkeeper("quality", made.file)
    assert said.code == 0
    first, finding, *_ = said.out.splitlines()
    assert first.startswith("quality: pump: 3 channels of 3 machines, ")
    assert first.endswith("of frames: 0 severe, 1 warning, 0 notes.")
    assert finding.split()[:4] == ["warning", "all", "little", "history"]
    assert "To do: give a longer history" in said.out
    assert not (made.folder / "model").exists()


def test_what_is_severe_is_said_first_with_what_to_do_and_ends_with_1(made):
    spoil(made, "m1.heat", np.cumsum(np.full(400, 0.5)))
    said = watchkeeper("quality", made.file)
    assert said.code == 1
    assert said.out.splitlines()[1].split() == [
        *("severe", "heat", "counter", "m1:", "only", "rises,", "399", "times")
    ]
    assert "counter: every value to come lies outside what was learnt" in said.out
    assert "To do: model: false; or bring its rate" in said.out

    again = watchkeeper("quality", made.file, "--kind", "pump", "--json")
    assert again.code == 1
    (found,) = again.json
    assert found["channels"] == ["flow", "heat", "load"]
    counter = found["findings"][0]
    assert (counter["issue"], counter["channel"], counter["assets"]) == ("counter", "heat", ["m1"])
    assert counter["severity"] == "severe"
    assert {"means", "do", "words", "share"} <= set(counter)


def test_training_sums_it_up_and_points_to_it(made):
    spoil(made, "m1.heat", np.cumsum(np.full(400, 0.5)))
    said = watchkeeper("train", made.file)
    assert said.code == 0
    line = "quality of that history: 1 severe, 1 warning, 0 notes; `watchkeeper quality` shows each"
    assert line in said.out
    (found,) = watchkeeper("train", made.file, "--json").json
    assert found["quality"] == {"severe": 1, "warning": 1, "note": 0}


def test_it_looks_at_a_kind_that_is_not_to_be_trained_yet(made):
    del made.settings["kinds"]["pump"]["training"]
    made.save()
    said = watchkeeper("quality", made.file)
    assert said.code == 2
    assert "no kind has `training`; name one with --kind" in said.err
    assert watchkeeper("quality", made.file, "--kind", "pump").code == 0
    wrong = watchkeeper("quality", made.file, "--kind", "press")
    assert (wrong.code, "no kind 'press'; there are: pump" in wrong.err) == (2, True)


def test_what_was_rejected_is_said_too(made):
    path = made.folder / "rig.csv"
    lines = path.read_text().splitlines()
    lines[5] = lines[5].replace(lines[5].split(",")[1], "oops", 1)
    path.write_text("\n".join(lines) + "\n")
    assert "rig.csv, line 6, column 'm0.flow': 'oops'" in watchkeeper("quality", made.file).out
