"""From history to stretches of healthy frames."""

import numpy as np
from support.building import BAD, NOW, START, assets, kind, samples

from connectors.batch import Notice, NoticeKind
from monitor.core.pipeline import Pipeline
from monitor.core.plan import ChannelSettings, Plan
from monitor.core.records import Record, Results
from monitor.history.learning import channels_of, stretches

SECOND = 1_000_000_000


def learnt(of, batches, *, count=1):
    plan = Plan(site="works", kinds={"k": of}, assets=tuple(assets(count, of)))
    found, read = stretches(plan, batches, received=NOW)
    return found, sum(one.taken for one in read.values())


def rows(*seconds, x=1.0, y=2.0, asset=0):
    """Both channels of an asset at these seconds."""
    return samples(
        *(point for s in seconds for point in ((2 * asset, s, x), (2 * asset + 1, s, y)))
    )


def spans(found):
    """Each stretch as (asset, first second, last second)."""
    return [
        (one.asset, (int(one.tick[0]) - START) / SECOND, (int(one.tick[-1]) - START) / SECOND)
        for one in found
    ]


ENDED = Notice(source="s", kind=NoticeKind.ENDED)


def test_a_recording_without_gaps_is_one_stretch_however_it_is_cut():
    whole, count = learnt(kind(), [rows(*range(1, 11)), ENDED])
    assert spans(whole) == [("a0", 1, 10)]
    assert count == 20
    cut, _ = learnt(kind(), [rows(1, 2, 3), rows(4), rows(*range(5, 11)), ENDED])
    assert spans(cut) == spans(whole)
    assert np.array_equal(cut[0].value, whole[0].value)


def test_a_stretch_ends_at_a_gap():
    found, _ = learnt(kind(gap_ticks=3), [rows(1, 2, 3), rows(20, 21, 22), ENDED])
    assert spans(found) == [("a0", 1, 3), ("a0", 20, 22)]


def test_a_short_hole_is_held_and_does_not_end_a_stretch():
    found, _ = learnt(kind(gap_ticks=10), [rows(1, 2), rows(6, 7), ENDED])
    assert spans(found) == [("a0", 1, 7)]


def test_a_stretch_ends_where_the_machine_stops_and_begins_after_its_start():
    of = kind(running={"channel": "x", "above": 0.5, "startup_s": 2.0, "coastdown_s": 1.0})
    batches = [rows(*range(1, 8)), rows(8, 9, 10, x=0.0), rows(*range(11, 18)), ENDED]
    found, count = learnt(of, batches)
    assert spans(found) == [("a0", 3, 6), ("a0", 13, 17)], "the last before the stop is part of it"
    assert count == 34, "samples are counted whether or not the machine ran"


def test_a_machine_that_never_ran_teaches_nothing():
    of = kind(running={"channel": "x", "above": 5.0})
    assert learnt(of, [rows(*range(1, 8)), ENDED])[0] == []


def test_assets_are_kept_apart_in_their_order():
    batches = [rows(1, 2, 3, asset=1), rows(1, 2, 3, asset=0), ENDED]
    found, _ = learnt(kind(), batches, count=2)
    assert spans(found) == [("a0", 1, 3), ("a1", 1, 3)]


def test_only_the_channels_of_the_model_are_in_a_stretch_and_bad_ones_not_valid():
    channels = {"x": ChannelSettings(model=False), "y": ChannelSettings(unit="bar")}
    of = kind(channels=channels)
    batch = samples((0, 1, 1.0), (1, 1, 2.0), (0, 2, 1.0), (1, 2, 9.0, BAD))
    (found,), _ = learnt(of, [batch, ENDED])
    assert found.value.shape == (2, 1)
    assert found.valid[:, 0].tolist() == [True, False]
    (channel,) = channels_of(of)
    assert (channel.name, channel.unit, channel.aggregate) == ("y", "bar", "last")


def test_a_source_that_reports_on_change_teaches_the_frames_that_it_makes_live():
    def alive(since, until):
        instants = {"since": START + since * SECOND, "until": START + until * SECOND}
        return Notice(source="s", kind=NoticeKind.ALIVE, **instants)

    of = kind(gap_ticks=3, channels={"x": ChannelSettings(stale_s=4), "y": ChannelSettings()})
    told = [rows(1), alive(0, 8), alive(8, 12), rows(13, x=5.0), alive(13, 20), rows(40), ENDED]
    found, _ = learnt(of, told)
    assert spans(found) == [("a0", 1, 20), ("a0", 40, 40)]
    live = Pipeline(Plan(site="works", kinds={"k": of}, assets=tuple(assets(1, of))), {})
    scores = Results.join([live.step(Record(NOW, body)) for body in told]).scores[0]
    assert np.concatenate([one.tick for one in found]).tolist() == scores.tick.tolist()
    value = np.concatenate([one.value for one in found])
    assert np.array_equal(value.astype(np.float32), scores.value, equal_nan=True)
    assert all(one.valid.all() for one in found)


def test_nothing_is_learnt_of_what_was_set_by_hand_or_is_just_back():
    of = kind(channels={"x": ChannelSettings(stale_s=2, settle_s=2), "y": ChannelSettings()})
    forced = samples((0, 3, 99.0, 0x0096_0000), (1, 3, 2.0))
    away = samples(*((0, second, 0.0, BAD) for second in (5, 6, 7)), (1, 5, 2.0), (1, 7, 2.0))
    ((one,), _) = learnt(of, [rows(1, 2), forced, rows(4), away, rows(8, 9, 10, 11), ENDED])
    assert one.valid[:, 0].tolist() == [True, True, False, True] + [False] * 5 + [True, True]
    assert np.isnan(one.value[~one.valid]).all()
    assert one.valid[:, 1].all()


def test_tags_of_other_machines_are_not_counted():
    foreign = samples((40, 1, 1.0), (41, 1, 1.0))
    found, count = learnt(kind(), [rows(1, 2), foreign, ENDED])
    assert (spans(found), count) == ([("a0", 1, 2)], 4)


def test_what_was_rejected_is_told_by_source_with_an_example():
    of = kind()
    plan = Plan(site="works", kinds={"k": of}, assets=tuple(assets(1, of)))
    rejected = Notice(source="s", kind=NoticeKind.REJECTED, reason="odd", count=3, example="here")
    ancient = samples((0, -1_650_000_000, 1.0))
    _, read = stretches(plan, [rows(1), ancient, rejected, rejected, ENDED], received=NOW)
    found = read["s"]
    assert (found.taken, found.received) == (2, 9)
    assert found.rejected == {"ancient": 1, "odd": 6}
    assert found.examples == {"odd": "here"}


def test_no_history_is_no_stretch():
    assert learnt(kind(), []) == ([], 0)
