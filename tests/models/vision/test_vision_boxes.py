"""Places: found with a box, named by a second look, and counted as the public scorers count."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.bars import FIT, SIDE

from models.training import Epoch, Interrupted
from models.vision.augment import Lot
from models.vision.box_scores import Boxes, box_scores, overlaps_of, pooled
from models.vision.finder import Finder, Target, finding_loss, found, overlaps, target
from models.vision.inspection import Inspection
from models.vision.network import start
from models.vision.places import patches, picture_share
from models.vision.settings import (
    AugmentSettings,
    FinderSettings,
    InspectionSettings,
    NetworkSettings,
    PreprocessSettings,
)
from models.vision.stock import Examples, Marked, Stock
from models.vision.training import Trained, train

WIDE = 48
SETTINGS = InspectionSettings(
    preprocess=PreprocessSettings(height=WIDE, width=WIDE),
    network=NetworkSettings(width=4, depth=(1, 1), stem="half"),
    finder=FinderSettings(
        network=NetworkSettings(width=8, depth=(1, 1), stem="half"), crop=32, crops=2, patch=20
    ),
)
BOX_FIT = FIT.model_copy(
    update={
        "epochs": 12,
        "batch_size": 8,
        "augment": AugmentSettings(flip_horizontal=True, flip_vertical=True),
    }
)


def boards(count: int, *, seed: int = 0) -> Examples:
    """Pictures [48, 48, 1] beside templates: up to three bars, lying or standing, in their half.

    Every board also has squares, which its template has, too.
    """
    draw = np.random.default_rng(seed)
    pictures, templates, boxes = [], [], []
    for number in range(count):
        board = draw.normal(0.3, 0.03, (WIDE, WIDE, 1))
        y, x = draw.integers(0, 40, 2)
        board[y : y + 8, x : x + 8] += 0.4
        template = board.copy()
        marked = []
        for left, top in ((0, 0), (24, 0), (0, 24))[: number % 4]:
            x, y = left + draw.integers(1, 10), top + draw.integers(1, 10)
            across, down = (12, 5) if draw.random() < 0.5 else (5, 12)
            board[y : y + down, x : x + across] += 0.4
            label = "lying" if across > down else "standing"
            marked.append(
                Marked(label=label, box=(float(x), float(y), float(x + across), float(y + down)))
            )
        for made, kept in ((board, pictures), (template, templates)):
            kept.append(np.clip(made * 255, 0, 255).astype(np.uint8))
        boxes.append(marked)
    return Examples(pictures=pictures, boxes=boxes, templates=templates, groups=range(count))


@pytest.fixture(scope="module")
def pair() -> Trained:
    return train(boards(80), SETTINGS, BOX_FIT, good="good")


def test_defects_that_were_never_seen_are_found_with_their_boxes_and_names(pair: Trained) -> None:
    other = boards(40, seed=1)
    assert other.boxes is not None
    marked = [
        Boxes(
            np.array([one.box for one in own]).reshape(-1, 4),
            np.array([one.label for one in own], np.str_),
            np.ones(len(own)),
        )
        for own in other.boxes
    ]
    said = [
        Boxes(
            np.array([d.box for d in one.defects]).reshape(-1, 4),
            np.array([d.label for d in one.defects], np.str_),
            np.array([d.probability for d in one.defects]),
        )
        for one in pair.inspection.each(other.pictures, other.templates, least=0.02)
    ]

    scores = box_scores(marked, said, 0.5)

    assert scores.mean > 0.8
    assert scores.f1 > 0.8


def test_a_good_board_surprises_less_than_one_with_a_defect(pair: Trained) -> None:
    other = boards(40, seed=2)
    found_ = pair.inspection.inspect(other.pictures, other.templates)
    assert other.boxes is not None
    good = [one.surprise for one, own in zip(found_, other.boxes, strict=True) if not own]
    bad = [one.surprise for one, own in zip(found_, other.boxes, strict=True) if own]

    assert np.median(bad) > np.median(good) + 1
    for one in found_:
        assert sum(one.probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert one.heat.shape == (WIDE, WIDE)


def test_a_folder_gives_back_the_same_pair(tmp_path: Path, pair: Trained) -> None:
    other = boards(6, seed=3)
    pair.inspection.save(tmp_path / "bundle")

    one, again = (
        inspection.inspect(other.pictures, other.templates)
        for inspection in (pair.inspection, Inspection.load(tmp_path / "bundle"))
    )

    assert [a.defects for a in one] == [b.defects for b in again]
    assert [a.anomaly for a in one] == [b.anomaly for b in again]


def test_a_training_of_boxes_that_was_stopped_in_its_second_network_goes_on_to_the_same_bits(
    tmp_path: Path,
) -> None:
    few = boards(60)
    short = BOX_FIT.model_copy(update={"epochs": 2})
    whole = train(few, SETTINGS, short, good="good")
    told: list[Epoch] = []
    with pytest.raises(Interrupted) as stopped:
        train(
            few,
            SETTINGS,
            short,
            good="good",
            progress=told.append,
            checkpoint=tmp_path / "kept",
            should_stop=lambda: len(told) == 3,
        )
    assert stopped.value.checkpoint == tmp_path / "kept"

    again = train(
        few, SETTINGS, short, good="good", progress=told.append, checkpoint=tmp_path / "kept"
    )

    assert [(one.fit, one.epoch) for one in told] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert again.inspection.card.weights_sha256 == whole.inspection.card.weights_sha256
    assert again.inspection.card.sure == whole.inspection.card.sure


def test_boxes_without_a_name_for_good_or_with_it_as_a_defect_are_refused() -> None:
    few = boards(8)

    with pytest.raises(ValueError, match="want a name for what has no defect"):
        train(few, SETTINGS, BOX_FIT)
    with pytest.raises(ValueError, match="'lying' is marked as a defect on"):
        train(few, SETTINGS, BOX_FIT, good="lying")
    with pytest.raises(ValueError, match="want labels, boxes or masks, one of them"):
        train(replace(few, labels=["a"] * 8), SETTINGS, BOX_FIT, good="good")


def targets(box: list[list[float]], *, side: int = 32, stride: int = 2) -> Target:
    count = len(box)
    return target(
        torch.tensor(box).reshape(count, 4),
        torch.zeros(count, dtype=torch.int64),
        torch.ones(count),
        count=1,
        size=(side // stride, side // stride),
        stride=stride,
    )


def test_what_a_finder_should_say_is_read_back_as_the_same_boxes() -> None:
    boxes = [[2.0, 4.0, 12.0, 9.0], [15.0, 15.0, 30.0, 31.0]]
    wanted = targets(boxes)
    logits = torch.where(wanted.at, 10.0, -10.0)

    read = found(logits[0], wanted.box[0], stride=2, least=0.5, most=10)

    assert np.array(sorted(read.box.tolist())) == pytest.approx(np.array(boxes))
    assert float(wanted.weight.sum()) == pytest.approx(2)


def test_the_loss_is_least_where_a_finder_says_what_it_should() -> None:
    wanted = targets([[4.0, 4.0, 20.0, 14.0]])
    right = torch.where(wanted.at, 8.0, -8.0)
    sides = wanted.box.clamp(min=0.5)

    best = finding_loss(right, sides, wanted)

    assert float(best) < 0.01
    assert finding_loss(right, sides * 1.5, wanted) > best + 1
    assert finding_loss(right.roll(3, 1), sides, wanted) > best + 5
    assert finding_loss(torch.full_like(right, -8), sides, wanted) > best + 5


def test_of_two_boxes_on_one_defect_the_surer_stays() -> None:
    logits = torch.full((16, 16), -9.0)
    logits[4, 4], logits[4, 6], logits[12, 12] = 2.0, 1.0, 0.0
    sides = torch.full((4, 16, 16), 4.0)

    read = found(logits, sides, stride=2, least=0.1, most=10)

    assert read.box.tolist() == [[1, 1, 17, 17], [17, 17, 33, 33]]
    assert float(overlaps(read.box, read.box)[0, 1]) == 0


def test_a_finder_gives_places_of_its_stride_and_few_of_them_at_first() -> None:
    finder = Finder(NetworkSettings(width=4, depth=(1, 1, 1), stem="half"), 3)
    start(finder, torch.Generator().manual_seed(0))

    with torch.no_grad():
        centre, sides = finder.eval()(torch.rand(2, 3, 40, 24))

    assert centre.shape == (2, 20, 12)
    assert sides.shape == (2, 4, 20, 12)
    assert float(centre.sigmoid().mean()) < 0.1
    assert bool((sides > 0).all())


def test_a_patch_at_the_edge_is_filled_up_and_the_middle_stays_the_middle() -> None:
    picture = torch.ones(1, 20, 30)
    picture[0, 5, 8] = 7

    inner, corner = patches(picture, torch.tensor([[6.0, 4, 10, 6], [-2, -2, 2, 2]]), 8)

    assert inner.shape == (1, 8, 8)
    assert float(inner[0, 4, 4]) == 7
    assert float(corner.sum()) == 16


def test_a_picture_is_as_wrong_as_its_surest_place() -> None:
    share = torch.tensor([[0.1, 0.2, 0.7], [0.8, 0.1, 0.1]])

    whole = picture_share(share, good=0)

    assert float(whole.sum()) == pytest.approx(1)
    assert float(whole[0]) == pytest.approx(0.1)
    assert int(whole.argmax()) == 2


def boxes(rows: list[tuple[str, float, list[float]]]) -> Boxes:
    return Boxes(
        np.array([row[2] for row in rows], np.float64).reshape(-1, 4),
        np.array([row[0] for row in rows], np.str_),
        np.array([row[1] for row in rows]),
    )


def test_average_precision_and_f1_are_those_counted_by_hand() -> None:
    marked = [
        boxes([("a", 1, [0, 0, 10, 10]), ("a", 1, [20, 20, 30, 30])]),
        boxes([("b", 1, [0, 0, 10, 10])]),
    ]
    said = [
        boxes(
            [
                ("a", 0.9, [0, 0, 10, 10]),
                ("a", 0.8, [1, 0, 11, 10]),  # a double of the first
                ("a", 0.6, [20, 20, 30, 32]),
                ("b", 0.7, [20, 20, 30, 30]),  # right place, another class
            ]
        ),
        boxes([("b", 0.5, [0, 0, 10, 4])]),  # overlaps by 0.4
    ]

    half, third = box_scores(marked, said, 0.5), box_scores(marked, said, 0.33)

    assert half.average_precision["a"] == pytest.approx(1 / 2 + 2 / 3 / 2)
    assert half.average_precision["b"] == 0
    assert third.average_precision["b"] == pytest.approx(1 / 2)
    assert third.mean == pytest.approx((1 / 2 + 1 / 3 + 1 / 2) / 2)
    assert third.f1 == pytest.approx(2 * 3 / (5 + 3))
    assert third.at == 0.5
    assert pooled(marked, said, 0.33) == pytest.approx((1 + 2 / 4 + 3 / 5) / 3)
    with pytest.raises(ValueError, match="no picture has a marked defect"):
        box_scores([boxes([])], [boxes([])], 0.5)


def test_found_boxes_of_a_class_that_is_marked_nowhere_are_false() -> None:
    marked = [boxes([("a", 1, [0, 0, 10, 10])])]
    others = [("b", 0.9, [20.0, 20.0 * n, 30.0, 20.0 * n + 10]) for n in range(3)]
    said = [boxes([("a", 0.8, [0, 0, 10, 10]), *others])]

    found = box_scores(marked, said, 0.5)

    assert found.average_precision == {"a": 1.0}
    assert (found.precision, found.f1) == (1 / 4, 2 / 5)


def test_overlap_is_shared_area_over_joint_area() -> None:
    one = np.array([[0.0, 0, 10, 10]])

    assert overlaps_of(one, np.array([[5.0, 0, 15, 10], [20, 20, 30, 30]])).tolist() == [
        [pytest.approx(1 / 3), 0]
    ]


def test_a_mixed_lot_wants_each_box_by_its_share() -> None:
    lot = Lot(picture=torch.zeros(1, 1, SIDE, SIDE), share=torch.ones(1, 1))
    wanted = target(
        torch.tensor([[2.0, 2, 10, 10], [12, 12, 22, 22]]),
        torch.tensor([0, 0]),
        torch.tensor([0.7, 0.3]),
        count=len(lot.picture),
        size=(12, 12),
        stride=2,
    )

    assert float(wanted.bump.max()) == pytest.approx(0.7)
    assert wanted.weight.sum() == pytest.approx(1.0)
    assert int(wanted.at.sum()) == 2


def test_a_finder_that_sees_less_says_where_in_pixels_of_the_picture_as_prepared() -> None:
    small = NetworkSettings(width=4, depth=(1,), stem="full")
    coarse, fine = Finder(small, 1, 2), Finder(small, 1)
    start(fine, torch.Generator().manual_seed(0))
    coarse.load_state_dict(fine.state_dict())
    picture = torch.rand(1, 1, 12, 8, generator=torch.Generator().manual_seed(1))
    means = picture.reshape(1, 1, 6, 2, 4, 2).mean((3, 5))

    centre, _ = coarse.eval()(picture)

    assert torch.allclose(centre, fine.eval()(means)[0])
    assert coarse.stride == 2 * fine.stride


def test_what_is_marked_beyond_the_crop_is_left_out_and_warned_of() -> None:
    settings = SETTINGS.model_copy(
        update={"preprocess": PreprocessSettings(height=32, width=32, crop=(0, 0, 32, 32))}
    )
    within, beyond = (Marked(label="pit", box=(a, a, a + 10, a + 10)) for a in (20.0, 30.0))
    given = Examples(
        pictures=[np.full((48, 48, 1), n, np.uint8) for n in range(3)],
        boxes=[[within, beyond], [beyond], []],
        groups=range(3),
    )
    told: list[str] = []

    assert Stock(given, settings).places(0) == [("pit", (20, 20, 30, 30))]
    with pytest.raises(ValueError, match="'pit' is one picture, and a part is to be held out"):
        train(given, settings, BOX_FIT, good="good", warn=told.append)  # the other one is good

    assert len(told) == 1
    assert told[0].startswith("boxes: 2 of pit beyond the crop [0, 0, 32, 32]: left out")
