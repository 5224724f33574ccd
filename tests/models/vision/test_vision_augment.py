"""Varied pictures: what is known of them stays true."""

from dataclasses import replace

import pytest
import torch

from models.vision.augment import Lot, varied
from models.vision.settings import AugmentSettings

SIDE = 32


def lot(count: int = 8, height: int = SIDE, width: int = SIDE) -> Lot:
    """Pictures with one bright rectangle each, its mask and its box."""
    picture, mask = torch.zeros(count, 1, height, width), torch.zeros(count, 1, height, width)
    boxes = []
    for number in range(count):
        x1, y1, x2, y2 = 8 + number, 10, 14 + number, 19
        picture[number, 0, y1:y2, x1:x2] = 1
        mask[number, 0, y1:y2, x1:x2] = 1
        boxes.append([x1, y1, x2, y2])
    return Lot(
        picture=picture,
        share=torch.eye(count),
        mask=mask,
        box=torch.tensor(boxes, dtype=torch.float32),
        box_of=torch.arange(count),
        box_class=torch.zeros(count, dtype=torch.int64),
        box_weight=torch.ones(count),
    )


def vary(given: Lot, seed: int = 0, **settings: object) -> Lot:
    return varied(
        given, AugmentSettings.model_validate(settings), torch.Generator().manual_seed(seed)
    )


def box_of_mask(mask: torch.Tensor) -> list[int]:
    rows, columns = (mask[0] > 0.5).nonzero(as_tuple=True)
    return [
        int(columns.min()),
        int(rows.min()),
        int(columns.max()) + 1,
        int(rows.max()) + 1,
    ]


def test_nothing_is_done_that_is_not_asked_for() -> None:
    given = lot()

    made = vary(given)

    assert torch.equal(made.picture, given.picture)
    assert made.share is given.share


@pytest.mark.parametrize(
    "settings",
    [
        {"flip_horizontal": True},
        {"flip_vertical": True},
        {"quarter_turns": True},
        {"flip_horizontal": True, "flip_vertical": True, "quarter_turns": True},
    ],
    ids=["left and right", "up and down", "quarter turns", "all"],
)
def test_flips_and_turns_move_pixels_masks_and_boxes_alike(settings: dict[str, bool]) -> None:
    given = lot()
    made = vary(given, **settings)

    assert made.mask is not None
    assert made.box is not None
    assert torch.equal(made.picture, made.mask)
    assert float(made.picture.sum()) == float(given.picture.sum())
    assert not torch.equal(made.picture, given.picture)
    for number in range(8):
        assert made.box[number].tolist() == box_of_mask(made.mask[number])


def test_a_picture_that_is_not_square_is_turned_by_halves_only() -> None:
    made = vary(lot(height=SIDE, width=40), quarter_turns=True)

    assert made.picture.shape == (8, 1, SIDE, 40)
    assert made.box is not None
    assert made.mask is not None
    for number in range(8):
        assert made.box[number].tolist() == box_of_mask(made.mask[number])


def test_rotation_scale_and_shift_move_pixels_masks_and_boxes_alike() -> None:
    made = vary(lot(), rotation=20, scale=0.2, shift=0.1)

    assert made.mask is not None
    assert made.box is not None
    assert float(((made.picture > 0.5) != (made.mask > 0.5)).float().mean()) < 0.01
    for box, number in zip(made.box, made.box_of, strict=True):
        assert box.tolist() == pytest.approx(box_of_mask(made.mask[number]), abs=1.6)


def test_a_box_that_is_moved_out_of_the_picture_is_none_any_more() -> None:
    given = replace(lot(1), box=torch.tensor([[0.0, 0.0, 2.0, 2.0]]))

    found = [vary(given, seed, shift=0.5).box for seed in range(20)]

    assert {len(box) for box in found} == {0, 1}


def test_a_mixed_picture_holds_both_pictures_labels_masks_and_boxes() -> None:
    given = lot()
    made = vary(given, mixup=1.0)

    assert made.mask is not None
    assert made.box_weight is not None
    assert torch.allclose(made.share.sum(1), torch.ones(8))
    assert bool((made.share.diagonal() >= 0.5).all())
    assert bool((made.share.diagonal() < 1).any())
    assert torch.allclose(made.picture, made.mask)
    assert made.box is not None
    assert made.box_of is not None
    assert len(made.box) == 16
    for number in range(8):
        own = made.box_of == number
        assert float(made.box_weight[own].sum()) == pytest.approx(1, abs=1e-6)
        for box, weight in zip(made.box[own], made.box_weight[own], strict=True):
            x1, y1, x2, y2 = box.int().tolist()
            assert bool((made.picture[number, 0, y1:y2, x1:x2] >= weight - 1e-6).all())


def test_light_and_noise_change_pixels_and_nothing_else() -> None:
    given = lot()
    made = vary(given, brightness=0.2, contrast=0.2, noise=0.1)

    assert not torch.equal(made.picture, given.picture)
    assert made.box is given.box or torch.equal(made.box, given.box)
    assert torch.equal(made.mask, given.mask)


def test_the_same_seed_gives_the_same_pictures_and_another_others() -> None:
    everything = {
        "flip_horizontal": True,
        "quarter_turns": True,
        "rotation": 10,
        "noise": 0.1,
        "mixup": 0.4,
    }
    one, again, other = (vary(lot(), seed, **everything).picture for seed in (1, 1, 2))

    assert torch.equal(one, again)
    assert not torch.equal(one, other)
