"""What sources said is missing, and what of it came back."""

from hypothesis import given
from hypothesis import strategies as st

from connectors.batch import Notice, NoticeKind
from monitor.core.missing import GapKind, SourceGap, covered, parts, said

TAGS, TIMES = range(4), range(12)


def gap(since, until, *tags, source="s", kind=GapKind.GAP):
    return SourceGap(
        source=source, kind=kind, since=since, until=until, tags=tags, reason="away", received=99
    )


def fill(since, until, *tags, source="s"):
    return gap(since, until, *tags, source=source, kind=GapKind.FILLED)


def moments(part):
    """The (tag, time) that a part covers, of a plant with few of both."""
    tags = set(part.tags or TAGS) - set(part.but)
    return {(tag, time) for tag in tags for time in TIMES if part.since < time <= part.until}


spans = st.tuples(st.sampled_from(TIMES), st.sampled_from(TIMES)).map(sorted)
tags = st.sets(st.sampled_from(TAGS)).map(sorted)


@given(spans, tags, st.lists(st.tuples(spans, tags), max_size=5))
def test_what_is_filled_and_what_is_open_are_what_was_told_each_moment_once(span, named, filling):
    told = gap(*span, *named)
    fills = [fill(*one, *some) for one, some in filling]
    found = parts(told, fills)
    each = [moment for part in found for moment in moments(part)]
    assert len(each) == len(set(each))
    assert set(each) == moments(told)
    read = set().union(*(moments(one) for one in fills))
    assert {m for part in found if part.filled for m in moments(part)} == moments(told) & read


@given(st.lists(spans, max_size=6))
def test_what_several_gaps_share_counts_once(several):
    told = [gap(*span) for span in several]
    assert covered(told) == len({time for one in told for _, time in moments(one)})


def test_a_part_of_a_gap_that_is_filled_leaves_what_is_before_and_after_it():
    found = parts(gap(0, 10), [fill(3, 5)])
    assert [(p.since, p.until, p.filled) for p in found] == [
        (0, 3, False),
        (3, 5, True),
        (5, 10, False),
    ]
    assert {(p.reason, p.received, p.kind) for p in found} == {("away", 99, GapKind.GAP)}


def test_a_fill_of_some_tags_leaves_the_others_open():
    whole, named = parts(gap(0, 9), [fill(0, 9, 1, 2)]), parts(gap(0, 9, 1, 3), [fill(0, 9, 1, 2)])
    assert [(p.tags, p.but, p.filled) for p in whole] == [((), (1, 2), False), ((1, 2), (), True)]
    assert [(p.tags, p.filled) for p in named] == [((3,), False), ((1,), True)]


def test_what_another_source_filled_fills_nothing_here():
    assert parts(gap(0, 9), [fill(0, 9, source="t")]) == [gap(0, 9)]


def test_a_peer_that_does_not_say_when_it_dropped_samples_says_so_of_now():
    bare = Notice(source="s", kind=NoticeKind.OVERFLOW, tags=(2, 1, 2))
    found = said(bare, received=50)
    assert (found.since, found.until, found.tags) == (50, 50, (1, 2))
    turned = Notice(source="s", kind=NoticeKind.OVERFLOW, since=9, until=7)
    assert (said(turned, received=50).since, said(turned, received=50).until) == (7, 7)


def test_a_reason_is_kept_as_far_as_anybody_reads():
    wordy = Notice(source="s", kind=NoticeKind.GAP, since=1, until=2, reason="x" * 10**6)
    assert said(wordy, received=3).reason == "x" * 500


def test_no_other_notice_says_that_something_is_missing():
    assert said(Notice(source="s", kind=NoticeKind.LOST, since=3), received=5) is None
