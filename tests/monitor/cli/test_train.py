"""`watchkeeper train` as a user and as a script see it."""

import shutil
import signal

import numpy as np
import pytest
from support import plants
from support.commands import process, watchkeeper

from models.bundle import Bundle


@pytest.fixture
def made(tmp_path):
    return plants.teaching(tmp_path / "plant", "ewma", ticks=200)


def kind_of(made):
    return made.settings["kinds"]["pump"]


def test_training_says_what_it_made_and_how_sure_it_is(made):
    said = watchkeeper("train", made.file)
    assert said.code == 0
    assert "trained: pump on 600 frames of 1,800 samples" in said.out
    assert "provisional" in said.out
    assert Bundle.load(made.folder / "model").card.threshold is not None


def test_for_scripts_it_is_json(made):
    said = watchkeeper("train", made.file, "--kind", "pump", "--json")
    (found,) = said.json
    assert found["kind"] == "pump"
    assert found["frames"] == 600
    assert found["provisional"] is True
    assert found["threshold"] == Bundle.load(found["path"]).card.threshold


def test_each_model_of_the_cross_fit_is_told_with_what_to_do_about_it(tmp_path):
    made = plants.teaching(tmp_path / "plant", "gru", ticks=200, epochs=1)
    said = watchkeeper("train", made.file)
    assert said.code == 0
    lines = said.out.splitlines()
    models = [line for line in lines if line.startswith("    model ")]
    assert len(models) == 4
    assert models[0].startswith("    model 1 of 4: 1 epoch, training loss ")
    assert models[3].startswith("    model 4 of 4, the one that is kept: 1 epoch")
    assert all(line.endswith("stopped at the epoch limit") for line in models)
    assert "each machine was judged by a model that never saw it" in said.out
    want = "raise kinds.pump.training.fit.epochs above 1"
    assert sum(want in line for line in lines) == 4

    made = plants.teaching(tmp_path / "other", "gru", ticks=200, epochs=40, patience=1)
    (found,) = watchkeeper("train", made.file, "--json").json
    assert [fit["stopped_early"] for fit in found["models"]] == [True] * 4
    assert all(fit["validation_loss"] < fit["mean_loss"] for fit in found["models"])
    assert all(fit["beats_mean"] for fit in found["models"])
    assert found["warnings"] == []


def test_a_model_that_is_no_better_than_the_mean_is_called_that(tmp_path):
    made = plants.teaching(tmp_path / "plant", "gru", ticks=200, epochs=1)
    noise = np.random.default_rng(0).normal(50.0, 1.0, (200, 9))
    names = [f"{asset}.{channel}" for asset in made.assets for channel in plants.CHANNELS]
    plants.write(made.folder / "rig.csv", dict(zip(names, noise.T, strict=True)))
    (found,) = watchkeeper("train", made.file, "--json").json
    assert not any(fit["beats_mean"] for fit in found["models"])
    assert sum("no better than the mean" in warning for warning in found["warnings"]) == 4


def test_a_search_shows_what_it_tried_and_keeps_the_best(tmp_path):
    pytest.importorskip("tensorboard")
    made = plants.teaching(tmp_path / "plant", "gru", ticks=200, epochs=1)
    kind_of(made)["training"]["search"] = {"hidden": [4, 8], "chunk_ticks": [50]}
    made.save()
    said = watchkeeper("train", made.file, "--search", "3", "--tensorboard", tmp_path / "runs")
    assert said.code == 0
    lines = said.out.splitlines()
    start = lines.index("    3 trials, the best is kept:")
    assert lines[start + 1].split()[:4] == ["validation", "epochs", "learning_rate", "hidden"]
    rows = [line.removeprefix("        as given").split() for line in lines[start + 2 : start + 5]]
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    card = Bundle.load(made.folder / "model").card
    assert rows[0][2:4] == [f"{card.training['learning_rate']:g}", str(card.settings["hidden"])]
    runs = {run.name for run in (tmp_path / "runs" / "pump").iterdir()}
    assert runs == {f"trial-{n}" for n in (1, 2, 3)} | {f"model-{n}" for n in (1, 2, 3, 4)}
    assert sorted(path.name for path in made.folder.glob("model*")) == ["model", "model.lock"]

    (found,) = watchkeeper("train", made.file, "--search", "3", "--json").json
    losses = [trial["validation_loss"] for trial in found["trials"]]
    assert found["models"][-1]["validation_loss"] == min(losses)
    assert found["trials"][0]["changed"] == {}


def test_a_search_wants_a_network(made):
    said = watchkeeper("train", made.file, "--search", "2")
    assert said.code == 4
    assert "a search compares validation losses: a model of type ewma has none" in said.err


def test_a_single_machine_is_held_out_block_by_block(tmp_path):
    made = plants.teaching(tmp_path / "plant", "ewma", ticks=400)
    made.settings["kinds"]["pump"]["training"]["assets"] = ["m0"]
    said = watchkeeper("train", made.save().file)
    assert said.code == 0
    assert "each block of its time was judged by a model that never saw it" in said.out


