"""Which scores count, and that each asset's are its own."""

from dataclasses import replace

import numpy as np
import pytest
from support.building import START, rich_kind

from models.bundle import AssetRange, OwnScaling
from monitor.core.holding import Frames
from monitor.core.modes import RunState
from monitor.core.records import ScoreState
from monitor.core.scoring import Scorer

OK, WARMING, BLIND, OFF = ScoreState
NAN = float("nan")
SECOND = 1_000_000_000
KIND = rich_kind()
SEEN = [channel.model for channel in KIND.channels.values()]


def frames(letters, *, rows=None, seed=0):
    """A frame a letter: r runs, s starts, o is off, f is fresh, b blind, h half valid."""
    random = np.random.default_rng(seed)
    count, letters = len(letters), list(letters)
    valid = np.ones((count, len(SEEN)), bool)
    valid[[letter == "b" for letter in letters], :-1] = False  # the running tag stays
    valid[[letter == "h" for letter in letters], :2] = False
    made = Frames(
        asset=np.zeros(count, np.intp) if rows is None else np.array(rows, np.intp),
        tick=START + np.arange(count) * SECOND,
        value=np.where(valid, 50 + random.normal(size=valid.shape), NAN),
        age=np.zeros(valid.shape, np.float32),
        valid=valid,
        forced=np.zeros_like(valid),
        quality=np.zeros(valid.shape, np.uint8),
        fresh=np.array([letter == "f" for letter in letters]),
    )
    modes = {"s": RunState.STARTING, "o": RunState.OFF}
    running = np.array([modes.get(letter, RunState.RUNNING) for letter in letters], np.uint8)
    return made, running


@pytest.fixture
def scorer(bundles):
    return lambda assets=1, model="gru": Scorer(
        "k", KIND, np.arange(assets, dtype=np.int32) + 7, bundles[model]
    )


def score(scorer, letters, **given):
    return judged(scorer, *frames(letters, **given))


def judged(scorer, made, running):
    """The scores where the model may see all that is valid."""
    return scorer.score(made, running, made.valid)


def states(scorer, letters):
    return score(scorer, letters).state.tolist()


def test_scores_count_once_the_model_is_warm(scorer):
    assert states(scorer(), "frrrr") == [WARMING] * 3 + [OK] * 2


def test_warming_begins_anew_after_a_gap(scorer):
    assert states(scorer(), "frrrfrrrr") == [WARMING] * 3 + [OK] + [WARMING] * 3 + [OK] * 2


@pytest.mark.parametrize("letter", ["o", "s"])
def test_a_machine_that_does_not_run_is_off_and_warms_up_when_it_does(scorer, letter):
    expected = [WARMING] * 3 + [OK, OFF, OFF] + [WARMING] * 3 + [OK]
    assert states(scorer(), f"frrr{letter}{letter}rrrr") == expected


def test_nothing_valid_is_blind_and_says_nothing(scorer):
    scores = score(scorer(), "frrrbr")
    assert scores.state.tolist() == [WARMING] * 3 + [OK, BLIND, OK]
    assert (scores.raw[4], scores.surprise[4]) == (0, 0)
    assert scores.blame[4].tolist() == [0] * len(SEEN)
    assert scores.coverage[4] == 0


def test_coverage_is_the_share_of_the_models_channels_that_is_valid(scorer):
    assert score(scorer(), "frrh").coverage.tolist() == pytest.approx([1, 1, 1, 0.6])


def test_without_a_model_everything_is_blind_but_off_stays_off():
    scorer = Scorer("k", KIND, np.array([7], np.int32), None)
    scores = score(scorer, "frrso")
    assert scores.state.tolist() == [BLIND, BLIND, BLIND, OFF, OFF]
    assert np.isnan(scores.expected).all()
    assert np.isfinite(scores.value).all()
    assert scores.coverage.tolist() == [0] * 5


