"""Pixels: told apart by masks, or by good pictures alone; counted as the public scorer counts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.bars import FIT

from models.training import Epoch, Interrupted
from models.vision import training
from models.vision.acceptance import AcceptanceSettings, RuleSettings
from models.vision.augment import Lot
from models.vision.inspection import Inspection
from models.vision.made_up import made_up, outline
from models.vision.mask_scores import mask_scores, points_at
from models.vision.network import start
from models.vision.preprocess import PictureError
from models.vision.report import Report
from models.vision.scores import auroc
from models.vision.segmenter import Segmenter, Sums
from models.vision.settings import (
    AugmentSettings,
    InspectionSettings,
    MaskSettings,
    NetworkSettings,
    PreprocessSettings,
)
from models.vision.severity import Grade, grade
from models.vision.stock import Examples, Region, Stock
from models.vision.training import Trained, train

WIDE, HIGH = 48, 40
SETTINGS = InspectionSettings(
    preprocess=PreprocessSettings(height=HIGH, width=WIDE),
    network=NetworkSettings(width=4, depth=(1, 1), stem="half"),
    mask=MaskSettings(
        network=NetworkSettings(width=8, depth=(1, 1), stem="half"),
        crop=32,
        crops=2,
        made_up=(5, 16),
    ),
)
MASK_FIT = FIT.model_copy(
    update={
        "epochs": 10,
        "batch_size": 8,
        "learning_rate": 0.02,
        "augment": AugmentSettings(flip_horizontal=True, rotation=10, noise=0.02),
    }
)


def plates(count: int, *, seed: int = 0, lit: float = 0.35) -> Examples:
    """Pictures [40, 48, 1], two of five with one or two dark or bright patches of drawn sizes."""
    draw = np.random.default_rng(seed)
    pictures, masks = [], []
    for number in range(count):
        plate = draw.normal(0.5, 0.03, (HIGH, WIDE, 1))
        own = []
        for label, left in (("dark", 0), ("bright", 24))[: max(number % 5 - 2, 0)]:
            x, y = left + draw.integers(1, 10), draw.integers(1, 22)
            across, down = draw.integers(5, 13, 2)
            mask = np.zeros((HIGH, WIDE), np.bool_)
            mask[y : y + down, x : x + across] = True
            plate[mask] += -lit if label == "dark" else lit
            own.append(Region(label=label, mask=mask))
        pictures.append(np.clip(plate * 255, 0, 255).astype(np.uint8))
        masks.append(own)
    return Examples(pictures=pictures, masks=masks, groups=range(count))


def labels_of(given: Examples) -> list[str]:
    """Of each picture that of its first region."""
    assert given.masks is not None
    return [own[-1].label if own else "good" for own in given.masks]


@pytest.fixture(scope="module")
def masked() -> Trained:
    return train(plates(110), SETTINGS, MASK_FIT, good="good")


def test_defects_that_were_never_seen_are_outlined_named_and_measured(masked: Trained) -> None:
    other = plates(30, seed=1)
    found = masked.inspection.inspect(other.pictures)
    assert other.masks is not None

    report = Report.of(
        found,
        labels_of(other),
        good="good",
        masks=other.masks,
        sure=masked.inspection.card.sure or 0,
    )

    pixels = report.pixels
    assert pixels is not None
    assert pixels.pixel_ap > 0.9
    assert pixels.dice_at > 0.85
    assert pixels.severity_spearman > 0.9
    assert report.numbers()["whole"]["aupro"] > 0.8
    for one, own in zip(found, other.masks, strict=True):
        assert {defect.label for defect in one.defects} == {region.label for region in own}


def test_a_defect_has_its_box_and_mask_and_is_graded_by_its_area(masked: Trained) -> None:
    other = plates(30, seed=2)
    assert other.masks is not None
    rule = RuleSettings(of="area_mm2", reject_over=0.25 * 60)
    table = AcceptanceSettings(classes={"dark": (rule,), "bright": ()})
    compared = []
    for one, own in zip(masked.inspection.inspect(other.pictures), other.masks, strict=True):
        assert one.heat.shape == (HIGH, WIDE)
        for defect in one.defects:
            x1, y1, x2, y2 = map(int, defect.box)
            assert defect.mask is not None
            assert defect.mask.shape == (y2 - y1, x2 - x1)
            assert (one.heat[y1:y2, x1:x2][defect.mask] > 0).all()
        area = sum(region.mask.sum() for region in own if region.label == "dark")
        if abs(area - 60) > 15:
            said = grade(one, table, mm_per_pixel=0.5).grade
            compared.append(said is (Grade.REJECT if area > 60 else Grade.ACCEPT))

    assert len(compared) > 20
    assert np.mean(compared) > 0.9


def test_a_good_plate_surprises_less_than_one_with_a_defect(masked: Trained) -> None:
    other = plates(30, seed=3)
    found = masked.inspection.inspect(other.pictures)
    good = np.array([label == "good" for label in labels_of(other)])
    surprise = np.array([one.surprise for one in found])

    assert np.median(surprise[~good]) > np.median(surprise[good]) + 1
    for one, is_good in zip(found, good, strict=True):
        assert sum(one.probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert (one.label == "good") == is_good


def test_a_folder_gives_back_the_same_masks_alone_and_among_others(
    tmp_path: Path, masked: Trained
) -> None:
    other = plates(6, seed=4)
    masked.inspection.save(tmp_path / "bundle")

    loaded = Inspection.load(tmp_path / "bundle")
    together = masked.inspection.inspect(other.pictures)

    for picture, one, again in zip(
        other.pictures, together, loaded.inspect(other.pictures), strict=True
    ):
        assert one.heat.tobytes() == again.heat.tobytes()
        (alone,) = loaded.inspect([picture])
        assert int(np.abs(one.heat.astype(int) - alone.heat).max()) <= 1
        assert alone.anomaly == pytest.approx(one.anomaly, abs=1e-4)


def test_a_training_of_masks_that_was_stopped_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    given, short = plates(110), MASK_FIT.model_copy(update={"epochs": 2})
    whole = train(given, SETTINGS, short, good="good")
    told: list[Epoch] = []
    with pytest.raises(Interrupted):
        train(
            given,
            SETTINGS,
            short,
            good="good",
            progress=told.append,
            checkpoint=tmp_path / "kept",
            should_stop=lambda: len(told) == 1,
        )

    again = train(given, SETTINGS, short, good="good", checkpoint=tmp_path / "kept")

    assert again.inspection.card.weights_sha256 == whole.inspection.card.weights_sha256
    assert again.inspection.card.sure == whole.inspection.card.sure


def test_good_pictures_alone_teach_what_is_odd() -> None:
    many = plates(150)
    good = [
        one for one, label in zip(many.pictures, labels_of(many), strict=True) if label == "good"
    ]
    given = Examples(pictures=good, labels=["good"] * len(good), groups=range(len(good)))
    other = plates(60, seed=1)

    trained = train(given, SETTINGS, MASK_FIT, good="good")
    found = trained.inspection.inspect(other.pictures)

    card = trained.inspection.card
    assert (card.task, card.classes) == ("good", ("anomaly", "good"))
    for sure in (0.001, card.limit, 0.9):  # wherever it lies, verdict and defects are at one
        limited = Inspection(card.model_copy(update={"sure": sure}), trained.inspection._tensors)
        for one in limited.inspect(other.pictures):
            assert (one.label == "anomaly") == bool(one.defects)
            assert one.probability == max(one.probabilities.values()) >= 0.5
            assert all(defect.mask.sum() >= 2.5**2 for defect in one.defects)
    bad = np.array([label != "good" for label in labels_of(other)])
    assert auroc(bad, np.array([one.anomaly for one in found])) > 0.9
    assert other.masks is not None
    report = Report.of(
        found, ["anomaly" if one else "good" for one in bad], good="good", masks=other.masks
    )
    assert report.pixels is not None
    assert report.pixels.pixel_auroc > 0.9
    with pytest.raises(ValueError, match="'anomaly' is what others will be called"):
        train(replace(given, labels=["anomaly"] * len(good)), SETTINGS, MASK_FIT, good="anomaly")


def test_masks_that_do_not_fit_are_refused() -> None:
    few = plates(9)
    assert few.masks is not None
    other = [Region(label="dark", mask=np.ones((HIGH, WIDE + 1), np.bool_))]

    with pytest.raises(PictureError, match=r"picture 9: mask of dark: want bool \[40, 48\]"):
        train(replace(few, masks=[*few.masks[:8], other]), SETTINGS, MASK_FIT, good="good")
    empty = [Region(label="dark", mask=np.zeros((HIGH, WIDE), np.bool_))]
    with pytest.raises(PictureError, match="picture 9: mask of dark: nothing is painted"):
        train(replace(few, masks=[*few.masks[:8], empty]), SETTINGS, MASK_FIT, good="good")
    with pytest.raises(ValueError, match="want a name for what has no defect, where masks"):
        train(few, SETTINGS, MASK_FIT)
    with pytest.raises(ValueError, match="want labels, boxes or masks, one of them"):
        train(replace(few, labels=["good"] * 9), SETTINGS, MASK_FIT, good="good")
    with pytest.raises(ValueError, match="masks: want 9, one for each picture, got 8"):
        train(replace(few, masks=few.masks[:8]), SETTINGS, MASK_FIT, good="good")


def test_the_loss_is_least_for_what_is_true_and_adds_up_over_pictures() -> None:
    true = (torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)) > 0.8).float()
    share = torch.cat([true, 1 - true], 1)
    right = share * 20 - 10

    whole = Sums.of(right, share, good=1)
    added = Sums.of(right[:1], share[:1], good=1) + Sums.of(right[1:], share[1:], good=1)

    assert float(whole.loss) < 0.01
    assert float(added.loss) == pytest.approx(float(whole.loss), abs=1e-6)
    assert float(Sums.of(-right, share, good=1).loss) > 5
    nothing = torch.stack([torch.full((3, 8, 8), -10.0), torch.full((3, 8, 8), 10.0)], 1)
    assert float(Sums.of(nothing, share, good=1).loss) > 1


def test_a_segmenter_reads_pictures_of_odd_sizes_and_learns_with_channels_last() -> None:
    network = Segmenter(NetworkSettings(width=8, depth=(1, 1, 1), stem="half"), 3, 2)
    start(network, torch.Generator().manual_seed(0))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    features, logits = network.look(torch.rand(2, 3, 37, 51))
    logits.square().mean().backward()

    assert features.shape == (2, 32)
    assert logits.shape == (2, 2, 19, 26)
    assert all(
        bool(one.grad.isfinite().all()) for one in network.parameters() if one.grad is not None
    )


def test_made_up_defects_change_pictures_where_their_masks_say_and_nowhere_else() -> None:
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(12, 1, 40, 48, generator=generator)
    clean = torch.stack([torch.zeros(12, 40, 48), torch.ones(12, 40, 48)], 1)
    lot = Lot(picture=picture, share=clean.mean((2, 3)), mask=clean)

    made = made_up(lot, (5, 16), 1, generator)

    assert made.mask is not None
    assert bool((made.mask.sum(1) == 1).all())
    changed = (made.picture != picture)[:, 0]
    assert not bool((changed & (made.mask[:, 0] == 0)).any())
    painted = made.mask[:, 0].flatten(1).sum(1)
    assert bool((painted == 0).any())
    assert bool((painted > 0).any())


def test_beside_a_template_what_is_made_up_is_on_the_picture_and_in_the_difference() -> None:
    generator = torch.Generator().manual_seed(0)
    picture, template = torch.rand(2, 6, 1, 40, 48, generator=generator)
    clean = torch.stack([torch.zeros(6, 40, 48), torch.ones(6, 40, 48)], 1)
    paired = torch.cat([picture, template, picture - template], 1)
    lot = Lot(picture=paired, share=clean.mean((2, 3)), mask=clean)

    made = made_up(lot, (5, 16), 1, generator, templates=True).picture

    assert torch.equal(made[:, 1:2], template)
    assert not torch.equal(made[:, :1], picture)
    assert torch.allclose(made[:, 2:], made[:, :1] - template, atol=1e-6)


def test_an_outline_is_of_the_size_that_is_asked_for() -> None:
    generator = torch.Generator().manual_seed(1)
    areas = [float(outline(torch.Size((200, 200)), (20, 20), generator).sum()) for _ in range(40)]

    assert 0.1 * 20**2 < np.median(areas) < 20**2
    assert max(areas) < (2 * 20) ** 2


def test_scores_of_maps_are_those_counted_by_hand() -> None:
    painted = np.zeros((4, 5), np.bool_)
    painted[0, 0], painted[1, 1] = True, True  # they touch at a corner: one region
    painted[3, 3:] = True
    heat = np.zeros((4, 5), np.uint8)
    heat[0, 0], heat[3, 3], heat[0, 4], heat[1, 1] = 255, 200, 150, 100
    good = np.zeros((4, 5), np.bool_)

    found = mask_scores([(heat, painted), (np.zeros_like(heat), good)], threshold=0.5)

    # in falling order: hit, hit, false, hit, then 35 false and one hit at once
    assert found.pixel_ap == pytest.approx((1 + 1 + 3 / 4 + 4 / 40) / 4)
    assert found.dice == pytest.approx(2 * 3 / (4 + 4))
    assert found.dice_from == pytest.approx(100 / 255)
    assert found.dice_at == pytest.approx(2 * 2 / (3 + 4))
    assert found.area_error == pytest.approx(1 / 4)
    steps = [0.5, 0.5, 0.75]  # mean overlap at 0, 1/36 and 1/36 of good pixels
    at_limit = steps[2] + (1 - steps[2]) * (0.3 - 1 / 36) / (35 / 36)
    area = steps[0] / 36 + (steps[2] + at_limit) / 2 * (0.3 - 1 / 36)
    assert found.aupro == pytest.approx(area / 0.3)
    assert found.pointing == 1
    with pytest.raises(ValueError, match="no picture has a painted defect"):
        mask_scores([(heat, good)], threshold=0.5)


def test_a_map_points_at_a_defect_as_often_as_its_highest_places_are_near_it() -> None:
    painted = np.zeros((9, 9), np.bool_)
    painted[4, 4] = True
    heat = np.zeros((9, 9), np.uint8)
    heat[4, 6], heat[0, 0] = 9, 9

    assert points_at(heat, painted, 1) == 0
    assert points_at(heat, painted, 2) == 0.5


def scratched(count: int) -> Examples:
    """Pictures [96, 96, 1], each other one with a scratch a pixel wide."""
    draw = np.random.default_rng(0)
    pictures, masks = [], []
    for number in range(count):
        picture = np.clip(draw.normal(120, 10, (96, 96, 1)), 0, 255).astype(np.uint8)
        mask = np.zeros((96, 96), np.bool_)
        y = int(draw.integers(5, 90))
        mask[y, 10:70] = number % 2
        picture[mask] = 250
        pictures.append(picture)
        masks.append([Region(label="scratch", mask=mask)] if number % 2 else [])
    return Examples(pictures=pictures, masks=masks, groups=range(count))


def made_small(side: int = 32, crop: tuple[int, int, int, int] | None = None) -> InspectionSettings:
    return SETTINGS.model_copy(
        update={"preprocess": PreprocessSettings(height=side, width=side, crop=crop)}
    )


@pytest.mark.parametrize("wide", [1, 2, 3, 20])
def test_what_is_painted_leaves_pixels_however_small_a_picture_is_made(wide: int) -> None:
    for y in range(30, 40):
        mask = np.zeros((96, 96), np.bool_)
        mask[y : y + wide, 10:70] = True
        given = Examples(
            pictures=[np.zeros((96, 96, 1), np.uint8)], masks=[[Region(label="pit", mask=mask)]]
        )

        painted, thin = Stock(given, made_small()).painted(0, ("good", "pit"), 0)

        across = np.flatnonzero((painted == 1).any(0))
        down = np.flatnonzero((painted == 1).any(1))
        assert abs(len(across) - 60 / 3) <= 1
        assert 1 <= len(down) <= wide / 3 + 2
        assert abs((y + wide / 2) / 3 - (down.mean() + 0.5)) < 0.6
        assert thin in ([["pit"]] if wide == 1 else [[], ["pit"]] if wide == 2 else [[]])


def test_scratches_thinner_than_a_pixel_are_warned_of_and_do_not_calibrate_as_good() -> None:
    short = MASK_FIT.model_copy(update={"epochs": 1, "warmup_epochs": 0, "validation_share": 0.4})
    told: list[str] = []

    card = train(scratched(100), made_small(), short, good="good", warn=told.append).inspection.card

    assert len(told) == 1
    assert told[0].startswith(
        "masks: 50 of scratch cover no pixel by half, once a picture is brought to 32 x 32 pixels"
    )
    assert card.calibration.frames == card.held_out["good"]


def test_what_is_painted_beyond_the_crop_is_left_out_and_warned_of() -> None:
    given, told = scratched(100), []
    assert given.masks is not None
    below = [own for own in given.masks if own and own[0].mask[64:].any()]
    short = MASK_FIT.model_copy(update={"epochs": 1, "warmup_epochs": 0, "validation_share": 0.4})

    card = train(
        given, made_small(64, (0, 0, 96, 64)), short, good="good", warn=told.append
    ).inspection.card

    assert len(told) == 1
    assert told[0].startswith(f"masks: {len(below)} of scratch beyond the crop [0, 0, 96, 64]")
    seen = {name: card.learnt[name] + card.held_out[name] for name in card.classes}
    assert seen == {"good": 50 + len(below), "scratch": 50 - len(below)}
    assert card.calibration.frames == card.held_out["good"]


def test_where_nothing_is_found_on_good_pictures_not_everything_is_a_defect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training, "eight_bits", lambda wrong: np.zeros(wrong.shape, np.uint8))
    good = Examples(pictures=scratched(100).pictures[::2], labels=["good"] * 50, groups=range(50))
    short = MASK_FIT.model_copy(update={"epochs": 1, "warmup_epochs": 0, "validation_share": 0.4})

    card = train(good, made_small(), short, good="good").inspection.card

    assert card.limit == card.sure == 1 / 255
    assert card.model_copy(update={"sure": None}).limit == 0.5
    assert card.model_copy(update={"sure": 0.0}).limit == 0.0
