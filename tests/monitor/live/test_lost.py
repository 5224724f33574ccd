"""A value whose source is lost is known for as long as the source vouched for it, and no longer."""

import numpy as np
import pytest
from support.building import SECOND, START, kind, plan, samples, stepped

from connectors.batch import Notice, NoticeKind
from monitor.core.pipeline import Pipeline
from monitor.core.plan import ChannelSettings

STALE_S = 3


def notice(which, since, until=None):
    return Notice(
        source="s",
        kind=which,
        since=START + since * SECOND,
        until=None if until is None else START + until * SECOND,
    )


@pytest.mark.parametrize("lost", [True, False], ids=["lost", "alive"])
def test_a_value_of_a_lost_source_does_not_look_fresh(lost):
    """x comes from s, y from t; s says that nothing changes until second 10, then it is lost."""
    of = kind(channels={"x": ChannelSettings(stale_s=STALE_S), "y": ChannelSettings()}, idle_s=5)
    pipeline = Pipeline(plan(of, sources=("s", "t"), spread=True), {})
    found = [stepped(pipeline, samples((0, 0.5, 7.0)), notice(NoticeKind.ALIVE, 0, 10))]
    for second in range(1, 60):
        if lost and second == 11:
            found.append(stepped(pipeline, notice(NoticeKind.LOST, 10)))
        if not lost and second > 10:
            found.append(stepped(pipeline, notice(NoticeKind.ALIVE, second - 1, second)))
        other = samples((1, second, 1.0), source="t")
        found.append(stepped(pipeline, other, received=START + (1000 + second) * SECOND))
    blocks = [block for results in found for block in results.scores]
    tick = (np.concatenate([block.tick for block in blocks]) - START) // SECOND
    x = np.concatenate([block.value[:, 0] for block in blocks])
    known = tick[np.isfinite(x)]
    assert tick.max() > 30
    assert known.max() == (10 + STALE_S if lost else tick.max())
    state = pipeline.status()["sources"]["s"]["state"]
    assert state == ("lost" if lost else "running")
