"""Sizes and grades: what people have said is applied, and what nobody can say is not invented."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from models.vision.acceptance import (
    AcceptanceSettings,
    Grade,
    MeasureSettings,
    RuleSettings,
    ZoneSettings,
)
from models.vision.inspected import Defect, Inspected
from models.vision.severity import grade, longest, size_of, touches


def scratch(*, x, y, long, wide, degrees, side=80):
    """A mask [side, side] of a line with round ends: the pixels whose middle lies within."""
    at_y, at_x = np.mgrid[:side, :side] + 0.5
    turn = np.deg2rad(degrees)
    across = (at_x - x) * np.cos(turn) + (at_y - y) * np.sin(turn)
    down = (at_y - y) * np.cos(turn) - (at_x - x) * np.sin(turn)
    return np.hypot(np.maximum(np.abs(across) - (long - wide) / 2, 0), down) <= wide / 2


def defect(mask=None, *, label="scratch", box=None):
    if box is None:
        box = (0.0, 0.0, float(mask.shape[1]), float(mask.shape[0]))
    return Defect(label=label, probability=0.9, box=box, mask=mask)


def square(side, *, x=10, y=10, label="scratch"):
    """A defect of side x side pixels at x, y."""
    box = (float(x), float(y), float(x + side), float(y + side))
    return Defect(label=label, probability=0.9, box=box, mask=np.ones((side, side), bool))


def inspected(*defects):
    return Inspected(
        label="good",
        probability=1.0,
        probabilities={"good": 1.0},
        anomaly=0.0,
        surprise=0.1,
        heat=np.zeros((80, 80), np.uint8),
        defects=defects,
        features=np.zeros(4, np.float32),
    )


def looked_at(*, label="scratch"):
    """What a network that has learnt classes says of a defect: where it looked."""
    box = (0.0, 0.0, 3.0, 4.0)
    return Defect(label=label, probability=0.9, box=box, bounded=False)


def table(*rules, label="scratch", **more):
    return AcceptanceSettings(classes={label: rules}, **more)


def graded(*defects, by, scale=0.1, picture=None):
    return grade(inspected(*defects), by, mm_per_pixel=scale, picture=picture)


SHIFT, TURN = st.floats(-3, 3), st.floats(0, 180)


@settings(max_examples=60, deadline=None)
@given(SHIFT, SHIFT, TURN, st.floats(16, 60), st.floats(4, 12))
def test_moving_and_turning_a_defect_changes_neither_length_nor_area(x, y, degrees, long, wide):
    mask = scratch(x=40 + x, y=40 + y, long=long, wide=wide, degrees=degrees)
    size, outline = size_of(defect(mask), 0.1), 2 * (long - wide) + np.pi * wide
    assert size.length_px == pytest.approx(long, abs=1)
    area = (long - wide) * wide + np.pi / 4 * wide**2
    assert size.area_px == pytest.approx(area, abs=outline / 2)  # half a pixel all around
    assert size.length_mm == pytest.approx(0.1 * size.length_px)
    assert size.area_mm2 == pytest.approx(0.01 * size.area_px)


def test_the_length_is_the_longest_way_across():
    assert longest(np.ones((1, 12), bool)) == 12
    assert longest(np.ones((12, 1), bool)) == 12
    assert longest(np.ones((1, 1), bool)) == 1
    assert longest(np.zeros((5, 5), bool)) == 0
    assert longest(np.eye(30, dtype=bool)) == pytest.approx(np.hypot(29.5, 29.5), abs=0.6)


def test_without_a_mask_the_box_bounds_the_size():
    size = size_of(defect(box=(10.0, 10.0, 40.0, 50.0)), 0.1)
    assert (size.area_px, size.length_px, size.by_mask) == (1200, 50, False)


def test_without_a_scale_sizes_are_in_pixels_and_mm_are_not_graded():
    size = size_of(square(20), None)
    assert (size.area_px, size.area_mm2, size.length_mm) == (400, None, None)
    found = graded(square(20), by=table(RuleSettings(of="area_mm2", reject_over=1)), scale=None)
    assert (found.grade, found.rule) == (Grade.NONE, "scratch: area_mm2")
    assert "want mm_per_pixel" in found.reason
    assert found.grades == (Grade.NONE,)


def test_what_is_too_bad_in_pixels_is_rejected_even_where_mm_are_not_known():
    rules = RuleSettings(of="area_mm2", reject_over=1), RuleSettings(of="area_px", reject_over=300)
    found = graded(square(20), by=table(*rules), scale=None)
    assert (found.grade, found.rule) == (Grade.REJECT, "scratch: area_px")
    assert len(found.unjudged) == 1
    rules = rules[0], RuleSettings(of="area_px", rework_over=300)
    found = graded(square(20), by=table(*rules), scale=None)
    assert found.grade is Grade.NONE
    assert "at least rework: scratch: area_px" in found.reason


def test_a_part_has_the_grade_of_its_worst_rule_and_the_rule_is_named():
    rules = (
        RuleSettings(of="length_mm", rework_over=2, reject_over=10),
        RuleSettings(of="area_mm2", rework_over=3, reject_over=5),
    )
    for side, wanted, named in (
        (10, Grade.ACCEPT, ""),
        (18, Grade.REWORK, "scratch: length_mm"),
        (30, Grade.REJECT, "scratch: area_mm2"),
    ):
        found = graded(square(5), square(side, x=20), by=table(*rules))
        assert found.grade is wanted
        assert found.rule == named or wanted is Grade.ACCEPT
        assert found.grades == (Grade.ACCEPT, wanted)
    assert found.reason == "9, over 5"


def test_nothing_found_is_accepted_and_what_has_no_rules_is_not_graded():
    rules = RuleSettings(of="count", reject_over=2)
    found = graded(by=table(rules))
    assert (found.grade, found.rule, found.reason) == (Grade.ACCEPT, "", "nothing was found")
    found = graded(square(5, label="dent"), by=table(rules))
    assert (found.grade, found.reason) == (Grade.NONE, "this class of defect has no rules")
    assert graded(square(5), by=table()).grade is Grade.ACCEPT  # named, and without rules


def test_counts_are_of_the_part():
    rule = RuleSettings(of="count", rework_over=1, reject_over=2)
    for count, wanted in enumerate([Grade.ACCEPT, Grade.ACCEPT, Grade.REWORK, Grade.REJECT]):
        found = graded(*[square(3, x=5 * n) for n in range(count)], by=table(rule))
        assert found.grade is wanted
        assert found.grades == (Grade.ACCEPT,) * count


ZONES = {
    "seal": {"rectangle": (0, 0, 20, 20)},
    "corner": {"polygon": ((80, 80), (40, 80), (80, 40))},
}


def test_a_rule_of_a_zone_is_for_defects_that_touch_it():
    rule = RuleSettings(of="count", zone="seal", reject_over=0)
    assert graded(square(5, x=15), by=table(rule, zones=ZONES)).grade is Grade.REJECT
    found = graded(square(5, x=20), by=table(rule, zones=ZONES))
    assert (found.grade, found.rule) == (Grade.ACCEPT, "scratch: count in seal")


def test_a_polygon_holds_the_pixels_whose_middle_it_holds():
    corner = ZoneSettings(polygon=ZONES["corner"]["polygon"])
    assert touches(square(1, x=70, y=70), corner)
    assert touches(square(1, x=60, y=60), corner)
    assert not touches(square(1, x=59, y=59), corner)
    mask = np.zeros((40, 40), bool)
    mask[0, 0] = True  # of a box that does touch it
    assert not touches(defect(mask, box=(40.0, 40.0, 80.0, 80.0)), corner)
    assert touches(defect(box=(40.0, 40.0, 80.0, 80.0)), corner)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_larger_defect_never_has_a_better_grade(data):
    of = st.sampled_from(["area_mm2", "length_mm", "area_px", "length_px", "count"])
    limits = st.tuples(st.floats(0, 40), st.floats(0.1, 40))
    rules = [
        RuleSettings(of=one, zone=zone, rework_over=at, reject_over=at + more)
        for one, zone, (at, more) in data.draw(
            st.lists(st.tuples(of, st.sampled_from([None, *ZONES]), limits), min_size=1, max_size=4)
        )
    ]
    acceptance = table(*rules, zones=ZONES)
    x, y = data.draw(st.tuples(st.integers(0, 50), st.integers(0, 50)))
    worst = -1
    order = [Grade.ACCEPT, Grade.REWORK, Grade.REJECT]
    for side in range(1, 29, 3):
        found = order.index(graded(square(side, x=x, y=y), by=acceptance).grade)
        assert found >= worst
        worst = found


def test_a_mask_that_is_not_of_its_box_is_refused():
    with pytest.raises(ValueError, match=r"mask of scratch: want \[10, 20\], its rounded box, got"):
        size_of(defect(np.ones((5, 5), bool), box=(0.0, 0.0, 20.2, 9.7)), 0.1)


BAR = np.zeros((80, 80), np.uint8)
BAR[:, 30:50] = 200


def dimension(**given_settings):
    given_settings = {"what": "width", "region": (0, 20, 80, 60)} | given_settings
    return {"bore": MeasureSettings(**given_settings)}


@pytest.mark.parametrize(
    ("limits", "wanted", "reason"),
    [
        ({"least_mm": 1.9, "most_mm": 2.1}, Grade.ACCEPT, "width 2 mm, within tolerance"),
        ({"least_mm": 2.1}, Grade.REJECT, "width 2 mm, below 2.1"),
        ({"most_mm": 1.9, "beyond": "rework"}, Grade.REWORK, "width 2 mm, over 1.9"),
    ],
)
def test_a_dimension_is_held_against_its_tolerance(limits, wanted, reason):
    acceptance = AcceptanceSettings(measures=dimension(**limits))
    found = graded(by=acceptance, picture=BAR)
    assert (found.grade, found.rule, found.reason) == (wanted, "bore", reason)
    assert found.measured_px["bore"] == pytest.approx(20)
    assert found.measured_mm["bore"] == pytest.approx(2)


def test_a_dimension_that_cannot_be_measured_is_not_accepted():
    acceptance = AcceptanceSettings(measures=dimension(most_mm=9))
    found = graded(by=acceptance, picture=np.zeros((80, 80), np.uint8))
    assert (found.grade, found.reason) == (Grade.NONE, "too little contrast in its region")
    assert graded(by=acceptance).reason == "the picture was not given"
    found = graded(by=acceptance, scale=None, picture=BAR)
    assert found.grade is Grade.NONE
    assert found.reason.startswith("20 px; nobody knows how large a pixel is")
    assert (found.measured_px["bore"], found.measured_mm["bore"]) == (pytest.approx(20), None)


def test_the_mask_of_a_class_can_be_measured():
    measures = dimension(what="area", mask="blob", most_mm2=1, region=(0, 0, 80, 80))
    acceptance = table(label="blob", measures=measures)
    blobs = square(9, label="blob"), square(5, x=40, label="blob"), square(9, x=60, label="other")
    found = graded(*blobs[:2], by=acceptance)
    assert found.measured_px["bore"] == 81 + 25
    assert (found.grade, found.reason) == (Grade.REJECT, "area 1.06 mm2, over 1")
    outside = replace(blobs[0], box=(75.0, 75.0, 84.0, 84.0))
    assert graded(outside, by=acceptance).measured_px["bore"] == 25


@pytest.mark.parametrize("what", ["width", "height", "area"])
def test_a_part_without_a_class_whose_mask_is_measured_measures_nought(what):
    limit = {"most_mm2" if what == "area" else "most_mm": 1}
    measures = dimension(what=what, mask="blob", region=(0, 0, 80, 80), **limit)
    found = graded(square(9, label="other"), by=table(label="other", measures=measures))
    assert (found.grade, found.measured_px["bore"]) == (Grade.ACCEPT, 0)
    measures = dimension(what="gap", mask="blob", region=(0, 0, 80, 80), most_mm=1)
    assert graded(by=table(label="blob", measures=measures)).grade is Grade.NONE


@pytest.mark.parametrize(
    ("given_settings", "message"),
    [
        ({"classes": {"a": [{"of": "count"}]}}, "want rework_over, reject_over, or both"),
        (
            {"classes": {"a": [{"of": "count", "rework_over": 3, "reject_over": 2}]}},
            "want rework_over below reject_over, got 3 and 2",
        ),
        (
            {"classes": {"a": [{"of": "count", "reject_over": 2, "zone": "rim"}]}},
            r"classes.a: no zone 'rim'; want one of \[\]",
        ),
        ({"zones": {"rim": {}}}, "want either rectangle or polygon"),
        ({"zones": {"rim": {"rectangle": (5, 0, 5, 9)}}}, "rectangle: want x1 < x2"),
        (
            {"measures": {"a": {"what": "area", "region": (0, 0, 9, 9), "most_mm": 1}}},
            "area: want least_mm2, most_mm2, or both, and no others",
        ),
        (
            {"measures": {"a": {"what": "gap", "region": (0, 0, 9, 9)}}},
            "gap: want least_mm, most_mm, or both",
        ),
        (
            {
                "measures": {
                    "a": {"what": "gap", "region": (0, 0, 9, 9), "least_mm": 2, "most_mm": 1}
                }
            },
            "want least_mm below most_mm, got 2 and 1",
        ),
        ({"classes": {"a": [{"of": "count", "reject_over": -1}]}}, "greater than or equal to 0"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(given_settings, message):
    with pytest.raises(ValidationError) as refused:
        AcceptanceSettings.model_validate(given_settings)
    assert re.search(message, str(refused.value))


@pytest.mark.parametrize("of", ["length_mm", "area_px", "count in seal"])
def test_where_the_network_looked_is_no_size(of):
    what, _, zone = of.partition(" in ")
    rule = RuleSettings(of=what, zone=zone or None, reject_over=0)
    rules = table(rule, zones={"seal": ZoneSettings(rectangle=(0, 0, 9, 9))})
    found = grade(inspected(looked_at()), rules, mm_per_pixel=0.1)
    assert (found.grade, found.rule) == (Grade.NONE, f"scratch: {of}")
    assert "where it looked" in found.reason
    assert (found.sizes[0].length_px, found.sizes[0].area_mm2) == (None, None)


def test_what_the_network_looked_at_is_counted():
    rules = table(RuleSettings(of="count", reject_over=0))
    found = grade(inspected(looked_at()), rules, mm_per_pixel=None)
    assert (found.grade, found.reason) == (Grade.REJECT, "1, over 0")


def test_a_class_without_rules_is_accepted_and_named():
    found = grade(inspected(square(3)), table(), mm_per_pixel=None)
    assert (found.grade, found.rule) == (Grade.ACCEPT, "scratch: no rule")
    assert grade(inspected(), table(), mm_per_pixel=None).reason == "nothing was found"
