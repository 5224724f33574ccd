"""On-delay, off-delay and deadband, second by second."""

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.conditions import Conditions

SECOND = 1_000_000_000


def changes(seen: str, *, on: int, off: int, fresh: Sequence[int] = ()) -> list[tuple[int, bool]]:
    """A letter a second: h beyond, d in the deadband, l back, ? says nothing: (second, active)."""
    conditions = Conditions(np.array([on * SECOND]), np.array([off * SECOND]))
    letters = np.array(list(seen))
    found = conditions.step(
        np.zeros(len(seen), np.intp),
        np.arange(len(seen)) * SECOND,
        entered=letters == "h",
        left=letters == "l",
        fresh=np.isin(np.arange(len(seen)), fresh),
    )
    return [(change.row, change.active) for change in found]


def test_one_spike_shorter_than_on_delay_raises_nothing():
    assert changes("llhhlhhl", on=2, off=0) == []


def test_it_is_raised_once_it_lasted_for_the_on_delay():
    assert changes("llhhhhh", on=2, off=0) == [(4, True)]


def test_without_delays_it_follows_at_once():
    assert changes("lhl", on=0, off=0) == [(1, True), (2, False)]


def test_it_returns_once_it_was_back_for_the_off_delay():
    assert changes("hllhlll", on=0, off=2) == [(0, True), (6, False)]


def test_the_deadband_neither_raises_nor_returns():
    assert changes("hdhdhd", on=1, off=0) == []
    assert changes("hdddd", on=0, off=0) == [(0, True)]


def test_frames_that_say_nothing_start_the_timers_anew_and_clear_nothing():
    assert changes("h?h?h?", on=1, off=0) == []
    assert changes("h??l?ll", on=0, off=1) == [(0, True), (6, False)]


def test_what_was_before_a_gap_counts_for_no_timer():
    assert changes("hhhhh", on=2, off=0, fresh=[2]) == [(4, True)]
    assert changes("hlllll", on=0, off=2, fresh=[3]) == [(0, True), (5, False)]


def test_without_delays_the_first_row_after_a_gap_counts():
    assert changes("hl", on=0, off=0, fresh=[0, 1]) == [(0, True), (1, False)]


@given(st.lists(st.text("hdl?", max_size=6), max_size=6), st.integers(0, 3), st.integers(0, 3))
def test_any_cut_of_the_rows_gives_the_same_changes(pieces, on, off):
    whole = changes("".join(pieces), on=on, off=off)
    conditions = Conditions(np.array([on * SECOND]), np.array([off * SECOND]))
    found, offset = [], 0
    for piece in pieces:
        letters = np.array(list(piece), "U1")
        rows = conditions.step(
            np.zeros(len(piece), np.intp),
            (offset + np.arange(len(piece))) * SECOND,
            entered=letters == "h",
            left=letters == "l",
            fresh=np.zeros(len(piece), bool),
        )
        found += [(offset + change.row, change.active) for change in rows]
        offset += len(piece)
    assert found == whole


@given(st.text("hdl?", max_size=40), st.integers(0, 3), st.integers(0, 3))
def test_raises_and_returns_take_turns(seen, on, off):
    active = [active for _, active in changes(seen, on=on, off=off)]
    assert active == [i % 2 == 0 for i in range(len(active))]