def test_a_kind_without_training_cannot_be_asked_for(made):
    said = watchkeeper("train", made.file, "--kind", "press")
    assert (said.code, said.out) == (2, "")
    assert "no kind 'press' with `training`; there are: pump." in said.err
    del kind_of(made)["training"]
    said = watchkeeper("train", made.save().file)
    assert said.code == 2
    assert "no kind has `training`" in said.err


def test_a_kind_with_training_and_no_place_for_its_model_is_said(made):
    del kind_of(made)["model"]
    said = watchkeeper("train", made.save().file)
    assert said.code in (2, 4)
    assert "model" in said.err


def test_a_history_that_will_not_do_is_refused_in_words(made):
    plants.write(made.folder / "rig.csv", plants.columns(made.assets, 30))
    said = watchkeeper("train", made.file)
    assert said.code == 4
    assert "kind pump: training: want at least" in said.err
    assert not (made.folder / "model").exists()


def test_a_history_that_is_not_there_may_come(made):
    (made.folder / "rig.csv").unlink()
    said = watchkeeper("train", made.file)
    assert said.code == 3
    assert "no file matches" in said.err
    assert "rying again" not in said.err, "it does not"


def test_a_history_without_a_sample_in_its_span_names_the_span(made):
    kind_of(made)["training"]["until"] = "2001-01-01T00:00:00Z"
    said = watchkeeper("train", made.save().file)
    assert said.code == 2
    assert "kind pump: no sample in the history of m0, m1, m2 from ... to 2001-01-01" in said.err
    assert "look at training.since and training.until" in said.err


def test_a_column_that_is_not_there_is_refused(made):
    plants.write(made.folder / "rig.csv", {"m0.flow": plants.values(0)[:, 0]})
    said = watchkeeper("train", made.file)
    assert said.code == 2
    assert "no column 'm0.heat'" in said.err


def test_what_was_rejected_of_the_history_is_told_and_nothing_is_learnt_from_nothing(made):
    path = made.folder / "rig.csv"
    good = path.read_text()
    lines = good.splitlines()
    lines[5] = lines[5].replace(lines[5].split(",")[1], "oops", 1)
    path.write_text("\n".join(lines) + "\n")
    said = watchkeeper("train", made.file)
    assert said.code == 0
    assert "warning: source rig: 1 of 1,800 samples (0.1 %) were rejected: " in said.out
    assert "rig.csv, line 6, column 'm0.flow': 'oops'" in said.out
    (found,) = watchkeeper("train", made.file, "--json").json
    assert "rig.csv, line 6" in found["warnings"][0]

    path.write_text(good)
    made.settings["sources"]["rig"]["time_format"] = "epoch_ms"  # and all of it is in 1970
    said = watchkeeper("train", made.save().file)
    assert said.code == 2
    assert "source rig: all 1,800 samples were rejected: 1,800 ancient (stamped before" in said.err


def test_a_configuration_that_is_wrong_is_said_before_anything_is_read(made):
    kind_of(made)["training"]["model"]["spans"] = "many"
    said = watchkeeper("train", made.save().file)
    assert said.code == 2
    assert "kinds.pump.training.model.spans" in said.err


# Says when an epoch is done, so that the test knows when to interrupt.
TELLING = """
from models.gradient import GradientFit
run = GradientFit.run_epoch
def told(self, *given):
    losses = run(self, *given)
    print("epoch", flush=True)
    return losses
GradientFit.run_epoch = told
"""


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_ctrl_c_keeps_a_checkpoint_and_the_same_command_goes_on_to_the_same_model(tmp_path):
    calm = plants.teaching(tmp_path / "calm", "gru", ticks=200, epochs=6, patience=6)
    made = plants.teaching(tmp_path / "plant", "gru", ticks=200, epochs=6, patience=6)
    plants.learn(calm)
    for epochs in (3, 5):
        with process("train", made.file, before=TELLING) as training:
            for _ in range(epochs):
                assert training.stdout.readline() == "epoch\n"
            training.send_signal(signal.SIGINT)
            _, err = training.communicate(timeout=20)
        assert training.returncode == 130, err
        assert "the checkpoint is kept" in err
        assert "the same training goes on from" in err
        assert not (made.folder / "model").exists()
    said = watchkeeper("train", made.file)
    assert said.code == 0
    assert Bundle.load(made.folder / "model").hash == Bundle.load(calm.folder / "model").hash


def test_a_checkpoint_that_is_none_is_refused(tmp_path):
    made = plants.teaching(tmp_path / "plant", "gru", ticks=200)
    (made.folder / "model.checkpoint").mkdir()
    said = watchkeeper("train", made.file)
    assert said.code == 4
    assert "no checkpoint of a training" in said.err
    shutil.rmtree(made.folder / "model.checkpoint")
