"""The alarm budget: from how many alarms may be false to the threshold of a model.

Healthy machines are watched by a model that never saw them, and what would have been alarms is
counted (monitor/history/episodes.py) at many thresholds. The threshold of a budget is the lowest
one at which the machines keep within it with 95 % confidence:

- Counted, where the history is long enough: n alarms in it say, by the Poisson bound of Garwood
  (Biometrika 28, 1936), that no more than chi2(0.95, 2 n + 2) / 2 were to be expected. With not one
  alarm that is 3.0, the rule of three: a history supports a budget that allows 3 alarms in it.
- Fitted, where the budget allows 1 to 3 alarms in the history: a generalised Pareto tail over the
  levels that episodes held (models/tail.py), and the upper bound of its level. Never below the
  lowest threshold at which nothing was raised.
- Provisional, where it allows fewer still, or no tail fits: the level that the tail expects once in
  ten such histories; without a tail, a surprise of 1 beyond the lowest threshold at which nothing
  was raised. That is the most that the history can say, and may not be enough.

All of this takes machines to be alike. The levels that they hold at one rate of episodes say how
unlike they are; the mean level of a few machines may lie below that of all by Student's bound,
and the threshold is raised by as much (``unlike``): machines are the sample, not their alarms
(Hayes and Moulton, Cluster Randomised Trials, 2009, chapter 10).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2
from scipy.stats import t as student

from models.bundle import Bundle
from models.contract import Stretch
from models.tail import Tail
from models.threshold import Support
from models.training import HeldOut
from monitor.core.plan import AlarmSettings
from monitor.history.episodes import Episode, Trace, count, episodes, held

CONFIDENCE = 0.95
TAIL_PEAKS = 100  # the highest ones: a tail is fitted to these
LEAST_PEAKS = 30  # fewer make no tail
LEAST_MISFIT = 0.05  # p-value below which a tail does not fit
BEYOND_SEEN = 10.0  # how much rarer than once in the history a level may be
ENOUGH_PEAKS = 2 * TAIL_PEAKS  # or, of a long history, so many times what the budget allows
OTHER_BUDGETS = 3.0
MOST_PEAKS = 2000
FIRST_RANK = 8  # frames over the first start that is tried
LEVELS = 48  # thresholds at which alarms are counted
CLEARLY = 0.3  # surprise: twice as rare
SWEEP = 64  # ticks scored at once
OWN_PEAKS, LEAST_OWN_PEAKS = 30, 5  # that tell the level of the machine watched longest, of others
LEAST_THRESHOLD = 0.1  # surprise; at 0 every frame alarms

DAYS = 30.0  # that a budget of an asset is for


@dataclass(frozen=True, slots=True)
class Threshold:
    """A surprise to alarm at, and whether the healthy history supports what was asked for."""

    value: float
    provisional: bool


def choose_threshold(
    held_out: Sequence[HeldOut],
    own: Sequence[HeldOut],
    alarm: AlarmSettings,
    *,
    tick_ms: int,
    per_asset_30_days: float,
) -> tuple[Support, Threshold]:
    """The threshold of a budget, by scores of models that never saw the machine: ``held_out``.

    Or by the model's ``own`` ones, where those ask for one that is clearly higher.
    """
    found = []
    for by_itself, scores in ((False, held_out), (True, own)):
        traces = traces_of(scores, alarm, tick_ms=tick_ms)
        support = support_of(traces, alarm, per_asset_30_days=per_asset_30_days, own=by_itself)
        found.append((support, threshold_for(support, per_asset_30_days)))
    unseen, itself = found
    return itself if itself[1].value > unseen[1].value + CLEARLY else unseen


def own_scores(bundle: Bundle, stretches: Sequence[Stretch]) -> list[HeldOut]:
    """The scores of a model over the healthy stretches that it has learnt from.

    It knows them too well to be believed where it finds little; where it finds more than models
    that never saw them, as one that was trained too briefly may, its own scores are what is live.
    """
    ordered = sorted((s for s in stretches if len(s)), key=len, reverse=True)
    surprise = [np.zeros(len(stretch), np.float32) for stretch in ordered]
    state = bundle.initial(len(ordered))
    scale = bundle.scale_of([stretch.asset for stretch in ordered])
    for start in range(0, max(map(len, ordered), default=0), SWEEP):
        ticks = range(start, start + SWEEP)
        going = [n for n in (sum(len(s) > t for s in ordered) for t in ticks) if n]
        places = [(n, t) for t, count_ in zip(ticks, going, strict=False) for n in range(count_)]
        judged, state = bundle.sweep(
            np.stack([ordered[n].value[t] for n, t in places]),
            np.stack([ordered[n].valid[t] for n, t in places]),
            going,
            {name: part[: going[0]] for name, part in state.items()},
            None if scale is None else scale.rows(np.array([n for n, _ in places])),
        )
        for (n, t), one in zip(places, judged.surprise, strict=True):
            surprise[n][t] = one
    return [
        HeldOut(
            asset=stretch.asset,
            tick=stretch.tick,
            surprise=np.where(stretch.valid.any(1), found, np.float32(0)),
            coverage=stretch.valid.mean(1).astype(np.float32),
            warming=np.arange(len(stretch)) < bundle.warmup_ticks,
        )
        for stretch, found in zip(ordered, surprise, strict=True)
    ]


def traces_of(held_out: Sequence[HeldOut], alarm: AlarmSettings, *, tick_ms: int) -> list[Trace]:
    """The held-out scores of each asset, its stretches one after the other as live."""
    in_order = sorted(held_out, key=lambda stretch: (stretch.asset, int(stretch.tick[0])))
    traces = []
    for name in dict.fromkeys(stretch.asset for stretch in in_order):
        mine = [stretch for stretch in in_order if stretch.asset == name]
        coverage = np.concatenate([stretch.coverage for stretch in mine])
        warming = np.concatenate([stretch.warming for stretch in mine])
        traces.append(
            Trace(
                asset=name,
                tick=np.concatenate([stretch.tick for stretch in mine]),
                surprise=np.concatenate([stretch.surprise for stretch in mine]),
                counts=~warming & (coverage > 0) & (coverage >= alarm.min_coverage),
                tick_ns=tick_ms * 1_000_000,
            )
        )
    return traces


def support_of(
    traces: Sequence[Trace], alarm: AlarmSettings, *, per_asset_30_days: float, own: bool = False
) -> Support:
    """What these healthy scores can say of thresholds, for this budget and others.

    ``own``: they are by a model that has learnt from them.
    """
    watched_days = sum(trace.watched_s for trace in traces) / 86_400
    allowed = OTHER_BUDGETS * per_asset_30_days / DAYS * watched_days
    peaks = _peaks(traces, alarm, enough=min(max(ENOUGH_PEAKS, allowed), MOST_PEAKS))
    counted = [(LEAST_THRESHOLD, 0)]
    if len(peaks):
        ranks = np.unique(np.geomspace(1, len(peaks), LEVELS).round().astype(np.intp)) - 1
        levels = np.unique(np.nextafter(peaks[ranks], np.float32(np.inf)))[::-1].tolist()
        counted = [(levels[0], 0)]
        for level in levels[1:]:
            counted.append((level, count(traces, alarm, level)))
            if counted[-1][1] > max(allowed, TAIL_PEAKS):
                break
    used = min(len(peaks) - 1, TAIL_PEAKS)
    return Support(
        healthy_days=watched_days,
        assets=len(traces),
        alarm=delays_of(alarm),
        counted=tuple(counted),
        per_asset_30_days=per_asset_30_days,
        own=own,
        unlike=_unlike(traces, alarm),
        tail=None
        if used < LEAST_PEAKS or peaks[0] <= peaks[used]
        else Tail.fit(peaks[:used], float(peaks[used])),
    )


def threshold_for(support: Support, per_asset_30_days: float) -> Threshold:
    """The threshold of a budget. A lower budget never has a lower threshold."""
    alike = _of_alike(support, per_asset_30_days)
    return replace(alike, value=alike.value * float(np.exp(support.unlike)))


def _of_alike(support: Support, per_asset_30_days: float) -> Threshold:
    """The threshold if all machines were as those of the history are together."""
    expected = per_asset_30_days / DAYS * support.healthy_days
    within = support.counted[0][0]  # not one alarm was raised there
    if expected >= bound(0):
        for level, alarms in support.counted:
            if bound(alarms) > expected:
                break
            within = level
        return Threshold(max(within, LEAST_THRESHOLD), provisional=False)
    tail = support.tail
    if tail is None or tail.misfit < LEAST_MISFIT:
        return Threshold(within + float(np.log10(BEYOND_SEEN)), provisional=True)
    peaks = len(tail.excess)
    fitted = max(within, LEAST_THRESHOLD, tail.upper(max(expected, 1.0) / peaks, CONFIDENCE))
    if expected >= 1:
        return Threshold(fitted, provisional=False)
    further = tail.level(max(expected, 1 / BEYOND_SEEN) / peaks)
    return Threshold(max(fitted, further), provisional=True)


def bound(alarms: int) -> float:
    """How many were to be expected at the most where so many were counted, at 95 %."""
    return float(chi2.ppf(CONFIDENCE, 2 * alarms + 2)) / 2


def wanted_days(per_asset_30_days: float) -> float:
    """Healthy days, over all assets, that support a budget by counting."""
    return bound(0) / per_asset_30_days * DAYS


def same_delays(support: Support, alarm: AlarmSettings) -> bool:
    """Whether its episodes were counted as these settings raise alarms.

    What a card does not know of, for it came later, is what it is if nothing is said.
    """
    return delays_of(AlarmSettings()) | support.alarm == delays_of(alarm)


def delays_of(alarm: AlarmSettings) -> dict[str, float]:
    """What of the alarm settings decides how many alarms a threshold makes."""
    return alarm.model_dump(exclude={"threshold"})


def _peaks(traces: Sequence[Trace], alarm: AlarmSettings, *, enough: float) -> NDArray[np.float32]:
    """The levels that episodes held, falling, float32 [M]; over a start low enough for many.

    An episode at the start is one peak, however often it would alarm further up: declustered, as
    peaks over a threshold must be (Coles, 5.3.2).
    """
    parts = [trace.surprise[trace.counts] for trace in traces]
    surprise = np.sort(np.concatenate([np.zeros(1, np.float32), *parts]))[::-1]
    best: list[tuple[Trace, list[Episode]]] = []
    most = 0
    ranks = FIRST_RANK * 2 ** np.arange(len(surprise).bit_length())
    for start in surprise[np.unique(np.minimum(ranks, len(surprise))) - 1].tolist():
        found = [(trace, episodes(trace, alarm, start)) for trace in traces]
        number = sum(len(own) for _, own in found)
        if number > most:
            best, most = found, number
        if most >= enough or number < most / 2:  # further down they are enough, or one
            break
    peaks = [held(trace, alarm, episode) for trace, own in best for episode in own]
    return np.sort(np.array([peak for peak in peaks if peak > LEAST_THRESHOLD], np.float32))[::-1]


def _unlike(traces: Sequence[Trace], alarm: AlarmSettings) -> float:
    """How far, in logarithms, the level of all machines may lie over that of these, at 95 %.

    Each one's level is that of its n-th highest peak, at one rate of episodes for all. What
    chance alone makes them differ by is taken off (DerSimonian and Laird, Controlled Clinical
    Trials 7, 1986): a level over which n peaks lie is as unsure as their mean excess is by the
    root of n. 0 where there is but one machine, or too little of others to tell.
    """
    longest = max((trace.watched_s for trace in traces), default=0.0)
    levels, chances = [], []
    for trace in traces:
        wanted = int(OWN_PEAKS * trace.watched_s / longest) if longest else 0
        if wanted < LEAST_OWN_PEAKS:
            continue
        peaks = _peaks([trace], alarm, enough=2 * wanted).astype(np.float64)
        if len(peaks) > wanted:
            level = peaks[wanted]
            levels.append(np.log(level))
            chances.append(float(peaks[:wanted].mean() / level - 1) ** 2 / wanted)
    count = len(levels)
    if count < 2:
        return 0.0
    spread = max(float(np.var(levels, ddof=1) - np.mean(chances)), 0.0)
    return float(student.ppf(CONFIDENCE, count - 1) * np.sqrt(spread / count))
