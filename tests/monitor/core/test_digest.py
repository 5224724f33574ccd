from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.keeping import scores

from monitor.core.digest import digest
from monitor.core.records import Scores

NAMES = {0: "p1", 1: "p2", 2: "p3"}
BLOCK = scores(
    [0, 1, 2, 0, 1, 2],
    asset=[0, 0, 0, 1, 1, 1],
    surprise=[0.5, float("nan"), 2, 3, -0.0, 5],
)


def rows(block: Scores, chosen: object) -> Scores:
    names = [field.name for field in fields(block)][2:]
    return replace(block, **{name: getattr(block, name)[chosen] for name in names})


@given(st.permutations(range(6)), st.lists(st.integers(0, 6), max_size=3))
def test_order_and_cutting_do_not_matter(order, cuts):
    shuffled = rows(BLOCK, np.array(order))
    edges = [0, *sorted(cuts), 6]
    pieces = [rows(shuffled, slice(a, b)) for a, b in pairwise(edges)]
    assert digest(pieces, NAMES) == digest([BLOCK], NAMES)


def test_the_numbers_of_assets_do_not_matter_but_their_names_do():
    renumbered = replace(BLOCK, asset=BLOCK.asset + np.int32(7))
    assert digest([renumbered], {7: "p1", 8: "p2"}) == digest([BLOCK], NAMES)
    assert digest([BLOCK], {0: "p1", 1: "p9"}) != digest([BLOCK], NAMES)
    assert digest([BLOCK], {0: "p2", 1: "p1"}) != digest([BLOCK], NAMES)


@pytest.mark.parametrize("column", ["tick", "raw", "surprise", "blame", "state"])
def test_one_bit_more_or_less_is_another_digest(column):
    changed = getattr(BLOCK, column).copy()
    changed.view(np.uint8).reshape(-1)[-1] ^= 1
    assert digest([replace(BLOCK, **{column: changed})], NAMES) != digest([BLOCK], NAMES)


def test_minus_zero_is_not_zero():
    zero = replace(BLOCK, surprise=np.where(BLOCK.surprise == 0, np.float32(0), BLOCK.surprise))
    assert digest([zero], NAMES) != digest([BLOCK], NAMES)


def test_a_row_that_is_missing_or_there_twice_is_another_digest():
    whole = digest([BLOCK], NAMES)
    assert digest([rows(BLOCK, slice(5))], NAMES) != whole
    assert digest([BLOCK, rows(BLOCK, slice(1))], NAMES) != whole


def test_kinds_of_different_width_stand_side_by_side():
    other = scores([0], asset=2, channels=("speed",), kind="fan")
    assert digest([BLOCK, other], NAMES) == digest([other, BLOCK], NAMES)
    assert digest([BLOCK, other], NAMES) != digest([BLOCK], NAMES)


def test_no_scores_have_a_digest_and_empty_blocks_change_nothing():
    assert digest([BLOCK, rows(BLOCK, slice(0))], NAMES) == digest([BLOCK], NAMES)
    assert digest([], NAMES) == digest([rows(BLOCK, slice(0))], NAMES)


def test_an_asset_without_a_name_is_an_error():
    with pytest.raises(KeyError):
        digest([BLOCK], {0: "p1"})
