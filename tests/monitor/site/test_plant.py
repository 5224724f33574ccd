"""The rooms put together: what can be worked with, and what is said of what cannot."""

import json
import os
import shutil
from datetime import UTC, datetime

import pytest
from support import plants
from support.plants import CHANNELS, TICKS

from connectors.contract import NotReadyError, RefusedError
from models.bundle import Bundle
from models.training import Interrupted
from monitor.site import plant as rooms
from monitor.site.healthy import ns
from monitor.site.problems import ModelMissingError, PlantError
from monitor.state.errors import LockedError


@pytest.fixture
def made(tmp_path):
    return plants.plant(tmp_path / "plant", assets=1)


def kind_of(made):
    return made.settings["kinds"]["pump"]


def problem(made):
    """What is said when its model is asked for."""
    made.save()
    with pytest.raises(PlantError) as caught:
        rooms.bundles(made.config())
    return str(caught.value)


# ---- models -------------------------------------------------------------------------------------


def test_a_model_that_fits_is_loaded(made):
    (bundle,) = rooms.bundles(made.config()).values()
    assert [channel.name for channel in bundle.card.channels] == list(CHANNELS)


def test_a_kind_may_do_without_a_model(made):
    del kind_of(made)["model"], kind_of(made)["training"]
    assert rooms.bundles(made.save().config()) == {}


def test_a_model_that_was_not_made_yet_says_how_to_make_it(made):
    shutil.rmtree(made.folder / "model")
    with pytest.raises(ModelMissingError, match=r"kind pump: no model in .*`watchkeeper train`"):
        rooms.bundles(made.config())


def test_a_model_of_another_tick_does_not_fit(made):
    kind_of(made)["tick_ms"] = 500
    assert "kind pump: this ewma model does not fit: want tick_ms 1000, got 500" in problem(made)


def test_a_model_of_other_channels_does_not_fit(made):
    channels = kind_of(made)["channels"]
    channels["speed"] = channels.pop("heat")
    channels["flow"]["unit"] = "mbar"
    tags = made.settings["assets"]["m0"]["tags"]
    tags["speed"] = tags.pop("heat")
    said = problem(made)
    assert "channel 'heat' is missing" in said
    assert "channel 'speed' is not one of the model's" in said
    assert "channel 'flow': want unit 'bar', got 'mbar'" in said
    assert said.endswith("train a model for it.")


def test_a_channel_the_model_does_not_see_may_be_anything(made):
    kind_of(made)["channels"]["speed"] = {"unit": "Hz", "model": False}
    made.save()
    assert list(rooms.bundles(made.config())) == ["pump"]


@pytest.mark.parametrize("model", ["gru", "ewma"])
def test_weights_that_were_cut_short_are_refused(model, tmp_path):
    made = plants.plant(tmp_path / "plant", assets=1, model=model)
    weights = made.folder / "model" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    assert "weights.safetensors: not the weights of this card" in problem(made)


def test_the_weights_of_another_model_are_refused(made):
    shutil.copy(plants.trained("lstm") / "weights.safetensors", made.folder / "model")
    assert "not the weights of this card" in problem(made)


def test_models_that_will_be_refused_are_found_beforehand(made):
    assert rooms.unfit(made.config()) == ()
    kind_of(made)["channels"]["flow"]["unit"] = "l/s"
    (words,) = rooms.unfit(made.save().config())
    assert words.startswith("kind pump: this ewma model does not fit: channel 'flow': want unit ")
    shutil.rmtree(made.folder / "model")
    assert rooms.unfit(made.config()) == ()
    kind_of(made).pop("model")
    kind_of(made).pop("training")
    assert rooms.unfit(made.save().config()) == ()


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"[]", b'{"kind": "gru"}', b'{"schema_version": 99}']
)
def test_a_card_that_is_none_is_refused(content, made):
    (made.folder / "model" / "card.json").write_bytes(content)
    assert str(made.folder / "model" / "card.json") in problem(made)


def test_a_card_of_an_unknown_kind_is_refused(made):
    path = made.folder / "model" / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"kind": "oracle"}))
    assert "oracle" in problem(made)


