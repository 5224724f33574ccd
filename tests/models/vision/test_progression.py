"""Rows of pictures of one place: what the next one will show, and how it is learnt."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.bundle import BundleError
from models.vision.progression import Progression, ProgressionSettings
from models.vision.sequences import (
    Learnt,
    Place,
    Progress,
    ahead_of,
    fit,
    follow,
    onset_of,
    pairs,
    straight,
)

QUICK = ProgressionSettings(ahead=3, within=4, members=2, epochs=10, hidden=8)


def place(name: str, *, speed: float = 1.0, onset: int = 12, pictures: int = 30) -> Place:
    """Nothing, then a length that grows evenly; a feature rises before anything is seen."""
    chance = np.random.default_rng([len(name), int(speed * 100), onset])
    position = np.arange(pictures, dtype=np.float64)
    length = np.maximum(position - onset, 0.0) * 4 * speed
    sign = np.clip((position - onset + 6) / 6, 0, 1.5)
    noise = chance.normal(0, 0.05, (pictures, 2))
    return Place(
        name=name,
        position=position,
        features=(np.stack([sign, np.zeros(pictures)], 1) + noise).astype(np.float32),
        area=np.square(length * np.exp(chance.normal(0, 0.03, pictures))),
        known=np.ones(pictures, np.bool_),
    )


PLACES = [
    place("a", speed=1.0), place("b", speed=1.4, onset=15), place("c", speed=0.8, onset=9),
    place("d", speed=1.2, onset=18), place("e", speed=0.9, onset=12), place("f", onset=10),
]  # fmt: skip


@pytest.fixture(scope="module")
def learnt() -> Learnt:
    return fit(PLACES, QUICK.model_copy(update={"epochs": 150}), area_unit="px")


def test_what_grows_evenly_is_foretold_far_better_than_as_staying_as_it_is(learnt: Learnt) -> None:
    measured = learnt.model.card.measured

    assert measured.pictures > 50
    assert measured.gain > 0.5
    assert measured.error < measured.linear  # lengths grow evenly, areas do not


def test_most_of_what_comes_lies_within_the_interval(learnt: Learnt) -> None:
    unseen = place("z", speed=1.1, onset=14)
    outlook = follow(learnt.model, unseen)
    later, _ = ahead_of(unseen, QUICK)
    rows = pairs(unseen, QUICK)
    inside = (outlook.low[rows, -1] <= later[rows, -1]) & (
        later[rows, -1] <= outlook.high[rows, -1]
    )

    assert inside.mean() > 0.6
    assert (outlook.low <= outlook.area).all()
    assert (outlook.area <= outlook.high).all()


def test_a_place_is_said_to_begin_soon_before_it_does_and_never_after_it_has(
    learnt: Learnt,
) -> None:
    outlook = follow(learnt.model, place("z", onset=16))

    assert outlook.onset[14] > 2 * outlook.onset[4]
    assert np.isnan(outlook.onset[17:]).all()
    assert learnt.model.card.measured.onset_auroc is not None
    assert learnt.model.card.measured.onset_auroc > 0.7


def test_what_has_begun_does_not_begin_again_after_a_picture_that_shows_nothing(
    learnt: Learnt,
) -> None:
    state, said = learnt.model.initial(1), []
    for area in (0.0, 50.0, 0.0):
        outlook, state = learnt.model.step(
            np.zeros((1, 2), np.float32), np.array([area]), np.ones(1), state
        )
        said.append(bool(np.isnan(outlook.onset[0])))

    assert said == [False, True, True]


def test_each_place_is_measured_by_a_member_that_had_not_learnt_from_it() -> None:
    settings = QUICK.model_copy(update={"epochs": 3, "members": 6})
    strange = replace(PLACES[1], features=PLACES[1].features[::-1])  # the scaling is the same
    one = fit(PLACES, settings, area_unit="px")
    other = fit([strange if one.name == "b" else one for one in PLACES], settings, area_unit="px")
    members = [
        all(torch.equal(mine[name], theirs[name]) for name in mine)
        for mine, theirs in zip(
            (member.state_dict() for member in one.model.members),
            (member.state_dict() for member in other.model.members),
            strict=True,
        )
    ]

    (left_out,) = np.flatnonzero(members)  # the one that leaves b out
    alone = {place.name: model.members for place, model in one.held_out}
    assert sorted(alone) == list("abcdef")
    assert alone["b"] == (one.model.members[left_out],)


def test_the_same_places_in_another_order_give_the_same_bits_and_another_seed_does_not() -> None:
    one = fit(PLACES, QUICK, area_unit="px").model
    other = fit(PLACES[::-1], QUICK, area_unit="px").model
    third = fit(PLACES, QUICK.model_copy(update={"seed": 1}), area_unit="px").model

    assert one.card == other.card
    for mine, theirs in zip(weights(one), weights(other), strict=True):
        assert torch.equal(mine, theirs)
    assert not all(
        torch.equal(mine, theirs) for mine, theirs in zip(weights(one), weights(third), strict=True)
    )


def weights(model: Progression) -> list[torch.Tensor]:
    return [tensor for member in model.members for tensor in member.state_dict().values()]


def test_a_place_gets_the_same_bits_whoever_else_is_asked_about(learnt: Learnt) -> None:
    model, chance = learnt.model, np.random.default_rng(0)
    rows = 19
    features = chance.normal(0, 1, (3, rows, 2)).astype(np.float32)
    area = chance.uniform(0, 500, (3, rows)) * (chance.random((3, rows)) < 0.7)
    gap = np.array([0.0, 1.0, 3.0])
    together = model.initial(rows)
    alone = [model.initial(1) for _ in range(rows)]
    for t in range(3):
        order = chance.permutation(rows)
        same = np.full(rows, gap[t])
        joint, after = model.step(
            features[t][order], area[t][order], same, {k: v[order] for k, v in together.items()}
        )
        together = {name: table[np.argsort(order)] for name, table in after.items()}
        for place_in_batch, row in enumerate(order):
            one = slice(row, row + 1)
            own, alone[row] = model.step(features[t][one], area[t][one], gap[t : t + 1], alone[row])
            for name in ("area", "low", "high", "onset"):
                mine, theirs = getattr(own, name)[0], getattr(joint, name)[place_in_batch]
                assert mine.tobytes() == theirs.tobytes(), (name, t, row)


def test_a_step_leaves_the_state_it_was_given_as_it_was(learnt: Learnt) -> None:
    state = learnt.model.initial(2)
    learnt.model.step(np.ones((2, 2), np.float32), np.array([1.0, 0.0]), np.zeros(2), state)

    assert not state["hidden"].any()
    assert not state["begun"].any()


def test_pictures_that_are_in_doubt_teach_nothing() -> None:
    doubtful = [
        replace(
            one,
            area=np.where(np.arange(30) % 5 == 4, 1e6, one.area),
            known=np.arange(30) % 5 != 4,
        )
        for one in PLACES
    ]
    without = [one.only(one.known) for one in doubtful]

    assert (
        fit(doubtful, QUICK, area_unit="px").model.card
        == fit(without, QUICK, area_unit="px").model.card
    )


def test_an_area_ahead_is_that_of_the_picture_nearest_to_the_moment_or_of_none() -> None:
    one = Place(
        name="a",
        position=np.array([0.0, 1.0, 2.2, 6.0]),
        features=np.zeros((4, 1), np.float32),
        area=np.array([1.0, 2.0, 3.0, 4.0]),
        known=np.ones(4, np.bool_),
    )
    area, exists = ahead_of(one, ProgressionSettings(ahead=2))

    assert exists.tolist() == [[True, True], [False, False], [False, False], [False, False]] or (
        exists[0].tolist() == [True, True] and not exists[2:].any()
    )
    assert area[0].tolist() == [2.0, 3.0]


def test_it_cannot_be_told_whether_something_begins_after_the_last_picture() -> None:
    one = place("a", onset=40, pictures=20)
    soon, told = onset_of(one, ProgressionSettings(within=5))
    begun, told_begun = onset_of(place("b", onset=10), ProgressionSettings(within=5))

    assert not soon.any()
    assert told.tolist() == [True] * 15 + [False] * 5
    assert np.flatnonzero(begun).tolist() == [6, 7, 8, 9, 10]  # the first area is at 11
    assert not told_begun[11:].any()


def test_a_line_leads_where_it_points_and_no_lower_than_nothing() -> None:
    falling = replace(place("a"), area=np.maximum(30.0 - np.arange(30.0), 0))

    assert straight(falling, 10, 5) == pytest.approx(15.0)
    assert straight(falling, 28, 5) == 0.0
    assert straight(falling, 0, 5) == 30.0


def test_a_model_is_read_back_as_it_was_and_a_damaged_one_is_refused(
    learnt: Learnt, tmp_path
) -> None:
    learnt.model.save(tmp_path / "growth")
    again = Progression.load(tmp_path / "growth")
    one, other = follow(learnt.model, PLACES[0]), follow(again, PLACES[0])

    assert again.card == learnt.model.card
    assert one.area.tobytes() == other.area.tobytes()
    weights_file = tmp_path / "growth" / "weights.safetensors"
    weights_file.write_bytes(weights_file.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(BundleError, match="not the weights of this card"):
        Progression.load(tmp_path / "growth")
    with pytest.raises(BundleError, match="none"):
        Progression.load(tmp_path / "none")


def test_too_few_places_and_places_without_growth_are_refused_in_words() -> None:
    with pytest.raises(ValueError, match="want 3 places or more, got 2"):
        fit(PLACES[:2], QUICK, area_unit="px")
    still = [replace(one, area=np.zeros(30)) for one in PLACES]
    with pytest.raises(ValueError, match="one 3 steps of 1 later; of 180 pictures none has"):
        fit(still, QUICK, area_unit="px")
    with pytest.raises(ValueError, match="positions that rise"):
        replace(PLACES[0], position=np.zeros(30))


def test_a_step_refuses_what_is_no_number(learnt: Learnt) -> None:
    state = learnt.model.initial(1)
    nothing = np.zeros(1)
    with pytest.raises(ValueError, match=r"want features \[N, 2\]"):
        learnt.model.step(np.zeros((1, 3), np.float32), nothing, nothing, state)
    with pytest.raises(ValueError, match="finite features"):
        learnt.model.step(np.full((1, 2), np.nan, np.float32), nothing, nothing, state)
    with pytest.raises(ValueError, match="areas and gaps of 0 or more"):
        learnt.model.step(np.zeros((1, 2), np.float32), nothing - 1, nothing, state)


def test_every_epoch_of_every_member_is_told() -> None:
    told: list[Progress] = []
    fit(PLACES, QUICK.model_copy(update={"epochs": 2}), area_unit="px", progress=told.append)

    assert [(one.member, one.epoch) for one in told] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert all(np.isfinite(one.loss) for one in told)