def test_a_channel_the_model_does_not_see_has_no_expectation_and_no_blame(scorer):
    scores = score(scorer(), "frrrr")
    assert np.isnan(scores.expected[:, -1]).all()
    assert scores.blame[:, -1].tolist() == [0] * 5
    assert np.isfinite(scores.expected[:, :-1]).all()
    assert scores.blame[-1].sum() == pytest.approx(1)


def test_scores_carry_the_assets_own_numbers(scorer):
    assert score(scorer(3), "ffrr", rows=[0, 2, 2, 2]).asset.tolist() == [7, 9, 9, 9]


@pytest.mark.parametrize("model", ["ewma", "gru", "lstm"])
@pytest.mark.parametrize("others", [1, 2, 7, 30])
def test_the_bits_of_an_asset_do_not_depend_on_who_else_is_there(scorer, model, others):
    mine, running = frames("frrrorrrr", seed=1)
    alone = judged(scorer(model=model), mine, running)
    parts = [frames("frrrorrrr", seed=1 if row == others // 2 else row) for row in range(others)]
    together = Frames.join(
        [replace(part, asset=np.full(9, row)) for row, (part, _) in enumerate(parts)]
    )
    scores = judged(scorer(others, model), together, np.tile(running, others))
    at = slice(others // 2 * 9, others // 2 * 9 + 9)
    for name in ("raw", "surprise", "blame", "expected", "spread", "coverage", "state"):
        whole = getattr(scores, name)[at]
        assert np.array_equal(whole, getattr(alone, name), equal_nan=whole.dtype.kind == "f"), name


@pytest.mark.parametrize("model", ["ewma", "gru", "lstm"])
def test_a_state_saved_mid_stream_and_taken_back_gives_the_same_rest(scorer, model):
    made, running = frames("frrrrrrr")
    whole = judged(scorer(model=model), made, running)
    first, second = scorer(model=model), scorer(2, model)
    judged(first, made.rows(np.arange(8) < 5), running[:5])
    second.restore(first.snapshot(), np.array([0]), np.array([1]))
    rest = made.rows(np.arange(8) >= 5)
    found = judged(second, replace(rest, asset=np.ones(3, np.intp)), running[5:])
    assert found.surprise.tolist() == whole.surprise[5:].tolist()
    assert found.state.tolist() == whole.state[5:].tolist()


def test_a_state_from_before_shares_were_kept_is_taken_back_as_wholly_seen(scorer):
    made, running = frames("frrrrrrr")
    whole = judged(scorer(), made, running)
    first, second = scorer(), scorer()
    judged(first, made.rows(np.arange(8) < 5), running[:5])
    tree = first.snapshot()
    del tree["table"]["shares"]
    second.restore(tree, np.array([0]), np.array([0]))
    found = judged(second, made.rows(np.arange(8) >= 5), running[5:])
    assert found.surprise.tolist() == whole.surprise[5:].tolist()


def test_states_of_another_model_are_left_behind(scorer, bundles):
    first, second = scorer(model="gru"), scorer(model="lstm")
    score(first, "frrrr")
    second.restore(first.snapshot(), np.array([0]), np.array([0]))
    assert states(second, "rrrr") == [WARMING] * 3 + [OK]
    without = Scorer("k", KIND, np.array([7], np.int32), None)
    without.restore(first.snapshot(), np.array([0]), np.array([0]))
    assert states(without, "r") == [BLIND]
    threshold = Scorer(
        "k",
        KIND,
        np.array([7], np.int32),
        bundles["gru"].with_threshold(9.0, provisional=False),
    )
    threshold.restore(first.snapshot(), np.array([0]), np.array([0]))
    assert states(threshold, "r") == [WARMING]  # another card: another bundle


def test_a_value_too_large_for_the_store_is_infinite_there(scorer):
    given, running = frames("frrrr")
    given.value[2, 0] = 1e300
    found = judged(scorer(), given, running)
    assert np.isinf(found.value).sum() == 1
    assert found.value[2, 0] == np.inf


def test_what_the_model_may_not_see_is_shown_and_changes_no_score(scorer):
    made, running = frames("frrrrrrr")
    evidence = made.valid.copy()
    evidence[4:, 0] = False
    strange = made.value.copy()
    strange[4:, 0] = 1e6
    seen = scorer().score(made, running, evidence)
    found = scorer().score(replace(made, value=strange), running, evidence)
    assert found.surprise.tolist() == seen.surprise.tolist()
    assert found.coverage.tolist() == pytest.approx([1] * 4 + [0.8] * 4)
    assert found.value[4:, 0].tolist() == [1e6] * 4
    assert not found.blame[4:, 0].any()


def test_each_asset_is_scaled_by_its_own_however_the_frames_are_mixed(bundles):
    bundle = bundles["gru"]
    pooled = bundle.card.scaling
    shifted = pooled.model_copy(update={"mean": tuple(mean + 4 for mean in pooled.mean)})
    learnt = AssetRange(first=0, last=1, frames=2)
    adopted = bundle.with_own({"b": OwnScaling(scaling=shifted, learnt=learnt)})
    ids = np.arange(2, dtype=np.int32)

    def scores(bundle, rows):
        made, running = frames("r" * 40, rows=rows)
        own = Scorer("k", KIND, ids, bundle, ["a", "b"])
        return judged(own, made, running)

    rows = [0] * 20 + [1] * 20
    before, after = scores(bundle, rows), scores(adopted, rows)
    mine = np.array(rows) == 0
    np.testing.assert_array_equal(before.raw[mine], after.raw[mine])
    assert (before.raw[~mine] != after.raw[~mine]).any()

    made, running = frames("r" * 40, rows=rows)
    moved = replace(made, value=made.value + np.where(np.array(rows) == 1, 4.0, 0.0)[:, None])
    again = judged(Scorer("k", KIND, ids, adopted, ["a", "b"]), moved, running)
    np.testing.assert_allclose(again.raw, before.raw, rtol=1e-3, atol=1e-3)


def scaled_by_itself(bundles, model="gru"):
    """A scorer whose first asset has a scaling of its own."""
    bundle = bundles[model]
    own = bundle.card.scaling.model_copy(
        update={"mean": tuple(m + 1 for m in bundle.card.scaling.mean)}
    )
    ranged = AssetRange(first=0, last=1, frames=1)
    with_own = bundle.with_own({"a0": OwnScaling(scaling=own, learnt=ranged)})
    return Scorer("k", KIND, np.arange(2, dtype=np.int32), with_own, ("a0", "a1"))


def explained(found):
    return (
        None if found is None else [found.ticks.tolist(), found.by.tolist(), found.times.tolist()]
    )


@pytest.mark.parametrize("model", ["ewma", "gru", "lstm"])
def test_a_score_is_explained_the_same_however_frames_are_cut_and_whoever_else_is_there(
    bundles, model
):
    mine, running = frames("frrrorrrr", seed=1)
    at_once, one_by_one = scaled_by_itself(bundles, model), scaled_by_itself(bundles, model)
    other = replace(frames("frrrrrrrr", seed=2)[0], asset=np.ones(9, np.intp))
    both = np.append(running, [RunState.RUNNING] * 9)
    judged(at_once, Frames.join([mine, other]), both)
    whole = [explained(at_once.explain(row)) for row in range(9)]
    cut = []
    for row in range(9):
        judged(one_by_one, mine.rows(np.arange(9) == row), running[row : row + 1])
        cut.append(explained(one_by_one.explain(0)))

    np.testing.assert_equal(whole, cut)
    assert whole[4] is None, "the machine was off"
    assert np.isfinite(whole[8][2][:-1]).all()
    assert np.isnan(whole[8][2][-1]), "the model does not see the running tag"


def test_what_was_not_scored_is_not_explained(scorer):
    assert Scorer("k", KIND, np.array([7], np.int32), None).explain(0) is None
    assert scorer().explain(0) is None
    off = scorer()
    score(off, "fr")
    score(off, "oo")
    assert off.explain(0) is None
