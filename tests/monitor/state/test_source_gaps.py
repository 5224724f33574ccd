"""What sources said is missing, as it is kept."""

import numpy as np
import pytest
from support.keeping import SECOND, START

from monitor.core.missing import GapKind, SourceGap, covered, parts
from monitor.core.records import Results
from monitor.state import source_gaps as room
from monitor.state.source_gaps import SourceGaps
from monitor.state.store import Store


@pytest.fixture
def store(database):
    return Store(database)


def said(since, until, *tags, kind=GapKind.GAP, source="s", reason=""):
    return SourceGap(
        source=source,
        kind=kind,
        since=START + since * SECOND,
        until=START + until * SECOND,
        tags=tags,
        reason=reason,
        received=START + until * SECOND,
    )


def filled(since, until, *tags, source="s"):
    return said(since, until, *tags, kind=GapKind.FILLED, source=source)


def write(store, *told, done=None):
    with store.database.atomic() as tx:
        return store.write(tx, Results(source_gaps=told), done=done or store.done() + 1)


def spans(found):
    return [
        (part.source, (part.since - START) // SECOND, (part.until - START) // SECOND, part.filled)
        for part in found
    ]


def test_a_gap_reads_back_as_it_was_said(store):
    told = said(0, 5, 7, 9, kind=GapKind.OVERFLOW, reason="queue of 10 was full")
    write(store, told)
    assert store.source_gaps() == [told]


def test_what_history_gave_closes_its_part_of_a_gap(store):
    write(store, said(0, 10), said(0, 10, source="t"))
    write(store, filled(2, 4))
    assert spans(store.source_gaps("s")) == [
        ("s", 0, 2, False),
        ("s", 2, 4, True),
        ("s", 4, 10, False),
    ]
    assert spans(store.source_gaps("t")) == [("t", 0, 10, False)]


def test_each_gap_is_filled_by_all_that_fill_something_of_it_and_others_are_not_looked_at(store):
    chance = np.random.default_rng(5)
    spans = np.sort(chance.integers(0, 60, (2, 40, 2)), axis=2).tolist()
    told = [said(*span, kind=GapKind.OVERFLOW, reason=str(n)) for n, span in enumerate(spans[0])]
    fills = [filled(*span, n % 3) for n, span in enumerate(spans[1])]
    write(store, *told, *fills)
    parted = [part for gap in told for part in parts(gap, fills)]
    open_s = covered(part for part in parted if not part.filled) / SECOND
    found = store.source_gaps()
    assert sorted(map(repr, moments(found))) == sorted(map(repr, moments(parted)))
    assert SourceGaps(store.database).figures()["s"].to_json()["missing_s"] == open_s


def moments(found):
    """What is filled of each gap, and what open, second by second."""
    return {
        (part.reason, tag, second, part.filled)
        for part in found
        for tag in {*(part.tags or range(4))} - {*part.but}
        for second in range((part.since - START) // SECOND, (part.until - START) // SECOND)
    }


def test_only_what_reaches_into_the_time_asked_for_is_given(store):
    write(store, said(0, 10), said(20, 30))
    asked = {"since": START + 10 * SECOND, "until": START + 20 * SECOND}
    assert store.source_gaps(**asked) == []
    assert spans(store.source_gaps(since=START + 9 * SECOND)) == [
        ("s", 0, 10, False),
        ("s", 20, 30, False),
    ]
    assert spans(store.source_gaps(until=START + 20 * SECOND)) == [("s", 0, 10, False)]


def test_a_record_that_is_stepped_again_after_a_crash_says_its_gap_once(store):
    assert write(store, said(0, 10), done=5)
    assert not write(store, said(0, 10), done=5)
    assert SourceGaps(store.database).figures()["s"].told == 1


def test_a_peer_that_drops_samples_in_each_message_takes_one_row(store):
    for second in range(100):
        write(store, said(second, second + 1, 7, kind=GapKind.OVERFLOW))
    write(store, said(100, 101, 8, kind=GapKind.OVERFLOW))
    write(store, said(200, 201, 7, kind=GapKind.OVERFLOW))
    assert [span[1:3] for span in spans(store.source_gaps())] == [(0, 100), (100, 101), (200, 201)]


def test_the_figures_count_time_once_and_name_the_last_gap(store):
    write(store, said(0, 10, 1), said(5, 15, 2), said(20, 30), said(50, 60, reason="cable out"))
    write(store, filled(20, 30), filled(52, 54), filled(0, 10, 2))
    figures = SourceGaps(store.database).figures()
    assert list(figures) == ["s"]
    assert figures["s"].to_json() == {
        "told": 4,
        "filled": 1,
        "missing_s": 15.0 + 8.0,
        "last": {
            "kind": "gap",
            "since_ns": START + 50 * SECOND,
            "until_ns": START + 60 * SECOND,
            "tags": 0,
            "reason": "cable out",
        },
    }


def forget(store, **given):
    with store.database.atomic() as tx:
        return SourceGaps(store.database).forget(tx, **given)


def test_gaps_are_forgotten_by_their_end_in_bounded_steps(store):
    for n in range(4):
        write(store, said(10 * n, 10 * n + 5))
    before = START + 25 * SECOND
    assert [forget(store, before=before, limit=2) for _ in range(3)] == [2, 1, 0]
    assert spans(store.source_gaps()) == [("s", 30, 35, False)]


def test_what_filled_a_gap_stays_as_long_as_the_gap(store):
    write(store, said(0, 10))
    write(store, filled(0, 5))
    assert forget(store, before=START + 6 * SECOND, limit=9) == 0
    assert spans(store.source_gaps()) == [("s", 0, 5, True), ("s", 5, 10, False)]
    assert forget(store, before=START + 10 * SECOND, limit=9) == 2


def test_no_more_rows_are_kept_than_there_is_room_for(store, monkeypatch):
    monkeypatch.setattr(room, "MOST_ROWS", 2)
    for n in range(5):
        write(store, said(10 * n, 10 * n + 5))
    assert forget(store, before=0, limit=9) == 3
    assert [span[1] for span in spans(store.source_gaps())] == [30, 40]
