"""What sources say beside plain samples: what is missing, what was set by hand, stamped anew."""

from dataclasses import replace

import numpy as np
import pytest
from support.building import NOW, SECOND, START, kind, plan, samples, stepped

from connectors.batch import Flag, Notice, NoticeKind, forced
from monitor.core.missing import GapKind
from monitor.core.pipeline import Pipeline

FORCED = 0x0096_0000


def notice(kind, since=0, until=0, *tags, **given):
    return Notice(
        source="s",
        kind=kind,
        since=START + since * SECOND,
        until=START + until * SECOND,
        tags=tags,
        **given,
    )


def restored(pipeline):
    other = Pipeline(plan(kind()), {})
    other.restore(pipeline.snapshot())
    return other


@pytest.mark.parametrize("word", ["gap", "overflow", "filled"])
def test_what_a_source_says_is_missing_or_filled_is_a_result_and_counted(word):
    pipeline = Pipeline(plan(kind()), {})
    said = notice(NoticeKind(word), 2, 5, 1, 0, reason="cable out")
    (found,) = stepped(pipeline, said, received=NOW + 7).source_gaps
    assert (found.kind, found.reason, found.received) == (GapKind(word), "cable out", NOW + 7)
    assert (found.since, found.until, found.tags) == (said.since, said.until, (0, 1))
    stepped(pipeline, replace(said, tags=()))
    counts = {"s": {word: 2, f"{word}_ns": 6 * SECOND}}
    assert pipeline.status()["gaps"] == restored(pipeline).status()["gaps"] == counts


def test_other_notices_say_that_nothing_is_missing():
    pipeline = Pipeline(plan(kind()), {})
    assert stepped(pipeline, notice(NoticeKind.ALIVE, 0, 9)).source_gaps == ()
    assert pipeline.status()["gaps"] == {}


def test_samples_that_are_not_as_others_are_counted_by_what_is_odd_about_them():
    pipeline = Pipeline(plan(kind()), {})
    batch = samples((0, 1.0, 1.0, FORCED), (1, 1.0, 1.0), (0, 2.0, 1.0), (1, 2.0, 1.0, FORCED))
    flags = [0, Flag.RESTAMPED, Flag.RESTAMPED | Flag.REPLAYED, Flag.RETAINED]
    stepped(pipeline, replace(batch, flags=np.array(flags, np.uint8)), samples((0, 3.0, 1.0)))
    counts = {"s": {"restamped": 2, "replayed": 1, "forced": 2}}
    assert pipeline.status()["marks"] == restored(pipeline).status()["marks"] == counts


def test_a_value_set_by_hand_is_known_by_its_code_whatever_its_other_bits():
    status = np.array([FORCED, FORCED | 0x0480, 0, 0x0097_0000, 0x8096_0000], np.uint32)
    assert forced(status).tolist() == [True, True, False, False, False]


def test_tags_whose_unit_changed_are_named_with_the_last_reason():
    pipeline = Pipeline(plan(kind()), {})
    assert pipeline.status()["unit_changed"] == {}
    stepped(
        pipeline,
        notice(NoticeKind.UNIT_CHANGED, 0, 0, 0, 1, reason="bar to psi"),
        notice(NoticeKind.UNIT_CHANGED, 0, 0, 1, reason="psi to bar"),
        notice(NoticeKind.UNIT_CHANGED),
    )
    changed = {"s": {"0": "bar to psi", "1": "psi to bar", "all": ""}}
    assert (
        pipeline.status()["unit_changed"] == restored(pipeline).status()["unit_changed"] == changed
    )
