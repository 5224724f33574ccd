"""Until when a value is known: sources vouch for silence, gaps end it, history brings it back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.building import BAD, NOW, SECOND, START, Grid, assets, kind, samples, seconds

from connectors.batch import Flag
from monitor.core import vouching
from monitor.core.missing import GapKind, SourceGap
from monitor.core.plan import Aggregate, Asset, ChannelSettings

LONG = {name: ChannelSettings(stale_s=100) for name in ("x", "y")}
OF = kind(channels=LONG)


class Told(Grid):
    """Frames of x and y of one asset and one source, told in seconds."""

    def __init__(self, of=OF, *machines):
        super().__init__(of, *machines)

    def alive(self, since, until, *tags):
        self.builder.alive("s", at(since), at(until), tags=tags, received=NOW, now=NOW)

    def say(self, word, since, until, *tags, source="s"):
        self.builder.missing(gap(word, since, until, *tags, source=source), received=NOW)

    def fill(self, since, until, *tags):
        """History of a source whose silence means that nothing changed."""
        self.say("filled", since, until, *tags)
        self.alive(since, until, *tags)

    def push(self, *points, replayed=False, **given):
        batch = samples(*points, **given)
        return self.builder.push(
            batch.source,
            batch.tag.astype(np.intp),
            batch.time,
            batch.value,
            batch.status,
            flags=batch.flags | (Flag.REPLAYED if replayed else 0),
            received=NOW,
            now=NOW,
        )


def at(second):
    return START + round(second * SECOND)


def gap(word, since, until, *tags, source="s"):
    return SourceGap(
        source=source,
        kind=GapKind(word),
        since=at(since),
        until=at(until),
        tags=tags,
        received=NOW,
    )


def ages(frames, column=0):
    """The age of a channel at each second."""
    shown = frames.age[:, column].tolist()
    return {int(second): round(age, 3) for second, age in zip(seconds(frames), shown, strict=True)}


def away(grid, *tags, filled=()):
    """Both channels are sampled at 1 and vouched for, but for a gap from 5 to 10."""
    grid.push((0, 1, 1.0), (1, 1, 1.0))
    grid.alive(1, 5)
    grid.say("gap", 5, 10, *tags)
    for since, until, *some in filled:
        grid.fill(since, until, *some)
    grid.alive(10, 20)


@pytest.mark.parametrize("word", ["gap", "overflow"])
def test_a_value_is_not_known_through_a_gap_that_is_not_filled(word):
    grid = Told()
    grid.push((0, 1, 1.0), (1, 1, 1.0))
    grid.alive(1, 5)
    grid.say(word, 5, 10)
    grid.alive(10, 20)
    found = ages(grid.close())
    assert [found[t] for t in (4, 5, 6, 10, 15, 20)] == [0, 0, 1, 5, 10, 15]


def test_without_a_gap_it_is_known_for_as_long_as_its_source_vouches():
    grid = Told()
    grid.push((0, 1, 1.0), (1, 1, 1.0))
    grid.alive(1, 5)
    grid.alive(7, 20)
    found = ages(grid.close())
    assert [found[t] for t in (5, 6, 7, 8, 20)] == [0, 1, 2, 0, 0]


def test_a_gap_of_some_tags_ends_it_for_those_alone():
    grid = Told()
    away(grid, 1)
    frames = grid.close()
    assert (ages(frames, 0)[20], ages(frames, 1)[20]) == (0, 15)


def test_the_first_sample_after_a_gap_is_known_again():
    grid = Told()
    away(grid, 0, 1)
    grid.push((0, 12, 2.0))
    frames = grid.close()
    assert [ages(frames, 0)[t] for t in (11, 12, 15)] == [6, 0, 0]
    assert ages(frames, 1)[15] == 10
    grid.alive(20, 30)
    assert ages(grid.close(), 0)[30] == 0


def test_a_sample_within_a_gap_does_not_end_it():
    grid = Told()
    grid.push((0, 1, 1.0), (1, 1, 1.0), (0, 7, 2.0))
    grid.alive(1, 5)
    grid.say("gap", 5, 10)
    grid.alive(10, 20)
    assert ages(grid.close())[20] == 13


@pytest.mark.parametrize("closed", [False, True])
def test_a_source_that_says_the_same_sample_again_after_a_gap_stands_by_it(closed):
    grid = Told()
    away(grid)
    if closed:
        grid.close()
    assert grid.push((0, 1, 1.0)).duplicate == int(closed)
    grid.alive(20, 30)
    frames = grid.close()
    assert (ages(frames, 0)[30], ages(frames, 1)[30]) == (0, 25)
    grid.say("gap", 30, 40)
    grid.alive(40, 50)
    assert ages(grid.close(), 0)[50] == 20, "and not through the next gap"


@pytest.mark.parametrize("history", [False, True])
def test_what_a_source_says_after_a_gap_is_what_is_now_however_old_its_stamp(history):
    grid = Told()
    away(grid)
    grid.close()
    if history:
        grid.push((0, 6, 5.0), (0, 7, 2.0), replayed=True)
        grid.fill(5, 10)
    intake = grid.push((0, 7, 2.0), (0, 6, 5.0))
    assert (intake.late.sum(), intake.duplicate) == ((0, 2) if history else (2, 0))
    grid.alive(20, 30)
    frames = grid.close()
    assert frames.value[:, 0].tolist() == [2.0] * 10
    assert (ages(frames, 0)[30], ages(frames, 1)[30]) == (0, 0 if history else 25)
    grid.push((0, 31, 3.0))
    assert grid.rest().value[:, 0].tolist() == [3.0]


def test_a_bad_value_that_is_said_after_a_gap_is_what_is_now():
    grid = Told()
    away(grid)
    grid.close()
    grid.push((0, 7, 2.0, BAD))
    grid.alive(20, 30)
    assert not grid.close().valid[:, 0].any()


def test_what_came_before_the_held_sample_is_not_what_is_now():
    grid = Told()
    grid.push((0, 4, 1.0), (1, 4, 1.0))
    grid.alive(1, 5)
    grid.say("gap", 5, 10)
    grid.alive(10, 20)
    grid.close()
    grid.push((0, 3, 9.0))
    grid.alive(20, 30)
    assert set(grid.close().value[:, 0].tolist()) == {1.0}


def test_one_sample_makes_no_deviation():
    channels = {"x": ChannelSettings(stale_s=100), "s": LONG["x"].model_copy(update={"tag": "x"})}
    channels["s"] = channels["s"].model_copy(update={"aggregate": Aggregate.STD})
    grid = Told(kind(channels=channels))
    grid.push((0, 0.5, 1.0), (0, 1, 3.0))
    grid.alive(1, 5)
    grid.say("gap", 5, 10)
    grid.alive(10, 20)
    grid.close()
    grid.push((0, 7, 2.0))
    grid.alive(20, 30)
    frames = grid.close()
    assert frames.value[-1].tolist() == [2.0, 1.0]
    assert (ages(frames, 0)[30], ages(frames, 1)[30]) == (0, 25)


def test_what_is_read_from_history_says_nothing_of_now():
    grid = Told()
    away(grid)
    grid.close()
    grid.push((0, 1, 1.0), replayed=True)
    grid.alive(20, 30)
    assert ages(grid.close())[30] == 25


def test_what_was_said_again_before_the_gap_is_not_known_after_it():
    grid = Told()
    grid.push((0, 1, 1.0), (1, 1, 1.0))
    grid.push((0, 1, 1.0))
    away(grid)
    assert ages(grid.close())[20] == 15


def test_history_vouches_for_what_it_fills():
    grid = Told()
    away(grid, filled=[(5, 10)])
    found = ages(grid.close())
    assert set(found.values()) == {0}


def test_history_of_a_source_whose_silence_says_nothing_vouches_for_nothing():
    grid = Told()
    grid.push((0, 1, 1.0), (1, 1, 1.0))
    grid.say("gap", 5, 10)
    grid.push((0, 6, 2.0), (1, 6, 2.0), replayed=True)
    grid.say("filled", 5, 10)
    assert seconds(grid.close()) == [1, 2, 3, 4, 5], "it does not say that all came up to its end"
    grid.push((0, 16, 1.0), (1, 16, 1.0))
    assert ages(grid.rest())[15] == 9


def test_a_part_of_a_gap_that_is_not_filled_still_ends_it():
    grid = Told()
    away(grid, filled=[(5, 8)])
    found = ages(grid.close())
    assert [found[t] for t in (8, 9, 20)] == [0, 1, 12]


def test_history_of_some_tags_vouches_for_those_alone():
    grid = Told()
    away(grid, filled=[(5, 10, 1)])
    frames = grid.close()
    assert (ages(frames, 0)[20], ages(frames, 1)[20]) == (15, 0)


def test_history_that_comes_after_the_frames_are_closed_makes_the_value_known_from_then_on():
    grid = Told()
    away(grid)
    assert ages(grid.close())[20] == 15
    grid.fill(5, 10)
    grid.alive(20, 30)
    assert ages(grid.close())[30] == 0


def test_of_a_sample_that_came_too_late_it_is_known_that_the_held_one_is_old():
    grid = Told()
    grid.push((0, 1, 1.0), (1, 1, 1.0))
    grid.alive(1, 20)
    grid.close()
    assert grid.push((0, 8, 2.0)).late.all()
    grid.alive(20, 30)
    frames = grid.close()
    assert (ages(frames, 0)[30], ages(frames, 1)[30]) == (22, 0)
    assert frames.value[0, 0] == 1.0, "and it is not put in its place"
    grid.push((0, 31, 3.0))
    grid.alive(30, 40)
    assert ages(grid.close())[40] == 0


def test_each_late_sample_after_the_held_one_says_it_anew():
    grid = Told()
    grid.push((0, 1, 1.0), (1, 1, 1.0))
    grid.alive(1, 20)
    grid.close()
    grid.push((0, 8, 2.0))
    grid.push((0, 21, 3.0))
    grid.alive(20, 40)
    grid.close()
    grid.push((0, 30, 4.0))
    grid.alive(40, 50)
    assert ages(grid.close())[50] == 20


def test_history_of_some_tags_makes_no_sample_of_the_others_late():
    grid = Told()
    grid.push((0, 1, 1.0), (1, 1, 1.0))
    grid.fill(1, 20, 1)
    grid.close()
    assert not grid.push((0, 10, 1.0)).late.any()


def test_a_late_sample_that_is_older_than_the_held_one_says_nothing():
    grid = Told()
    grid.push((0, 5, 1.0), (1, 1, 1.0))
    grid.alive(1, 20)
    grid.close()
    grid.push((0, 3, 2.0))
    grid.alive(20, 30)
    assert ages(grid.close())[30] == 0


def test_only_assets_of_the_tags_that_history_gave_get_frames_of_that_time():
    of = kind(channels=LONG, gap_ticks=3)
    grid = Told(of, *assets(2, of))
    grid.push((0, 1, 1.0), (1, 1, 1.0), (2, 1, 1.0), (3, 1, 1.0))
    grid.fill(1, 20, 0, 1)
    grid.push((0, 21, 1.0), (2, 21, 1.0))
    frames = grid.rest()
    assert [int((frames.asset == row).sum()) for row in (0, 1)] == [21, 2]


def test_a_gap_of_no_length_or_of_another_source_ends_nothing():
    grid = Told()
    grid.push((0, 1, 1.0), (1, 1, 1.0))
    grid.alive(1, 5)
    grid.say("overflow", 5, 5)
    grid.say("gap", 2, 4, source="stranger")
    grid.say("filled", 2, 4, source="stranger")
    grid.alive(5, 10)
    assert ages(grid.close())[10] == 0


def test_a_gap_that_would_end_in_the_future_ends_now():
    grid = Told()
    grid.push((0, 1, 1.0), (1, 1, 1.0))
    grid.alive(1, 10)
    grid.say("gap", 5, 10**9)
    assert [gap.until for gap in grid.builder._vouched._gaps] == [NOW + 60 * SECOND]


def test_a_gap_is_remembered_only_while_a_value_from_before_it_is_held():
    grid = Told()
    away(grid)
    grid.close()
    kept = grid.builder._vouched._gaps
    assert len(kept) == 1
    grid.push((0, 21, 1.0), (1, 21, 1.0))
    grid.alive(20, 22)
    grid.close()
    assert grid.builder._vouched._gaps == []
    assert grid.builder._vouched._spans == []


def test_of_very_many_gaps_the_oldest_become_one_and_nothing_is_known_through_any(monkeypatch):
    monkeypatch.setattr(vouching, "MOST_GAPS", 3)
    monkeypatch.setattr(vouching, "MOST_SCOPES", 2)
    grid = Told()
    grid.push((0, 0.5, 1.0), (1, 0.5, 1.0))
    for number in range(10):
        grid.alive(10 * number, 10 * number + 5)
        grid.say("gap", 10 * number + 5, 10 * number + 10, *((number % 2,) if number else ()))
    grid.alive(100, 110)
    assert len(grid.builder._vouched._gaps) == 3
    frames = grid.close()
    assert [ages(frames, column)[110] for column in (0, 1)] == [105, 105]
    assert not grid.builder._vouched._gaps[0].tags


def test_of_a_source_that_comes_and_goes_and_never_measures_nothing_is_remembered():
    grid = Told()
    for number in range(20):
        grid.alive(10 * number, 10 * number + 5)
        grid.say("gap", 10 * number + 5, 10 * number + 10)
        grid.close()
    vouched = grid.builder._vouched
    assert len(vouched._spans) <= 2
    assert len(vouched._gaps) <= 2


def told_in_words(value, spans, gaps, now):
    """Until when a value sampled at ``value`` is known at ``now``, from the definition."""
    known = max([value, *(min(until, now) for since, until in spans if since < now)])
    doubts = [since for since, until in gaps if until > value and since < now]
    return max(value, min([known, *doubts]))


whole = st.integers(0, 30)
pairs = st.lists(st.tuples(whole, whole).map(sorted).filter(lambda p: p[0] < p[1]), max_size=4)


@given(value=whole, spans=pairs, gaps=pairs)
def test_it_is_as_the_words_say(value, spans, gaps):
    grid = Told()
    grid.push((0, value, 1.0), (1, value, 1.0))
    for since, until in gaps:
        grid.say("gap", since, until)
    for since, until in spans:
        grid.alive(since, until)
    for second, age in ages(grid.rest()).items():
        if second >= value:
            assert second - age == told_in_words(value, spans, gaps, second)


@given(value=whole, spans=pairs, gaps=pairs, fills=pairs, cut=st.integers(0, 12))
def test_a_state_saved_anywhere_goes_on_as_if_nothing_had_been(value, spans, gaps, fills, cut):
    steps = [lambda g: g.push((0, value, 1.0), (1, value, 1.0))]
    steps += [lambda g, p=p: g.say("gap", *p) for p in gaps]
    steps += [lambda g, p=p: g.alive(*p) for p in spans]
    steps += [lambda g, p=p: g.fill(*p, 1) for p in fills]
    straight, first, later = Told(), Told(), Told()
    for number, step in enumerate(steps):
        step(straight)
        if number == cut:
            later.builder.restore(first.builder.snapshot())
            first = later
        step(first)
        a, b = straight.close(), first.close()
        assert np.array_equal(a.age, b.age, equal_nan=True)
    a, b = straight.rest(), first.rest()
    assert np.array_equal(a.age, b.age, equal_nan=True)


def test_spans_that_an_earlier_version_kept_are_read():
    grid = Told()
    grid.push((0, 1, 1.0), (1, 1, 1.0))
    grid.alive(1, 9)
    tree = grid.builder.snapshot()
    tree["alive"] = [[0, at(1), at(9)]]
    del tree["outrun"], tree["held"]["forced"], tree["closed"]["forgotten"]
    other = Told()
    other.builder.restore(tree)
    assert ages(other.rest()) == ages(grid.rest())


def test_a_tag_that_moves_to_another_place_takes_its_doubt_along():
    two = kind(channels=LONG)
    grid = Told()
    away(grid, 1)
    grid.close()
    asset = Asset(name="a0", id=0, kind="k", tags={"x": (0, "s"), "y": (1, "s")})
    other = Told(two, Asset(name="new", id=9, kind="k", tags={"x": (7, "s"), "y": (8, "s")}), asset)
    other.builder.restore(grid.builder.snapshot())
    other.alive(20, 30)
    frames = other.close()
    mine = frames.rows(frames.asset == 1)
    assert (ages(mine, 0)[30], ages(mine, 1)[30]) == (0, 25)
