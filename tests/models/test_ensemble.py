import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from support.machines import CHANNELS, QUICK, column, fleet, healthy

from models.bundle import Bundle
from models.contract import Judgement
from models.ensemble import Ensemble
from models.settings import (
    DetectorSettings,
    EnsembleSettings,
    EwmaSettings,
    GruSettings,
    PcaSettings,
    TrainingSettings,
)
from models.training import train

EWMA = EwmaSettings(spans=(1, 4), warmup_ticks=16)
PCA = PcaSettings(span=4, warmup_ticks=16)
BOTH = EnsembleSettings(members=(EWMA, PCA))


def trained(settings: DetectorSettings, training: TrainingSettings = QUICK) -> Bundle:
    return train(fleet(300), CHANNELS, settings, training).bundle


@pytest.fixture(scope="module")
def together() -> Bundle:
    return trained(BOTH)


@pytest.fixture(scope="module")
def alone() -> list[Bundle]:
    return [trained(EWMA), trained(PCA)]


def judged(bundle: Bundle) -> list[Judgement]:
    """What it makes of a machine that goes wrong in its second channel."""
    value = healthy(200, 9)
    value[100:, 1] += 3.0
    state, found = bundle.initial(1), []
    for row in value:
        judgement, state = bundle.step(row[None], np.ones((1, 4), np.bool_), state)
        found.append(judgement)
    return found


def of_members(bundles: list[Bundle], name: str) -> NDArray[np.float32]:
    """One column of what each says alone, [M, T, ...]."""
    return np.stack([column(judged(bundle), name)[:, 0] for bundle in bundles])


def test_a_member_learns_what_it_would_learn_alone(together: Bundle, alone: list[Bundle]) -> None:
    learnt = together.detector.tensors()

    for n, bundle in enumerate(alone):
        for name, tensor in bundle.detector.tensors().items():
            assert torch.equal(learnt[f"{n}.{name}"], tensor)


def test_the_score_is_the_mean_of_the_surprise_of_each_member_alone(
    together: Bundle, alone: list[Bundle]
) -> None:
    surprise = of_members(alone, "surprise")

    raw = column(judged(together), "raw")[:, 0]

    assert surprise.max() > 3.0, "or this would prove little"
    np.testing.assert_allclose(raw, surprise.mean(0), rtol=1e-6)


def test_blame_is_that_of_the_members_each_by_its_surprise(
    together: Bundle, alone: list[Bundle]
) -> None:
    weight = of_members(alone, "surprise")[:, 100:, None]
    blame = of_members(alone, "blame")[:, 100:]

    joint = column(judged(together), "blame")[100:, 0]

    np.testing.assert_allclose(joint, (weight * blame).sum(0) / weight.sum(0), atol=1e-5)


def test_a_member_with_nothing_to_go_by_has_no_say(together: Bundle, alone: list[Bundle]) -> None:
    value = healthy(200, 9)
    value[100:, 1] += 3.0
    there = np.ones(value.shape, np.bool_)
    there[120:160] = False

    def said(bundle: Bundle) -> Judgement:
        return bundle.sweep(value, there, [1] * len(value), bundle.initial(1))[0]

    both, quick, slow = said(together), said(alone[0]), said(alone[1])

    assert not slow.blame[160].any()
    assert both.raw[160] == quick.surprise[160] > 2.0
    np.testing.assert_allclose(both.blame[160], quick.blame[160], rtol=1e-6)
    assert slow.blame[170].any()


def test_where_no_member_is_surprised_blame_is_their_mean() -> None:
    detector = BOTH.build(4)  # not calibrated: nothing surprises it
    value, valid = torch.randn(3, 4), torch.ones(3, 4, dtype=torch.bool)
    detector.calibrations = tuple(
        one.model_copy(update={"raw": (1e9,)}) for one in detector.calibrations
    )

    evidence, _ = detector.sweep(value, valid, [3], detector.initial(3))
    alone = [one.sweep(value, valid, [3], one.initial(3))[0].blame for one in detector.members]

    assert torch.allclose(evidence.blame, (alone[0] + alone[1]) / 2)


def test_the_first_member_that_forecasts_says_what_is_expected() -> None:
    detector = EnsembleSettings(members=(EWMA, GruSettings(hidden=4))).build(4)
    value, valid = torch.randn(3, 4), torch.ones(3, 4, dtype=torch.bool)
    _, state = detector.sweep(value, valid, [3], detector.initial(3))

    evidence, _ = detector.sweep(value, valid, [3], state)

    own = {name.removeprefix("1."): part for name, part in state.items() if name[0] == "1"}
    said, _ = detector.members[1].sweep(value, valid, [3], own)
    assert torch.equal(evidence.expected, said.expected)
    assert torch.equal(evidence.spread, said.spread)
    assert bool((evidence.expected != 0).any())


def test_it_is_warm_when_its_slowest_member_is() -> None:
    members = (EwmaSettings(spans=(1, 4)), EwmaSettings(spans=(1, 30)))

    assert EnsembleSettings(members=members).build(4).warmup_ticks == 120
    assert EnsembleSettings(members=members, warmup_ticks=7).build(4).warmup_ticks == 7


def test_members_that_learn_by_gradients_are_each_fitted_on_every_fold() -> None:
    told: list[tuple[int, int]] = []
    networks = (GruSettings(hidden=4, spans=(1,)), GruSettings(hidden=4, spans=(2,)))
    once = QUICK.model_copy(update={"epochs": 1})

    fits = train(
        fleet(250),
        CHANNELS,
        EnsembleSettings(members=networks),
        once,
        progress=lambda now: told.append((now.fit, now.fits)),
    ).fits

    assert told == [(n, 8) for n in range(1, 9)]  # three folds and the whole, of each
    assert [fit.kept for fit in fits] == [False] * 6 + [True] * 2


def test_the_calibrations_come_back_from_disk_to_the_bit(together: Bundle) -> None:
    again = BOTH.build(4)

    again.load_tensors(together.detector.tensors())

    assert isinstance(together.detector, Ensemble)
    assert again.calibrations == together.detector.calibrations
    assert len(again.calibrations[0].raw) > 100


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([{"type": "ewma"}], "want two members or more, got 1"),
        ([{"type": "ewma"}, BOTH.model_dump()], "'ensemble' .*does not match"),
        ([{"type": "ewma"}, {"type": "oracle"}], "'oracle' .*does not match"),
        ([{"type": "ewma"}, {"type": "pca", "spans": [1]}], "Extra inputs"),
    ],
)
def test_members_that_cannot_be_are_refused(members: list[object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        EnsembleSettings.model_validate({"members": members})


def test_an_alarm_is_explained_by_the_member_that_accuses_the_channel(together: Bundle) -> None:
    value = healthy(200, 9)
    value[100:, 1] += 3.0
    found = together.explain(value, np.ones(value.shape, np.bool_), together.initial(1))

    assert found is not None
    assert found.by[1] == pytest.approx(3.0, abs=1.5)
    assert found.times[1] == found.times.max() > 3
    assert set(found.ticks.tolist()) <= {1, 4}
