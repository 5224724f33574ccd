"""Waveform blocks: the frames of their samples, and numbers of each block."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kurtosis
from support.building import START, kind, plan, stepped

from connectors.batch import BAD, BAD_NO_DATA, GOOD, Samples, Waveforms
from monitor.core.pipeline import Pipeline
from monitor.core.plan import MILLISECOND, SECOND, ChannelSettings, Feature
from monitor.core.vibration import feature_of, samples_of
from monitor.history.learning import channels_of

NAN = float("nan")


def blocks(*rows, tag=0, start=START, rate=1000.0, status=GOOD, source="s"):
    """Blocks of one tag, one after the other without a hole."""
    block = np.array(rows, np.float32)
    count, length = block.shape
    step = round(length * SECOND / rate)
    return Waveforms(
        source=source,
        tag=np.full(count, tag, np.int32),
        time=start + step * np.arange(count, dtype=np.int64),
        rate=np.full(count, rate),
        speed=np.full(count, np.nan, np.float32),
        status=np.full(count, status, np.uint32),
        block=block,
    )


def only(found):
    (scores,) = found.scores
    return scores


def test_a_block_gives_its_samples_each_at_its_own_instant():
    found = samples_of(blocks([1, 2, 3], [4, 5, 6], rate=3.0))
    assert (found.time - START).tolist() == [
        0,
        333_333_333,
        666_666_667,
        1_000_000_000,
        1_333_333_333,
        1_666_666_667,
    ]
    assert found.value.tolist() == [1, 2, 3, 4, 5, 6]
    assert found.tag.tolist() == [0] * 6


def test_a_sample_that_is_no_number_is_bad_and_the_others_of_its_block_are_not():
    found = samples_of(blocks([1, NAN, 3]))
    assert found.status.tolist() == [GOOD, BAD_NO_DATA, GOOD]


def test_the_samples_of_a_bad_block_are_bad():
    assert samples_of(blocks([1, 2], status=BAD)).status.tolist() == [BAD, BAD]


@pytest.mark.parametrize("aggregate", ["mean", "std", "rms", "max", "last", "time_mean"])
def test_a_block_gives_the_frames_of_its_samples(aggregate):
    random = np.random.default_rng(1)
    channels = {"flow": ChannelSettings(aggregate=aggregate)}
    made = kind(channels=channels, tick_ms=20)
    waves = blocks(*random.normal(size=(6, 50)))
    whole, apart = (Pipeline(plan(made), {}) for _ in range(2))
    together = only(stepped(whole, waves))
    samples = samples_of(waves)
    by_one = [
        stepped(
            apart,
            Samples(
                source="s",
                tag=samples.tag[n : n + 1],
                time=samples.time[n : n + 1],
                value=samples.value[n : n + 1],
                status=samples.status[n : n + 1],
                flags=samples.flags[n : n + 1],
            ),
        )
        for n in range(len(samples))
    ]
    value = np.concatenate([scores.value for found in by_one for scores in found.scores])
    assert len(value) == len(together) == 15  # the last tick is still open
    assert np.isfinite(value).all()
    assert np.array_equal(value, together.value)
    assert whole.conservation == apart.conservation


@given(st.lists(st.lists(st.floats(-1e6, 1e6), min_size=8, max_size=8), min_size=1, max_size=5))
def test_features_are_those_of_the_textbook_and_of_each_block_alone(rows):
    waves = blocks(*rows)
    for n in range(len(waves)):
        alone = blocks(rows[n], start=int(waves.time[n]))
        x = waves.block[n].astype(np.float64)
        x -= x.mean()
        rms = np.sqrt(np.mean(x**2))
        wanted = {Feature.RMS: rms, Feature.PEAK: np.abs(x).max()}
        if rms > 1e-3:
            wanted[Feature.CREST] = np.abs(x).max() / rms
            wanted[Feature.KURTOSIS] = kurtosis(x, fisher=False)
        for feature, value in wanted.items():
            together = feature_of(waves, feature)
            assert together.value[n] == pytest.approx(value, rel=1e-6, abs=1e-9)
            assert together.value[n] == feature_of(alone, feature).value[0]


def test_a_sensors_offset_is_no_vibration():
    wave = np.sin(np.arange(100) / 3)
    there, above = (feature_of(blocks(wave + offset), Feature.RMS).value for offset in (0, 1000))
    assert above == pytest.approx(there, rel=1e-4)


def test_a_feature_is_stamped_with_the_last_sample_it_was_made_from():
    found = feature_of(blocks([0, 1, 0, 1]), Feature.PEAK)
    assert found.time.tolist() == [START + 3 * MILLISECOND]


@pytest.mark.parametrize("feature", list(Feature))
def test_a_block_with_a_hole_has_no_feature(feature):
    found = feature_of(blocks([0, 1, NAN, 1], [0, 1, 0, 1]), feature)
    assert found.status.tolist() == [BAD_NO_DATA, GOOD]
    assert np.isnan(found.value[0])


def test_a_block_that_does_not_move_has_no_shape():
    still = blocks([5, 5, 5])
    assert feature_of(still, Feature.RMS).value.tolist() == [0.0]
    for feature in (Feature.CREST, Feature.KURTOSIS):
        assert feature_of(still, feature).status.tolist() == [BAD_NO_DATA]


@pytest.mark.parametrize("feature", list(Feature))
def test_empty_blocks_give_nothing_to_score(feature):
    empty = blocks([], [])
    assert len(samples_of(empty)) == 0
    assert feature_of(empty, feature).status.tolist() == [BAD_NO_DATA] * 2


def test_samples_and_features_of_one_tag_feed_channels_side_by_side():
    made = kind(
        channels={
            "level": ChannelSettings(tag="accel", aggregate="mean"),
            "shake": ChannelSettings(tag="accel", feature="rms"),
            "shape": ChannelSettings(tag="accel", feature="kurtosis"),
        }
    )
    assert made.tags == ("accel",)
    pipeline = Pipeline(plan(made), {})
    wave = np.tile([1.0, 3.0], 500)  # mean 2, r.m.s. 1, kurtosis 1; one second
    found = only(stepped(pipeline, blocks(wave, wave, wave, start=START + MILLISECOND)))
    assert found.value.tolist() == [[2.0, 1.0, 1.0]] * len(found)
    assert len(found) >= 2
    counts = pipeline.conservation["s"]
    assert counts.received == 3 * (1000 + 2)
    assert counts.holds


def test_blocks_that_no_channel_wants_are_counted_as_their_samples():
    pipeline = Pipeline(plan(kind()), {})
    stepped(pipeline, blocks([1, 2, 3], tag=77))
    counts = pipeline.conservation["s"]
    assert (counts.received, counts.rejected) == (3, {"unknown_tag": 3})


def test_single_samples_of_a_tag_of_which_only_a_feature_is_wanted_are_refused():
    pipeline = Pipeline(plan(kind(channels={"shake": ChannelSettings(feature="rms")})), {})
    stepped(pipeline, samples_of(blocks([1, 2])))
    assert pipeline.conservation["s"].rejected == {"unknown_tag": 2}


def test_a_block_sent_twice_counts_once():
    pipeline = Pipeline(plan(kind(channels={"flow": ChannelSettings()})), {})
    stepped(pipeline, blocks([1, 2]), blocks([1, 2]), blocks([1, 2], start=START + 5 * SECOND))
    counts = pipeline.conservation["s"]
    assert (counts.received, counts.stored, counts.duplicate) == (6, 4, 2)


def test_blocks_that_come_after_their_frames_are_kept_as_late_samples():
    pipeline = Pipeline(plan(kind(channels={"flow": ChannelSettings()})), {})
    stepped(pipeline, blocks([1, 2], start=START + 9 * SECOND))
    (late,) = stepped(pipeline, blocks([3, 4])).late
    assert late.value.tolist() == [3, 4]
    assert pipeline.conservation["s"].holds


def test_a_model_of_a_feature_does_not_fit_a_channel_of_samples():
    (whole,), (part,) = (
        channels_of(kind(channels={"shake": ChannelSettings(feature=feature)}))
        for feature in (None, "rms")
    )
    assert whole != part
