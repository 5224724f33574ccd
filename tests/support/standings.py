"""How a service may stand, for tests of what is said about it."""

from dataclasses import replace

from monitor.core.conservation import Conservation
from monitor.live.budget import Spent
from monitor.live.latency import Latency
from monitor.live.standing import (
    Desired,
    InspectionStanding,
    ReloadStanding,
    ServiceStanding,
    SinkStanding,
    SourceStanding,
    SourceState,
)

SECOND = 1_000_000_000
NOW = 1_700_000_000 * SECOND


def source(**changed: object) -> SourceStanding:
    """A source that gives data."""
    well = SourceStanding(
        desired=Desired.WATCHED,
        state=SourceState.RUNNING,
        reason="",
        restarts=0,
        rebuilds=0,
        watchdog=0,
        sample_age_s=0.5,
        heard_age_s=0.5,
        expected_s=30.0,
        counts=Conservation(
            received=10, stored=6, duplicate=1, late=1, rejected={"unknown_tag": 2}
        ),
        gaps={"gap": 2, "gap_ns": 3 * SECOND, "filled": 1, "filled_ns": SECOND},
        silent=(),
        peer={},
    )
    return replace(well, **changed)


def sink(**changed: object) -> SinkStanding:
    """A sink that has everything."""
    well = SinkStanding(
        reason="",
        items=0,
        bytes=0,
        oldest_age_s=None,
        dropped=0,
        dead_letters=0,
        lag_s=None,
    )
    return replace(well, **changed)


def standing(**changed: object) -> ServiceStanding:
    """A service in which data flows."""
    well = ServiceStanding(
        now=NOW,
        started=NOW - 3600 * SECOND,
        config="c0ffee",
        reload=ReloadStanding(at=NOW - 3600 * SECOND, error=""),
        stopping=False,
        stepping=True,
        failed=False,
        record=100,
        behind_s=0.0,
        journal_trouble="",
        journal_bytes=4096,
        frames={"ok": 7, "warming": 2, "blind": 1, "off": 0},
        latency=Latency().plus([0.02, 0.02, 3.0]),
        end_to_end=Latency().plus([0.3]),
        gpu=False,
        writer_errors=0,
        latency_ms={"p50": 20.0, "p99": 3000.0},
        inspection=InspectionStanding(
            latency=Latency().plus([0.2]), latency_ms={"p50": 200.0, "p99": 200.0}
        ),
        alarms_open={"process": 1, "limit": 0},
        budget=Spent(
            per_asset_30_days=1.0,
            per_site_week=10.0,
            alarms_30_days={"m0": 1, "m1": 2},
            alarms_week=3,
            over=("m1",),
            site_over=False,
        ),
        data_age_s={"pump": 86_400.0},
        sources={"rig": source()},
        sinks={"inbox": sink()},
    )
    return replace(well, **changed)