def test_a_device_that_is_not_here_is_said_in_words(made, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    kind_of(made)["model"]["device"] = "cuda"
    assert problem(made) == (
        "kind pump: device cuda: torch finds no CUDA device here; use auto or cpu"
    )


def test_a_model_without_a_threshold_needs_one_in_the_configuration(made):
    folder = made.folder / "model"
    bundle = Bundle.load(folder)
    shutil.rmtree(folder)
    Bundle(bundle.card.model_copy(update={"threshold": None}), bundle.detector).save(folder)
    with pytest.raises(PlantError, match=r"alarm\.threshold is auto"):
        plants.run(made)
    with pytest.raises(PlantError, match=r"alarm\.threshold is auto"):
        plants.backfill(made)
    kind_of(made)["alarm"]["threshold"] = 4.0
    assert plants.run(made.save()).summary["frames"] == TICKS


# ---- training -----------------------------------------------------------------------------------


def test_training_says_what_it_was_made_from(tmp_path):
    made = plants.teaching(tmp_path / "plant", "ewma", ticks=200)
    learnt = plants.learn(made)
    assert learnt.samples == 3 * 200 * len(CHANNELS)
    assert learnt.frames == 3 * 200
    assert 0 < learnt.support.healthy_days * 86_400 <= 600
    card = Bundle.load(learnt.path).card
    assert card.threshold == learnt.threshold
    assert card.provisional
    assert sorted(card.data) == ["m0", "m1", "m2"]


def test_only_the_assets_and_the_time_that_were_named_are_learnt(tmp_path):
    made = plants.teaching(tmp_path / "plant", "ewma")
    since = datetime.fromtimestamp(plants.START + 99, UTC)
    until = datetime.fromtimestamp(plants.START + 299, UTC)
    kind_of(made)["training"] |= {
        "assets": ["m0", "m2"],
        "since": since.isoformat(),
        "until": until.isoformat(),
    }
    learnt = plants.learn(made.save())
    assert learnt.frames == 2 * 200
    card = Bundle.load(learnt.path).card
    assert sorted(card.data) == ["m0", "m2"]
    assert {data.first for data in card.data.values()} == {(plants.START + 100) * plants.SECOND}


def test_ticks_much_shorter_than_the_distance_of_the_samples_are_said_before_training(
    tmp_path, caplog
):
    made = plants.teaching(tmp_path / "plant", "ewma", ticks=200)
    plants.learn(made)
    assert caplog.messages == []
    kind_of(made)["tick_ms"] = 100
    plants.learn(made.save())
    (words,) = caplog.messages
    assert words.startswith("kind pump: a frame each 0.1 s, but a sample of each tag only each 0.9")
    assert "set kinds.pump.tick_ms" in words


def test_a_model_that_could_not_be_saved_is_not_trained(tmp_path):
    made = plants.teaching(tmp_path / "plant", "ewma", ticks=200)
    (made.folder / "models").write_text("a file, not a folder")
    kind_of(made)["model"]["bundle"] = "models/pump"
    (made.folder / "rig.csv").unlink()  # not even read
    with pytest.raises(FileExistsError):
        plants.learn(made.save())


def test_a_model_is_trained_by_one_process_at_a_time(tmp_path):
    made = plants.teaching(tmp_path / "plant", "gru", ticks=200, epochs=1)
    refused = []

    def again(*_):
        if not refused:
            with pytest.raises(LockedError) as caught:
                plants.learn(made)
            refused.append(caught.value)

    plants.learn(made, progress=again)
    (error,) = refused
    assert error.pid == os.getpid()
    assert (
        f"kind pump: process {os.getpid()} is training or changing {made.folder / 'model'}. "
        in str(error)
    )
    plants.learn(made)  # it has let go


def test_a_time_of_the_configuration_is_exact():
    moment = datetime(2026, 3, 1, 6, 0, 0, 7_001, UTC)
    assert ns(moment) == 1_772_344_800_007_001_000


@pytest.mark.parametrize("model", ["gru", "lstm"])
def test_a_training_that_was_stopped_goes_on_to_the_same_model(model, tmp_path):
    calm = plants.teaching(tmp_path / "calm", model, ticks=200)
    made = plants.teaching(tmp_path / "plant", model, ticks=200)
    plants.learn(calm)
    stops = 0
    for patience in (3, 40, 90, 10_000):
        asked = iter(range(10_000))
        try:
            plants.learn(made, should_stop=lambda a=asked, p=patience: next(a) >= p)
        except Interrupted:
            stops += 1
            assert (made.folder / "model.checkpoint").is_dir()
            assert not (made.folder / "model").exists()
    assert stops >= 2
    assert Bundle.load(made.folder / "model").hash == Bundle.load(calm.folder / "model").hash
    assert not (made.folder / "model.checkpoint").exists()


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    made = plants.teaching(tmp_path / "plant", "gru", ticks=200)
    with pytest.raises(Interrupted):
        plants.learn(made, should_stop=lambda: True)
    kind_of(made)["training"]["fit"]["seed"] = 7
    with pytest.raises(PlantError, match="a checkpoint of another training"):
        plants.learn(made.save())


@pytest.mark.parametrize("missing", ["model", "training"])
def test_a_kind_that_cannot_be_trained_says_what_it_lacks(missing, tmp_path):
    made = plants.teaching(tmp_path / "plant", "ewma", ticks=200)
    del kind_of(made)[missing]
    with pytest.raises(PlantError, match=r"kind pump: wants `training` and `model\.bundle`"):
        plants.learn(made.save())


def test_a_history_that_is_too_short_is_said(tmp_path):
    made = plants.teaching(tmp_path / "plant", "ewma", ticks=30)
    with pytest.raises(PlantError, match="kind pump: training: want at least"):
        plants.learn(made)


def test_a_history_in_which_the_machine_never_ran_is_said(tmp_path):
    made = plants.teaching(tmp_path / "plant", "ewma", ticks=200)
    kind_of(made)["running"] = {"channel": "flow", "above": 1e6}
    with pytest.raises(PlantError, match=r"kind pump: training: no frame in which .* `running`"):
        plants.learn(made.save())


def test_a_history_that_is_not_there_or_not_right_is_the_connectors_word(tmp_path):
    made = plants.teaching(tmp_path / "plant", "ewma", ticks=200)
    plants.write(made.folder / "rig.csv", {"m0.flow": plants.values(0)[:, 0]})
    with pytest.raises(RefusedError, match="no column"):
        plants.learn(made)
    (made.folder / "rig.csv").unlink()
    with pytest.raises(NotReadyError, match="no file matches"):
        plants.learn(made)
