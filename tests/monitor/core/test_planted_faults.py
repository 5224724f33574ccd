"""Faults planted into the core, each as a change of one line: the checks must notice every one."""

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import CodeType
from typing import Any

import pytest
from support import checks
from support.building import plan, rich_kind
from support.checks import Case

from monitor.core.conditions import Conditions
from monitor.core.frames import FrameBuilder
from monitor.core.holding import Held
from monitor.core.pipeline import Pipeline
from monitor.core.scoring import Scorer, _Runs
from monitor.core.vouching import Vouched

SITE = plan(rich_kind(), 3, sources=("s", "t"), spread=True)
TURNED = replace(SITE, assets=SITE.assets[::-1])
TRIES = 40  # streams: rare faults show in few


@dataclass(frozen=True)
class Fault:
    """A line of the core, what a tired person might have written, and the check that notices."""

    where: Callable[..., Any]
    line: str
    instead: str
    check: Callable[..., None]


def another_plan(case: Case) -> None:
    checks.check_another_plan(case, TURNED)


FAULTS = {
    "the last journaled counts, not the first": Fault(
        FrameBuilder._group, "repeat[1:] = (", "repeat[:-1] = (", checks.check_frames
    ),
    "the sort is not stable": Fault(
        FrameBuilder._group,
        "(ripe.time, ripe.slot)",
        "(-np.arange(len(ripe.slot)), ripe.time, ripe.slot)",
        checks.check_frames,
    ),
    "a frame covers its instant's start, not its end": Fault(
        FrameBuilder._tick_of,
        "-(-time // self._tick)",
        "time // self._tick + 1",
        checks.check_frames,
    ),
    "the first source to pass closes a frame": Fault(
        FrameBuilder._limits,
        ".min(axis=0, initial=FOREVER)",
        ".max(axis=0, initial=-FOREVER)",
        checks.check_any_delivery,
    ),
    "the watermark is the least stamp": Fault(
        FrameBuilder.push, "np.maximum.at(", "np.minimum.at(", checks.check_promptness
    ),
    "the lateness is forgotten": Fault(
        FrameBuilder._limits, "- self._lateness", "- 0", checks.check_any_delivery
    ),
    "held values are forgotten between closes": Fault(
        Held.fill,
        "(self.value, stood)",
        "(self.value, np.full_like(stood, np.nan))",
        checks.check_any_delivery,
    ),
    "a gap is one tick too short": Fault(
        FrameBuilder._grid,
        "fresh = tick - before > self.kind.gap_ticks",
        "fresh = tick - before >= self.kind.gap_ticks",
        checks.check_frames,
    ),
    "late samples are scored": Fault(
        FrameBuilder.push, "keep = sound & ~behind", "keep = sound", checks.check_late_sample
    ),
    "refused samples are kept": Fault(
        FrameBuilder.push, "keep = sound & ~behind", "keep = ~behind", checks.check_mess
    ),
    "what was vouched for is forgotten too early": Fault(
        Vouched.forget,
        "np.maximum(self._floor_AG, ended, out=self._floor_AG)",
        "pass",
        checks.check_frames,
    ),
    "a span without a tick counts as evidence of one": Fault(
        Vouched.ticks,
        "beyond <= last",
        "limit_A[row] < last",
        checks.check_a_span_between_ticks,
    ),
    "a snapshot shares an array with the state": Fault(
        FrameBuilder.snapshot, "self._last_A.copy()", "self._last_A", checks.check_restore
    ),
    "a snapshot leaves out what was vouched for": Fault(
        FrameBuilder.snapshot,
        "self._vouched.snapshot()",
        "[]",
        checks.check_restore,
    ),
    "open samples stay in their old rows": Fault(
        FrameBuilder.restore,
        "new_A[:, None] * tags + new_G",
        "old_A[:, None] * tags + new_G",
        another_plan,
    ),
    "states stay in their old rows": Fault(
        Scorer.restore,
        "self._frames_A[new_A] = tree",
        "self._frames_A[old_A] = tree",
        another_plan,
    ),
    "the model's state survives a gap": Fault(
        _Runs.__init__, "breaks = frames.fresh | off", "breaks = off", checks.check_scores
    ),
    "the model's state survives a stop": Fault(
        _Runs.__init__,
        "breaks = frames.fresh | off",
        "breaks = frames.fresh",
        checks.check_scores,
    ),
    "assets get each other's states": Fault(
        Scorer._keep,
        "tensor.index_select(0, chosen)",
        "tensor[: len(rows)]",
        checks.check_scores,
    ),
    "timers run on over a gap": Fault(
        Conditions.step,
        "if last != NEVER and not fresh[row]:",
        "if last != NEVER:",
        checks.check_timers_over_a_gap,
    ),
    "timers start anew at a gap": Fault(
        Conditions.step,
        "last, self._last_P[p] = self._last_P[p], NEVER",
        "last, self._last_P[p], self._ran_P[p] = NEVER, NEVER, self._ran_P[p] * (not fresh[row])",
        checks.check_timers_over_a_gap,
    ),
    "silence is what the clock was set by": Fault(
        Pipeline._pass,
        "min(max(passed, 0), LONGEST_STEP)",
        "passed",
        checks.check_clock,
    ),
    "repeats at the door are counted nowhere": Fault(
        Pipeline._take,
        "self._repeated[samples.source] += intake.duplicate",
        "pass",
        checks.check_mess,
    ),
}


def plant(monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    """Compile the function with the line changed, and swap its code in place, for all importers."""
    source = textwrap.dedent(inspect.getsource(fault.where))
    assert source.count(fault.line) == 1, f"the core has no longer this line once: {fault.line}"
    compiled = compile(source.replace(fault.line, fault.instead), "<planted>", "exec")
    (code,) = [code for code in compiled.co_consts if isinstance(code, CodeType)]
    monkeypatch.setattr(fault.where, "__code__", code)


def ask(check: Callable[..., None], bundle: object) -> None:
    if not inspect.signature(check).parameters:
        check()
        return
    for seed in range(TRIES):
        check(Case(plan=SITE, bundle=bundle, seed=seed, ticks=40))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_noticed(fault, bundles, monkeypatch):
    plant(monkeypatch, FAULTS[fault])
    with pytest.raises((AssertionError, ValueError)):  # numpy refuses what makes no sense
        ask(FAULTS[fault].check, bundles["ewma"])
