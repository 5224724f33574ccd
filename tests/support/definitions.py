"""Frames and scores worked out anew from what the words say: sample by sample, slowly."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from support.streams import NAN, Item

from connectors.batch import GOOD
from models.bundle import Bundle
from monitor.core.holding import Frames
from monitor.core.modes import RunStates, scored
from monitor.core.plan import MILLISECOND, SECOND, Asset, KindSettings
from monitor.core.records import ScoreState
from monitor.core.sensors import Sensors


def frames_by_definition(
    kind: KindSettings, asset: Asset, items: Sequence[Item]
) -> list[tuple[str, int, bool, list[float], list[float]]]:
    """Asset, tick, fresh, values and ages of every frame: sample by sample, from all samples.

    An age is NaN where nothing was ever known.
    """
    tick = kind.tick_ms * MILLISECOND
    names = {tag: name for name, (tag, _) in asset.tags.items()}
    first_of: dict[tuple[str, int], Item] = {}
    for item in sorted(items, key=lambda item: item.copy):
        if item.tag in names:
            first_of.setdefault((names[item.tag], item.time), item)
    samples = defaultdict(list)
    for (name, _), item in sorted(first_of.items(), key=lambda pair: pair[0][1]):
        samples[name].append(item)
    if not samples:
        return []
    begin = min(-(-mine[0].time // tick) for mine in samples.values())
    feeding = {source for _, source in asset.tags.values()}
    spans = [
        (item.since, item.time, item.source)
        for item in items
        if item.tag < 0 and item.source in feeding
    ]
    evidence = {-(-item.time // tick) for mine in samples.values() for item in mine}
    for since, until, _ in spans:
        evidence |= {t for t in range(since // tick + 1, until // tick + 1) if t >= begin}
    frames, before = [], None
    for now in sorted(evidence):
        fresh = before is None or now - before > kind.gap_ticks
        for t in [now] if fresh else range(before + 1, now + 1):
            values, ages = [], []
            for channel in kind.channels:
                name = kind.tag_of(channel)
                vouched = [
                    min(until, t * tick)
                    for since, until, source in spans
                    if source == asset.tags[name][1] and since < t * tick
                ]
                value, age = _shown(
                    kind, channel, samples[name], t, vouched=max(vouched, default=0)
                )
                values.append(value)
                ages.append(age)
            frames.append((asset.name, t * tick, fresh, values, ages))
        before = now
    return frames


def _shown(kind, channel, samples, t, *, vouched):
    """What one channel shows at one tick, and its age in s."""
    settings, tick = kind.channels[channel], kind.tick_ms * MILLISECOND
    how = settings.aggregate
    past = [item for item in samples if item.time <= t * tick]
    within = [item for item in past if item.time > (t - 1) * tick]
    good = [item for item in past if item.status == GOOD]
    if not good:
        return NAN, NAN
    if within and how == "last":
        ok, value = within[-1].status == GOOD, within[-1].value
    elif within:
        usable = [item for item in within if item.status == GOOD]
        earlier = [item for item in past if item.time <= (t - 1) * tick]
        stood = earlier[-1].value if earlier and earlier[-1].status == GOOD else None
        ok, value = bool(usable), _aggregate(how, usable, stood, t, tick)
    else:
        ok = past[-1].status == GOOD
        t_last = -(-past[-1].time // tick)
        if how in ("last", "time_mean") or not ok:
            value = past[-1].value
        else:
            group = [i for i in good if (t_last - 1) * tick < i.time <= t_last * tick]
            value = _aggregate(how, group, None, t_last, tick)
    known = max(good[-1].time, vouched) if ok else good[-1].time
    age = (t * tick - known) / SECOND
    return (value if ok and age <= settings.stale_s else NAN), age


def _aggregate(how, usable, stood, t, tick):
    """The samples of tick t as one value; ``stood``: the value before them, None if not known."""
    values = [item.value for item in usable]
    plain = {
        "mean": np.mean,
        "min": np.min,
        "max": np.max,
        "std": np.std,
        "rms": lambda values: np.sqrt(np.mean(np.square(values))),
    }
    if not values:
        return NAN
    if how in plain:
        return float(plain[how](values))
    pieces = [((t - 1) * tick, stood)] if stood is not None else []
    pieces += [(item.time, item.value) for item in usable]
    ends = [time for time, _ in pieces[1:]] + [t * tick]
    weights = [end - time for (time, _), end in zip(pieces, ends, strict=True)]
    return (
        float(np.average([v for _, v in pieces], weights=weights)) if any(weights) else values[-1]
    )


def scores_one_by_one(
    kind: KindSettings, bundle: Bundle, frames: Frames
) -> list[tuple[int, float, float, tuple[float, ...], int]]:
    """Tick, raw, surprise, blame and state of the frames of one asset, one after the other."""
    counts = scored(RunStates(kind, 1).of(frames))
    sees = [channel.model for channel in kind.channels.values()]
    state, seen, rows = bundle.initial(1), 0, []
    evidence = _evidence(kind, bundle, frames)
    for i in range(len(frames)):
        blame = np.zeros(len(sees), np.float32)
        if frames.fresh[i] or not counts[i]:
            state, seen = bundle.initial(1), 0
        if not counts[i]:
            rows.append((int(frames.tick[i]), 0.0, 0.0, tuple(blame.tolist()), ScoreState.OFF))
            continue
        valid = evidence[i : i + 1, sees]
        judged, state = bundle.step(frames.value[i : i + 1, sees], valid, state)
        seen += 1
        if not valid.any():
            rows.append((int(frames.tick[i]), 0.0, 0.0, tuple(blame.tolist()), ScoreState.BLIND))
            continue
        blame[sees] = judged.blame[0]
        rows.append(
            (
                int(frames.tick[i]),
                float(judged.raw[0]),
                float(judged.surprise[0]),
                tuple(blame.tolist()),
                ScoreState.OK if seen > bundle.warmup_ticks else ScoreState.WARMING,
            )
        )
    return rows


def _evidence(kind: KindSettings, bundle: Bundle, frames: Frames) -> np.ndarray:
    """What the model sees of the frames of one asset: nothing of a bad sensor or one just back."""
    judged = Sensors(kind, 1, bundle.card.health_by_name).judge(
        frames, RunStates(kind, 1).of(frames)
    )
    seen = frames.valid & ~frames.forced & ~judged.hidden
    for column, channel in enumerate(kind.channels.values()):
        last, back, failed = None, None, False
        for i, tick in enumerate(frames.tick.tolist()):
            if not frames.valid[i, column] or judged.faulty[i, column]:
                failed |= bool(frames.valid[i, column])
                continue
            away = last is not None and (failed or tick - last > channel.stale_s * SECOND)
            if away and not frames.fresh[i]:
                back = tick
            last, failed = tick, False
            seen[i, column] &= back is None or tick - back >= channel.settle_s * SECOND
    return seen
