"""On-delay, off-delay and deadband, second by second."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.conditions import Conditions

SECOND = 1_000_000_000


class Point:
    """One point, told a letter a second.

    h beyond, d in the deadband, l back, ? says nothing; a capital comes a minute after a gap.
    """

    def __init__(self, *, on: int, off: int) -> None:
        self.conditions = Conditions(np.array([on * SECOND]), np.array([off * SECOND]))
        self.told, self.now = 0, 0

    def tell(self, letters: str) -> list[tuple[int, bool]]:
        """The changes: (how many letters were told before, active)."""
        seen = np.array(list(letters.lower()), "U1")
        fresh = np.array([letter.isupper() for letter in letters], np.bool_)
        tick = self.now + np.cumsum(np.where(fresh, 60, 1)) * SECOND
        found = self.conditions.step(
            np.zeros(len(seen), np.intp),
            tick,
            says=seen != "?",
            entered=seen == "h",
            left=seen == "l",
            fresh=fresh,
        )
        before = self.told
        self.told, self.now = before + len(seen), int(tick[-1]) if len(tick) else self.now
        return [(before + change.row, change.active) for change in found]


def changes(letters: str, *, on: int, off: int) -> list[tuple[int, bool]]:
    return Point(on=on, off=off).tell(letters)


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


def test_what_speaks_against_it_starts_the_timer_anew():
    assert changes("hhdhhh", on=2, off=0) == [(5, True)]
    assert changes("hhlhhh", on=2, off=0) == [(5, True)]
    assert changes("hlldlll", on=0, off=2) == [(0, True), (6, False)]
    assert changes("hllhlll", on=0, off=2) == [(0, True), (6, False)]


def test_rows_that_say_nothing_pause_the_timers_and_change_nothing():
    assert changes("hh??hh", on=2, off=0) == [(5, True)]
    assert changes("h??ll?ll", on=0, off=2) == [(0, True), (7, False)]
    assert changes("h" + "?" * 50, on=0, off=0) == [(0, True)]


def test_a_gap_pauses_the_timers_and_its_time_does_not_count():
    assert changes("hhHh", on=2, off=0) == [(3, True)]
    assert changes("hllLl", on=0, off=2) == [(0, True), (4, False)]


def test_time_counts_only_between_two_rows_that_follow_each_other():
    assert changes("h?h?h?h?", on=1, off=0) == []
    assert changes("HHHHH", on=1, off=0) == []
    assert changes("h?hh", on=1, off=0) == [(3, True)]


def test_a_row_that_says_nothing_after_a_gap_is_a_pause_as_well():
    assert changes("hh?Hhh", on=3, off=0) == [(5, True)]


def test_a_delay_longer_than_every_cycle_elapses_after_as_much_running_time():
    assert changes("hhh???" * 10, on=10, off=0) == [(4 * 6 + 2, True)]


def test_a_change_leaves_nothing_on_the_timer_of_the_next():
    assert changes("hhhlhhh", on=2, off=0) == [(2, True), (3, False), (6, True)]
    assert changes("hhhhh" + "lll", on=1, off=2) == [(1, True), (7, False)]


def test_without_delays_the_first_row_after_a_gap_counts():
    assert changes("HL", on=0, off=0) == [(0, True), (1, False)]


def test_a_snapshot_from_before_timers_could_pause_says_what_is_active():
    point = Point(on=2, off=2)
    before = {"since": np.array([7 * SECOND]), "raised": np.array([3 * SECOND])}
    point.conditions.restore(before, np.array([0]), np.array([0]))
    assert point.conditions.active.tolist() == [True]
    assert point.tell("lll") == [(2, False)]


letters = st.text("hdl?HDL", max_size=40)
delays = st.integers(0, 3)


@given(st.lists(st.text("hdl?HDL", max_size=6), max_size=6), delays, delays)
def test_any_cut_of_the_rows_gives_the_same_changes(pieces, on, off):
    cut, saved = Point(on=on, off=off), Point(on=on, off=off)
    found, again = [], []
    for piece in pieces:
        found += cut.tell(piece)
        other = Point(on=on, off=off)  # goes on from what the one before it saved
        other.conditions.restore(saved.conditions.snapshot(), np.array([0]), np.array([0]))
        other.told, other.now = saved.told, saved.now
        again += other.tell(piece)
        saved = other
    assert found == again == changes("".join(pieces), on=on, off=off)


@given(letters, delays, delays)
def test_the_changes_are_what_the_definition_says(seen, on, off):
    active, ran, before, want = False, 0, "?", []
    for place, letter in enumerate(seen):
        towards = "l" if active else "h"
        if letter.lower() == towards:
            ran += (
                letter == before.lower() == towards
            )  # a capital is no second after the one before
            if ran >= (off if active else on):
                active, ran = not active, 0
                want.append((place, active))
        elif letter != "?":
            ran = 0
        before = letter
    assert changes(seen, on=on, off=off) == want


@given(letters, delays, delays)
def test_raises_and_returns_take_turns(seen, on, off):
    active = [active for _, active in changes(seen, on=on, off=off)]
    assert active == [i % 2 == 0 for i in range(len(active))]
