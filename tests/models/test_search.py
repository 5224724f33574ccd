import json
import math
from pathlib import Path

import pytest
from support.machines import CHANNELS, QUICK, fleet

from models.search import Trial, best, drawn, search, trials_of
from models.settings import (
    EnsembleSettings,
    EwmaSettings,
    LstmSettings,
    PcaSettings,
    SearchSettings,
)
from models.training import Epoch, Interrupted, train

LSTM = LstmSettings(hidden=4, spans=(1, 4))
SPACE = SearchSettings(hidden=(4, 8), chunk_ticks=(50,))
RUNS = fleet(200, assets=2)


def searched(trials: int = 3, **given: object) -> list[Trial]:
    return search(RUNS, CHANNELS, LSTM, QUICK, SPACE, trials=trials, **given)


@pytest.fixture(scope="module")
def found() -> list[Trial]:
    return searched()


def test_the_first_trial_is_of_the_settings_as_they_are_given(found: list[Trial]) -> None:
    first = found[0]

    assert (first.changed, first.model, first.training) == ({}, LSTM, QUICK)
    assert first.fits == train(RUNS, CHANNELS, LSTM, QUICK).fits[-1:]


def test_the_best_trial_trained_gives_the_loss_that_it_was_chosen_for(found: list[Trial]) -> None:
    chosen = best(found)
    trained = train(RUNS, CHANNELS, chosen.model, chosen.training)

    assert chosen.validation_loss == min(trial.validation_loss for trial in found)
    assert trained.fits[-1:] == chosen.fits
    assert trained.bundle.card.training == chosen.training.model_dump(mode="json")
    assert trained.bundle.card.settings["hidden"] == chosen.model.hidden


def test_the_same_seed_tries_the_same_and_another_seed_something_else() -> None:
    one, again, other = (drawn(SPACE, LSTM, 9, seed) for seed in (0, 0, 1))

    assert one == again
    assert one[1:] != other[1:]
    assert one[:4] == drawn(SPACE, LSTM, 4, 0), "more trials go on from fewer"


def test_points_lie_within_the_space_and_spread_over_it() -> None:
    space = SearchSettings()
    points = drawn(space, LSTM, 65, 0)[1:]

    for name, (low, high) in (("learning_rate", (1e-3, 3e-2)), ("dropout", (0.0, 0.3))):
        values = [point[name] for point in points]
        assert low <= min(values) < max(values) <= high
    logs = [math.log(point["learning_rate"]) for point in points]
    middle = (math.log(1e-3) + math.log(3e-2)) / 2
    assert 28 <= sum(value < middle for value in logs) <= 36
    for size in space.hidden:
        assert 12 <= sum(point["hidden"] == size for point in points) <= 20


def test_what_a_model_does_not_have_is_not_searched() -> None:
    assert "hidden" not in drawn(SPACE, PcaSettings(), 2, 0)[1]


def test_a_search_among_models_without_a_network_is_refused() -> None:
    with pytest.raises(ValueError, match="a model of type ewma has none, for it has no network"):
        search(RUNS, CHANNELS, EwmaSettings(spans=(1, 4)), QUICK, SPACE, trials=2)


def test_all_networks_of_an_ensemble_are_tried_and_the_mean_of_their_losses_counts() -> None:
    both = EnsembleSettings(members=(LSTM, EwmaSettings(spans=(1, 4)), LSTM))
    (trial,) = search(RUNS, CHANNELS, both, QUICK, SPACE, trials=1)

    losses = [fit.validation_loss for fit in trial.fits]
    assert len(set(losses)) == 2
    assert trial.validation_loss == pytest.approx(sum(losses) / 2)


@pytest.mark.parametrize("epochs", [1, 3, 4])
def test_a_search_that_was_stopped_goes_on_and_finds_the_same(
    epochs: int, tmp_path: Path, found: list[Trial]
) -> None:
    checkpoint, told = tmp_path / "c", []
    with pytest.raises(Interrupted):
        searched(
            checkpoint=checkpoint, progress=told.append, should_stop=lambda: len(told) >= epochs
        )
    resumed: list[Epoch] = []

    assert searched(checkpoint=checkpoint, progress=resumed.append) == found
    assert len(told) + len(resumed) == 6, "no epoch was made twice"
    assert [(now.what, now.fit, now.fits, now.epoch) for now in [*told, *resumed]] == [
        ("trial", number, 3, epoch) for number in (1, 2, 3) for epoch in (1, 2)
    ]
    assert not checkpoint.exists()
    assert len(json.loads((trials_of(checkpoint) / "trials.json").read_bytes())) == 3


def test_trials_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    folder = trials_of(tmp_path / "c")
    folder.mkdir()
    (folder / "trials.json").write_text("[]")
    with pytest.raises(ValueError, match=r"no trials of a search: .* Remove it to start anew"):
        searched(checkpoint=tmp_path / "c")
