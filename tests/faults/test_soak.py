"""Two hours of load: memory, open files and lag stay as they are, and every sample is stored.

Here for moments, to see that measuring works; ``WATCHKEEPER_SOAK_S=600`` says how long. What is
found of a run shorter than ten minutes is not judged: nothing has settled by then.
"""

import os
import statistics
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.brokers import mosquitto
from support.leaks import Held, growth, share
from support.outages import balance
from support.outcomes import scaled
from support.servers import HERE, Server, free_port, started, wait_until
from support.simulators import Simulator

from monitor.live.control import NotRunningError, ask
from monitor.live.standing import SourceState
from monitor.site.simulate.compare import Sent
from monitor.site.simulate.ledger import Ledger
from monitor.site.simulate.plan import Simulation
from monitor.site.simulate.watcher import DATA, source_of
from monitor.site.status import summary
from monitor.state.database import DatabaseReader

SECONDS = float(os.environ.get("WATCHKEEPER_SOAK_S", scaled(short=8, full=7200)))
ASSETS = scaled(short=5, full=53)  # 10 channels each, at 10 Hz
JUDGED_S = 600.0
MOST_GROWTH = 0.05
LEAST_A_SECOND = 5_000  # samples: ASSETS at their rate are a little more
LOOK_S = max(0.5, min(10.0, SECONDS / 100))
SILENT_S = 60.0  # the longest that any source may bring nothing
BEHIND_S = 60.0  # until what was sent last has been stepped
MB = 1e6


class Watchkeeper(Server):
    """The program itself, on a plant."""

    def __init__(self, file):
        self._data = file.parent / DATA
        program = "from monitor.cli import main; main()"
        command = [sys.executable, "-c", program, "run", file]
        super().__init__(command, port=0, log=file.with_suffix(".log"))

    def standing(self):
        return ask(self._data, "status")

    def _is_ready(self):
        assert self.process.poll() is None, self._log.read_text()[-2000:]
        try:
            sources = self.standing()["sources"].values()
            return all(one["state"] == SourceState.RUNNING for one in sources)
        except (NotRunningError, ConnectionError):
            return False


def all_is_stepped(folder):
    """Whether the last that each peer has is in the figures of what was stepped."""
    ledger = Ledger(folder)
    sent = Sent.of(ledger)
    ledger.close()
    with DatabaseReader(folder / DATA) as database:
        reached = summary(database)["sources"]
    return all(
        reached[source_of(lane)]["last_ns"] >= ticks[has.all(axis=1)][-1] * lane.period_ms * 1e6
        for lane, ticks, has in zip(
            sent.simulation.lanes, sent.ticks, sent.acknowledged, strict=True
        )
    )


def watched(program, seconds, tell):
    """What a running service holds, and how far it lags behind, s, again and again."""
    held, lags = [], []
    began = told = time.monotonic()
    while (at := time.monotonic()) < began + seconds:
        held.append(Held.by(program.process.pid, at - began))
        standing = program.standing()
        lags.append(standing["behind_s"])
        for source, one in standing["sources"].items():
            assert (one["sample_age_s"] or 0.0) < SILENT_S, f"{source} stands still: {one}"
        if at - told > 60:
            told = at
            tell(f"{(at - began) / 60:.0f} min, {held[-1].bytes / MB:.0f} MB, {lags[-1]:.2f} s")
        time.sleep(LOOK_S)
    return held, lags


@pytest.mark.slow
@pytest.mark.broker
@pytest.mark.fault("soak")
@pytest.mark.timeout(180 + 2 * SECONDS)
def test_hours_of_load_leave_memory_files_and_lag_as_they_were(tmp_path, figures, tell):
    with mosquitto(tmp_path) as broker:
        simulation = Simulation.of(
            seed=3,
            assets=ASSETS,
            channels=10,
            periods_ms=[100],
            share_opcua=scaled(short=0.2, full=0.1),
            opcua_port=free_port(),
            mqtt=(HERE, broker.port),
        )
        sent = Simulator(tmp_path / "plant", simulation)
        with started(sent), started(Watchkeeper(sent.plant)) as program:
            begun = time.time_ns()
            held, lags = watched(program, SECONDS, tell)
            sent.stop()
            wait_until(lambda: all_is_stepped(sent.folder), BEHIND_S, "all is stepped")
    for source in ("broker", "plc"):
        mine = {}
        balance(sent.folder, source, mine, since=begun)
        figures |= {
            name: figures.get(name, 0) + mine[name]
            for name in ("received", "stored", "duplicate", "late")
        }
    times = [one.at_s for one in held]
    figures |= {
        "times": SECONDS / 60 if SECONDS >= JUDGED_S else 0,
        "sent": mine["sent"],
        "in_gaps": mine["in_gaps"],
        "a_second": [mine["sent"] / SECONDS],
        "memory_mb": [held[-1].bytes / MB],
        "memory_growth": [share(times, [one.bytes for one in held])],
        "files_growth": [growth(times, [one.files for one in held])],
        "lag_growth_s": [growth(times, lags)],
        "lag_s": [statistics.median(lags)],
    }
    tell(str({name: value for name, value in figures.items() if "_" in name}))
    assert mine["in_gaps"] == 0
    if SECONDS >= JUDGED_S:
        assert figures["a_second"][0] >= scaled(short=0, full=LEAST_A_SECOND)
        assert figures["memory_growth"][0] < MOST_GROWTH
        assert abs(figures["files_growth"][0]) < 1
        assert figures["lag_growth_s"][0] < 1


# ---- that a leak would be seen -------------------------------------------------------------------

TIMES = np.arange(0.0, 7200.0, 10.0)


def test_a_leak_of_a_tenth_in_two_hours_is_seen_through_noise():
    noise = np.random.default_rng(1).normal(0, 3, len(TIMES))
    leaking = 200 + 20 * TIMES / TIMES[-1] + noise
    assert share(TIMES, leaking) > MOST_GROWTH
    assert abs(share(TIMES, 200 + noise)) < MOST_GROWTH / 10


def test_what_is_taken_while_it_settles_is_no_leak():
    settling = np.where(0.2 * TIMES[-1] > TIMES, 100 + TIMES / 20, 200.0)
    assert share(TIMES, settling) == pytest.approx(0.0, abs=1e-9)


@given(st.floats(-1e3, 1e3), st.floats(0.0, 0.9))
def test_of_a_straight_line_the_growth_is_what_it_grows(slope, settled):
    line = 5.0 + slope * TIMES
    late = TIMES[settled * TIMES[-1] <= TIMES]
    assert growth(TIMES, line, settled=settled) == pytest.approx(
        slope * (late[-1] - late[0]), rel=1e-6, abs=1e-6
    )


def test_a_file_that_stays_open_each_minute_is_seen():
    assert growth(TIMES, 30 + TIMES // 60) > 1


def test_two_values_have_no_trend():
    with pytest.raises(ValueError, match="want 3 values"):
        growth([0, 1], [1.0, 2.0])
