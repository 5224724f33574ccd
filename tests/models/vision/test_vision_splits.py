"""Who is held out: whole groups, a share of each class."""

import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from models.vision import splits
from models.vision.splits import grouped, held_out, near_copies


def noise(count: int, seed: int = 0) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    coarse = draw.integers(0, 255, (count, 8, 8, 1), dtype=np.uint8)
    return [np.repeat(np.repeat(one, 6, 0), 6, 1) for one in coarse]


def test_copies_with_other_light_and_noise_are_one_group_and_other_pictures_are_not() -> None:
    pictures = noise(6)
    copy = np.clip(pictures[2] // 2 + 40 + np.arange(48)[:, None, None] % 3, 0, 255)
    copy_of_copy = np.clip(copy.astype(np.int64) + 9, 0, 255)

    found = grouped([*pictures, copy.astype(np.uint8), copy_of_copy.astype(np.uint8)])

    assert len(set(found[:6].tolist())) == 6
    assert found[6] == found[7] == found[2]


@pytest.mark.parametrize("alike", [0.9, 0.98, 0.999])
def test_groups_hang_together_by_copies_of_copies_whatever_the_blocks(
    monkeypatch: pytest.MonkeyPatch, alike: float
) -> None:
    thumbnails = torch.randn(150, 3, generator=torch.Generator().manual_seed(0))
    thumbnails /= thumbnails.norm(dim=1, keepdim=True)
    linked = (thumbnails @ thumbnails.T >= alike).numpy()
    wanted = np.full(150, -1)
    for number, first in enumerate(iter(lambda: int(np.argmin(wanted)), None)):
        if wanted[first] >= 0:
            break
        reached = {first}
        while reached:
            own = reached.pop()
            wanted[own] = number
            reached |= set(np.flatnonzero(linked[own] & (wanted < 0)).tolist())

    monkeypatch.setattr(splits, "BLOCK", 32)

    assert near_copies(thumbnails, alike).tolist() == wanted.tolist()


def test_copies_of_one_picture_by_the_thousand_take_no_more_room_than_others() -> None:
    thumbnails = torch.full((1500, 16), 0.25)
    tracemalloc.start()
    try:
        found = near_copies(thumbnails)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert not found.any()
    assert peak < 1500 * 1000  # bytes; a number for each pair is 18 million


def one_each(labels: Sequence[str]) -> list[tuple[str]]:
    return [(label,) for label in labels]


def test_two_flat_pictures_are_not_taken_for_copies() -> None:
    flat = [np.full((48, 48, 1), level, np.uint8) for level in (10, 200)]

    assert len(set(grouped(flat).tolist())) == 2


def test_a_share_of_each_class_is_held_out_and_no_group_is_on_both_sides() -> None:
    draw = np.random.default_rng(0)
    groups = draw.integers(0, 80, 400)
    labels = [("much", "less", "rare")[n % 7 % 3] for n in groups]  # a group is of one class

    out = held_out(one_each(labels), groups.tolist(), 0.25, seed=3)

    assert not set(groups[out]) & set(groups[~out])
    for name in set(labels):
        own = np.array(labels) == name
        assert 0.2 < out[own].mean() < 0.35


def test_the_same_seed_draws_the_same_and_another_seed_others() -> None:
    labels = ["a", "b"] * 50

    one, again, other = (held_out(one_each(labels), range(100), 0.2, seed=s) for s in (1, 1, 2))

    assert one.tolist() == again.tolist()
    assert one.tolist() != other.tolist()


def test_of_two_pictures_of_a_class_one_is_learnt_from() -> None:
    labels = ["a"] * 20 + ["b"] * 2

    out = held_out(one_each(labels), range(22), 0.5, seed=0)

    assert out[20:].sum() == 1


def test_a_group_with_the_last_of_one_class_is_not_taken_for_another() -> None:
    labels = ["rare", "much", "rare", *["much"] * 10]
    groups = [0, 0, 1, *range(2, 12)]

    for seed in range(10):
        out = held_out(one_each(labels), groups, 0.9, seed=seed)
        assert {labels[n] for n in np.flatnonzero(~out)} == {"rare", "much"}


def test_pictures_that_show_several_classes_are_drawn_for_each_of_them() -> None:
    draw = np.random.default_rng(1)
    often = {"open": 0.9, "short": 0.7, "spur": 0.3}
    shown = [tuple(name for name in often if draw.random() < often[name]) for _ in range(300)]
    shown = [own or ("good",) for own in shown]

    out = held_out(shown, range(300), 0.2, seed=0)

    assert 0.18 < out.mean() < 0.3
    for name in [*often, "good"]:
        own = np.array([name in one for one in shown])
        assert 0.18 < out[own].mean() < 0.35


def test_a_class_of_one_picture_or_its_copies_is_refused() -> None:
    with pytest.raises(ValueError, match="class 'b' is one picture and 1 more like it") as refused:
        held_out(one_each("aabb"), [0, 1, 2, 2], 0.5, seed=0)
    assert r"groups, on the command line --groups, as '(.+)'" in str(refused.value)
    with pytest.raises(ValueError, match=r"other parts or places\.$"):
        held_out(one_each("aab"), [0, 1, 2], 0.5, seed=0)
