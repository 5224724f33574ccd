"""Sensors that come back: for a while the model does not see them."""

import numpy as np
import pytest
from support.building import BAD, SECOND, START, kind, plan, samples, stepped

from connectors.batch import Notice, NoticeKind
from monitor.core.holding import Frames
from monitor.core.pipeline import Pipeline
from monitor.core.plan import ChannelSettings, LimitSettings, SensorSettings
from monitor.core.records import AlarmClass
from monitor.core.settling import Settling

OF = kind(channels={"x": ChannelSettings(stale_s=5, settle_s=3), "y": ChannelSettings()})


def frames(letters, *, start=0, row=0):
    """A frame a second; x is valid unless it is away (a), and fresh where it says so (f)."""
    count = len(letters)
    valid = np.array([[letter not in "aA", True] for letter in letters])
    return Frames(
        asset=np.full(count, row),
        tick=START + (start + np.arange(count)) * SECOND,
        value=np.ones((count, 2)),
        age=np.zeros((count, 2), np.float32),
        valid=valid,
        forced=np.zeros((count, 2), bool),
        quality=np.zeros((count, 2), np.uint8),
        fresh=np.array([letter in "fA" for letter in letters]),
    )


def settling(letters):
    """Where x is not seen although it is valid: s."""
    of = frames(letters)
    found = Settling(OF, 1).of(of, of.valid)
    assert not found[:, 1].any()
    return "".join("s" if one else "." for one in found[:, 0])


def test_a_sensor_that_was_away_for_longer_than_it_may_be_stale_settles_when_it_is_back():
    assert settling("fvvaaaaaavvvvvv") == ".........sss..."


def test_one_that_was_away_for_as_long_as_it_may_be_stale_does_not():
    assert settling("fvvaaaavvvv") == "..........."


def test_a_short_absence_while_it_settles_makes_it_no_longer():
    assert settling("fvaaaaaavavvvv") == "........s.s..."


def test_after_a_gap_the_model_starts_with_what_is_there():
    assert settling("fvaaaaaaaafvvv") == ".............."
    assert settling("fvaaaaaaaAavvvv") == "...........sss."


def test_what_was_never_there_has_not_come_back():
    assert settling("Aaaaaaaaavvv") == "............"


@pytest.mark.parametrize("cut", range(1, 15))
def test_it_does_not_depend_on_how_the_frames_are_cut(cut):
    letters = "fvvaaaaaavvavvv"
    whole = Settling(OF, 2)
    other = frames("fvvvvvvvvvvvvvv", row=1)
    both = Frames.join([frames(letters), other])
    first, rest, later = Settling(OF, 2), frames(letters[cut:], start=cut), Settling(OF, 2)
    begun = Frames.join([frames(letters[:cut]), other])
    found = [first.of(begun, begun.valid)[:cut]]
    later.restore(first.snapshot(), (np.arange(2), np.arange(2)), (np.arange(2), np.arange(2)))
    found.append(later.of(rest, rest.valid))
    assert np.array_equal(np.concatenate(found), whole.of(both, both.valid)[: len(letters)])


def test_a_sensor_that_was_frozen_and_jumps_when_it_is_back_surprises_nobody(bundles):
    def surprise(settle_s):
        sensor = SensorSettings(frozen_s="off", noise=False, jump=False)
        given = {"stale_s": 5, "settle_s": settle_s, "sensor": sensor}
        seen = {name: ChannelSettings(**given) for name in ("x", "y", "z")}
        seen |= {
            "y_std": ChannelSettings(tag="y", aggregate="std", sensor=sensor),
            "z_top": ChannelSettings(tag="z", sensor=sensor),
        }
        channels = {name: seen[name] for name in ("x", "y", "y_std", "z", "z_top")}
        pipeline = Pipeline(plan(kind(channels=channels)), {"k": bundles["ewma"]})
        rng = np.random.default_rng(1)
        points = []
        for second in range(1, 60):
            away = 20 <= second < 40
            jump = 500.0 * (second in (40, 41, 42))  # the transmitter wakes up
            points.append((0, second, 50 + jump + rng.normal(), BAD if away else 0))
            points += [(tag, second, 50 + rng.normal()) for tag in (1, 2)]
        ended = Notice(source="s", kind=NoticeKind.ENDED)
        (scores,) = stepped(pipeline, samples(*points), ended).scores
        return float(scores.surprise[39:42].max()), float(scores.coverage[40])

    (masked, coverage), (seen, whole) = surprise(10), surprise(0)
    assert masked < 3 < seen
    assert (coverage, whole) == (pytest.approx(0.8), 1.0)


def test_a_plain_limit_sees_a_sensor_as_soon_as_it_is_back():
    limited = ChannelSettings(stale_s=5, limits=LimitSettings(high=100))
    pipeline = Pipeline(plan(kind(channels={"x": limited, "y": ChannelSettings()})), {})
    away = [(0, second, 0.0, BAD) for second in range(2, 20)]
    results = stepped(pipeline, samples((0, 1, 1.0), *away, (0, 20, 500.0), (0, 20.5, 500.0)))
    (event,) = [one for one in results.alarms if one.alarm_class is AlarmClass.LIMIT]
    assert (event.tick - START) // SECOND == 20
