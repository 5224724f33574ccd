"""How fast is the step: samples to scores and alarms, and the recurrent network inside it?

Two questions, each against what one would write first, on the same input and with the same scores:

* from decoded columns to results: ``Pipeline.step`` against one Python object a sample, a
  dictionary of last values an asset, and one GRUCell call an asset and tick;
* one tick of the network for N assets: the product's step against torch's own GRUCell, a head,
  and the same gather and scatter; with the judge that turns residuals into scores, and without.

    python benchmarks/pipeline.py [--quick] [--json FILE]
"""

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported

import numpy as np
import torch
from _machine import RESULTS, Times, race, table, write
from numpy.typing import NDArray
from torch import Tensor, nn

from connectors.batch import BAD, GOOD, Notice, NoticeKind, Samples
from models.bundle import Bundle, Channel
from models.contract import Stretch
from models.ensemble import members_of
from models.recurrent import Forecaster
from models.residual import RESIDUAL_LIMIT, ResidualDetector
from models.runtime import use_one_thread
from models.settings import GruSettings, TrainingSettings
from models.surprise import ENOUGH, SLACK, Mahalanobis
from models.training import train
from monitor.core.pipeline import Pipeline
from monitor.core.plan import Asset, ChannelSettings, KindSettings, Plan
from monitor.core.records import Record, Results

# T ticks, A assets, N rows, C channels, S smoothed copies, H hidden

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
CHANNELS, HIDDEN, WARMUP = 8, 64, 4
TOLERANCE = 1e-4  # of raw and surprise: both sides are float32, added up in different orders
THRESHOLD = 3.0  # surprise
DRIFT = 5.0  # a tick, of one channel of the last asset: a jump would be taken for its instrument's
F64 = NDArray[np.float64]
Found = dict[str, float]


@dataclass(frozen=True, slots=True)
class Case:
    """One shape of input."""

    assets: int
    ticks: int
    naive_ticks: int  # the naive path is timed on the first of them, and scaled per sample
    per_record: int  # ticks that come in one record
    bad: float = 0.0  # share of samples with a bad status

    @property
    def name(self) -> str:
        """The case in words."""
        ticks = "tick" if self.per_record == 1 else "ticks"
        bad = f", {self.bad:.0%} bad" if self.bad else ""
        return f"{self.assets} assets, {self.per_record} {ticks} a record{bad}"


CASES = (
    Case(4, 1200, 120, 60),
    Case(100, 60, 10, 1),
    Case(100, 240, 10, 60),
    Case(1000, 20, 6, 1),
    Case(1000, 20, 6, 1, bad=0.01),
)
QUICK_CASES = (Case(4, 20, 10, 10), Case(20, 10, 10, 1, bad=0.1))
ROWS = (1, 10, 100, 1000, 10_000)
QUICK_ROWS = (1, 10)


def readings(ticks: int, assets: int, seed: int) -> F64:
    """A coupled process [T, A, C]: all channels follow one slow load, each with noise."""
    random = np.random.default_rng(seed)
    load = np.empty((ticks, assets))
    load[0] = random.normal(size=assets)
    for tick in range(1, ticks):
        load[tick] = 0.95 * load[tick - 1] + 0.3 * random.normal(size=assets)
    mix = np.linspace(3.0, 1.5, CHANNELS) * np.where(np.arange(CHANNELS) % 2, -1, 1)
    noise = 0.5 * random.normal(size=(ticks, assets, CHANNELS))
    values: F64 = 50.0 + load[:, :, None] * mix + noise
    return values


def trained(*, ticks: int) -> Bundle:
    """A small GRU, trained on a little healthy data, with a threshold and a short warm-up."""
    values = readings(ticks, 3, seed=1)
    stretches = [
        Stretch(
            asset=f"a{number}",
            tick=START + np.arange(ticks, dtype=np.int64) * SECOND,
            value=values[:, number],
            valid=np.ones((ticks, CHANNELS), np.bool_),
        )
        for number in range(values.shape[1])
    ]
    channels = [Channel(name=f"c{n}", unit=None, aggregate="last") for n in range(CHANNELS)]
    model = GruSettings(hidden=HIDDEN, warmup_ticks=WARMUP)
    settings = TrainingSettings(epochs=2, learning_rate=1e-2, chunk_ticks=50, device="cpu")
    bundle = train(stretches, channels, model, settings).bundle
    return bundle.with_threshold(THRESHOLD, provisional=False)


def plan_of(assets: int) -> Plan:
    """That many machines of one kind, all heard through one source."""
    names = [f"c{n}" for n in range(CHANNELS)]
    return Plan(
        site="bench",
        kinds={"pump": KindSettings(channels={name: ChannelSettings() for name in names})},
        assets=tuple(
            Asset(
                name=f"a{row}",
                id=row,
                kind="pump",
                tags={name: (row * CHANNELS + c, "plant") for c, name in enumerate(names)},
            )
            for row in range(assets)
        ),
    )


def records_of(case: Case, ticks: int) -> list[Record]:
    """The first ticks of the case. The last asset drifts out of health half-way."""
    values = readings(case.ticks, case.assets, seed=2)
    away = np.arange(case.ticks) - case.naive_ticks // 2
    values[:, -1, 0] += DRIFT * np.maximum(away + 1, 0)
    random = np.random.default_rng(3)
    status = np.where(random.random(values.shape) < case.bad, BAD, GOOD).astype(np.uint32)
    tag = np.arange(case.assets * CHANNELS, dtype=np.int32)
    records = []
    for first in range(0, ticks, case.per_record):
        some = np.arange(first, min(first + case.per_record, ticks))
        body = Samples(
            source="plant",
            tag=np.tile(tag, len(some)),
            time=START + np.repeat(some, len(tag)) * SECOND,
            value=values[some].ravel(),
            status=status[some].ravel(),
            flags=np.zeros(len(some) * len(tag), np.uint8),
        )
        records.append(Record(START + (int(some[-1]) + 1) * SECOND, body))
    return records


# ---- samples to results ----------------------------------------------------------------------


class Sample(NamedTuple):
    """One sample as an object."""

    tag: int
    time: int
    value: float
    status: int


class Score(NamedTuple):
    """One score as an object."""

    asset: str
    tick: int
    raw: float
    surprise: float
    blame: dict[str, float]
    expected: dict[str, float]
    spread: dict[str, float]


@dataclass
class Machine:
    """What the naive path remembers of one asset."""

    name: str
    hidden: Tensor
    smoothed: NDArray[np.float32]
    seen: NDArray[np.float32]
    last: dict[str, float] = field(default_factory=dict)
    frames: int = 0
    alarm: bool = False


class Network:
    """The forecaster's weights in torch's own GRUCell and Linear."""

    def __init__(self, detector: ResidualDetector) -> None:
        forecaster = detector.predictor
        assert isinstance(forecaster, Forecaster)
        learnt = forecaster.network.state_dict()
        self.cell = nn.GRUCell(2 * detector.channels, forecaster.hidden)
        self.head = nn.Linear(forecaster.hidden, 2 * detector.channels)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(self.cell, name).data.copy_(learnt[f"cell.{name}_l0"])
        self.head.load_state_dict({name: learnt[f"head.{name}"] for name in ("weight", "bias")})
        self.log_floor = learnt["floor"].log()
        self.cell.to(detector.device)
        self.head.to(detector.device)

    def step(
        self, value_NC: Tensor, valid_NC: Tensor, hidden_NH: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and spread [N, C] of this tick, forecast from those before; the next state."""
        mean, log_spread = self.head(hidden_NH).chunk(2, 1)
        spread = torch.maximum(log_spread, self.log_floor).exp()
        return mean, spread, self.cell(torch.cat([value_NC, valid_NC], 1), hidden_NH)


class Naive:
    """The same monitor, one object a sample, one network call an asset and tick."""

    def __init__(self, plan: Plan, bundle: Bundle) -> None:
        (detector,), card = members_of(bundle.detector), bundle.card
        judge = detector.judge
        assert isinstance(judge, Mahalanobis)
        self.network = Network(detector)
        self.judge, self.threshold = judge, THRESHOLD
        self.clear = THRESHOLD * plan.kinds["pump"].alarm.clear_ratio
        self.channels = list(plan.kinds["pump"].channels)
        self.mean, self.deviation = np.array(card.scaling.mean), np.array(card.scaling.deviation)
        self.knots = np.array(card.calibration.raw), np.array(card.calibration.surprise)
        self.shape, self.scale = card.calibration.shape, card.calibration.scale
        self.alpha = judge.alpha.astype(np.float32)[:, None]
        self.forms: dict[bytes, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
        self.machines = [
            Machine(
                asset.name,
                torch.zeros(1, HIDDEN),
                np.zeros((judge.copies, CHANNELS), np.float32),
                np.ones((judge.copies, CHANNELS), np.float32),
            )
            for asset in plan.assets
        ]
        self.route = {
            tag: (machine, name)
            for asset, machine in zip(plan.assets, self.machines, strict=True)
            for name, (tag, _) in asset.tags.items()
        }
        self.scores: list[Score] = []
        self.alarms: list[tuple[str, int, bool]] = []

    def step(self, samples: Samples) -> None:
        """Take a batch whose samples come in order of time."""
        now = None
        columns = (samples.tag, samples.time, samples.value, samples.status)
        for row in zip(*(column.tolist() for column in columns), strict=True):
            sample = Sample(*row)
            if now is not None and sample.time != now:
                self.tick(now)
            now = sample.time
            machine, name = self.route[sample.tag]
            good = sample.status >> 30 < 2  # OPC UA severity bits, as in quality()
            machine.last[name] = sample.value if good else np.nan
        if now is not None:
            self.tick(now)

    def tick(self, now: int) -> None:
        """Score every asset."""
        for machine in self.machines:
            self.score(machine, now)

    def score(self, machine: Machine, now: int) -> None:
        """One tick of one asset."""
        value = np.array([machine.last[name] for name in self.channels])
        valid = np.isfinite(value)
        scaled = np.where(valid, (value - self.mean) / self.deviation, 0.0).astype(np.float32)
        mean, spread, machine.hidden = self.network.step(
            torch.from_numpy(scaled[None]),
            torch.from_numpy(valid[None].astype(np.float32)),
            machine.hidden,
        )
        expected, sure = mean.numpy()[0], spread.numpy()[0]
        residual = np.clip((scaled - expected) / sure, -RESIDUAL_LIMIT, RESIDUAL_LIMIT)
        machine.seen += self.alpha * (valid + np.float32(SLACK) - machine.seen)
        machine.seen = np.minimum(machine.seen, np.float32(1.0))
        weight = self.alpha * valid / machine.seen
        machine.smoothed += weight * (residual - machine.smoothed)
        forms, inverse = self.matrices((machine.seen >= ENOUGH) & valid)
        pull = (machine.smoothed[:, None, :] @ forms)[:, 0]
        square = (machine.smoothed * pull).sum(1)
        winner = int(square.argmax())
        share = pull[winner] ** 2 * inverse[winner]
        raw = float(square[winner]) ** 0.5
        beyond = max(raw - self.knots[0][-1], 0.0) / self.scale
        tail = np.log1p(self.shape * beyond) / self.shape if self.shape > 0 else beyond
        surprise = float(np.interp(raw, *self.knots) + tail / np.log(10.0))
        self.scores.append(
            Score(
                machine.name,
                now,
                raw,
                surprise,
                dict(zip(self.channels, (share / share.sum()).tolist(), strict=True)),
                dict(
                    zip(
                        self.channels,
                        (expected * self.deviation + self.mean).tolist(),
                        strict=True,
                    )
                ),
                dict(zip(self.channels, (sure * self.deviation).tolist(), strict=True)),
            )
        )
        machine.frames += 1
        if machine.frames > WARMUP and 2 * valid.sum() >= len(valid):
            limit = self.clear if machine.alarm else self.threshold
            if (surprise >= limit) is not machine.alarm:
                machine.alarm = not machine.alarm
                self.alarms.append((machine.name, now, machine.alarm))

    def matrices(self, known: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The judge's forms and one over their diagonals, kept for each pattern."""
        key = known.tobytes()
        if key not in self.forms:
            forms = self.judge.forms(known) / np.square(self.judge.reference)[:, None, None]
            diagonal = np.diagonal(forms, axis1=1, axis2=2)
            inverse = np.divide(1.0, diagonal, out=np.zeros_like(diagonal), where=diagonal > 0)
            self.forms[key] = forms.astype(np.float32), inverse.astype(np.float32)
        return self.forms[key]


def compare(results: list[Results], naive: Naive, ticks: int) -> Found:
    """How far the two sides are apart; raises AssertionError where it is more than rounding."""
    last = START + (ticks - 1) * SECOND
    rows = sorted(
        (f"a{asset}", tick, raw, surprise)
        for found in results
        for block in found.scores
        for asset, tick, raw, surprise in zip(
            block.asset.tolist(),
            block.tick.tolist(),
            block.raw.tolist(),
            block.surprise.tolist(),
            strict=True,
        )
        if tick <= last
    )
    others = sorted(score[:4] for score in naive.scores)
    assert [row[:2] for row in rows] == [row[:2] for row in others]
    apart = np.abs(np.array([r[2:] for r in rows]) - np.array([o[2:] for o in others])).max(axis=0)
    assert float(apart.max()) <= TOLERANCE, f"raw and surprise are {apart} apart"
    events = [
        (event.asset, event.tick, event.transition == "raised")
        for found in results
        for event in found.alarms
        if event.tick <= last
    ]
    assert sorted(events) == sorted(naive.alarms)
    assert events, "want an alarm to compare"
    return {"delta_raw": float(apart[0]), "delta_surprise": float(apart[1])}


def samples_to_results(case: Case, bundle: Bundle, rounds: int) -> Found:
    """Microseconds a sample of both sides."""
    plan = plan_of(case.assets)
    ended = Notice(source="plant", kind=NoticeKind.ENDED)  # else the last tick would stay open
    records = records_of(case, case.ticks)
    records.append(Record(records[-1].received, ended))
    few = records_of(case, case.naive_ticks)
    kept: dict[str, Any] = {}

    def ours() -> Callable[[], object]:
        pipeline = Pipeline(plan, {"pump": bundle})

        def work() -> None:
            kept["ours"] = [pipeline.step(record) for record in records]

        return work

    def naive() -> Callable[[], object]:
        monitor = Naive(plan, bundle)
        kept["naive"] = monitor

        def work() -> None:
            with torch.inference_mode():
                for record in few:
                    assert isinstance(record.body, Samples)
                    monitor.step(record.body)

        return work

    mine, other = race({"ours": ours, "naive": naive}, rounds)
    per_tick = case.assets * CHANNELS
    apart = compare(kept["ours"], kept["naive"], case.naive_ticks)
    return figures(mine, other, per_tick * case.ticks, per_tick * case.naive_ticks) | apart


# ---- one tick of the network -----------------------------------------------------------------


class Reading(NamedTuple):
    """One tick of N assets, the same again and again."""

    value: Tensor  # [N, C]
    valid: Tensor  # [N, C]
    row: Tensor  # [N] of the state table


class Ours:
    """Gather, the product's step, scatter."""

    def __init__(self, detector: ResidualDetector, rows: int, *, judged: bool) -> None:
        self.detector, self.judged = detector, judged
        self.held = detector.initial(rows)

    def tick(self, reading: Reading) -> tuple[Tensor, ...]:
        """Expected and spread; raw score and blame before them where judged."""
        value, valid, row = reading
        before = {name: tensor.index_select(0, row) for name, tensor in self.held.items()}
        if self.judged:
            evidence, after = self.detector.sweep(value, valid, [len(value)], before)
            found: tuple[Tensor, ...] = (
                evidence.raw,
                evidence.blame,
                evidence.expected,
                evidence.spread,
            )
        else:
            expected, spread, after = self.detector.predictor.step(value, valid, before)
            found = (expected, spread)
        for name, tensor in after.items():
            self.held[name].index_copy_(0, row, tensor)
        return found


class Eager:
    """Gather, GRUCell, head and the judge's arithmetic in plain torch, scatter."""

    def __init__(self, detector: ResidualDetector, rows: int, *, judged: bool) -> None:
        judge = detector.judge
        assert isinstance(judge, Mahalanobis)
        self.network, self.judged = Network(detector), judged
        everything = np.ones((judge.copies, CHANNELS), np.bool_)
        forms = judge.forms(everything) / np.square(judge.reference)[:, None, None]
        device = detector.device
        self.forms = torch.from_numpy(forms.astype(np.float32)).to(device)
        self.inverse = 1.0 / self.forms.diagonal(dim1=1, dim2=2)
        self.alpha = torch.from_numpy(judge.alpha.astype(np.float32)).view(1, -1, 1).to(device)
        self.hidden = torch.zeros(rows, HIDDEN, device=device)
        self.smoothed = torch.zeros(rows, judge.copies, CHANNELS, device=device)

    def tick(self, reading: Reading) -> tuple[Tensor, ...]:
        """Expected and spread; raw score and blame before them where judged."""
        value, valid, row = reading
        before = self.hidden.index_select(0, row)
        expected, spread, after = self.network.step(value, valid.float(), before)
        self.hidden.index_copy_(0, row, after)
        if not self.judged:
            return expected, spread
        residual = ((value - expected) / spread).clamp(-RESIDUAL_LIMIT, RESIDUAL_LIMIT)
        means = self.smoothed.index_select(0, row)
        means = means + self.alpha * (residual.unsqueeze(1) - means)
        self.smoothed.index_copy_(0, row, means)
        pull = torch.einsum("nsc,scd->nsd", means, self.forms)
        square, winner = (means * pull).sum(2).max(1)
        everyone = torch.arange(len(winner), device=winner.device)
        share = (pull.square() * self.inverse)[everyone, winner]
        return square.sqrt(), share / share.sum(1, keepdim=True), expected, spread


def one_tick(rows: int, bundle: Bundle, rounds: int, *, repeats: int, judged: bool) -> Found:
    """Microseconds of one tick of N assets of both sides."""
    generator = torch.Generator().manual_seed(5)
    reading = Reading(
        torch.randn(rows, CHANNELS, generator=generator),
        torch.ones(rows, CHANNELS, dtype=torch.bool),
        torch.arange(rows),
    )
    shown: dict[type[Ours | Eager], tuple[Tensor, ...]] = {}

    def contestant(side: type[Ours | Eager]) -> Callable[[], Callable[[], object]]:
        def ready() -> Callable[[], object]:
            stepping = side(members_of(bundle.detector)[0], rows, judged=judged)

            def work() -> None:
                with torch.inference_mode():
                    for _ in range(repeats):
                        shown[side] = stepping.tick(reading)

            return work

        return ready

    mine, other = race({"ours": contestant(Ours), "eager": contestant(Eager)}, rounds)
    for one, two in zip(shown[Ours], shown[Eager], strict=True):
        assert float((one - two).abs().max()) <= TOLERANCE
    return figures(mine, other, repeats, repeats)


# ---- the tables ------------------------------------------------------------------------------


def figures(mine: Times, other: Times, mine_count: int, other_count: int) -> Found:
    """Best and worst microseconds a piece of both sides, and how many times faster we are."""
    us, us_worst = mine.best / mine_count * 1e6, mine.worst / mine_count * 1e6
    peer_us, peer_us_worst = other.best / other_count * 1e6, other.worst / other_count * 1e6
    return {
        "us": us,
        "us_worst": us_worst,
        "peer_us": peer_us,
        "peer_us_worst": peer_us_worst,
        "ratio": peer_us / us,
    }


def line(name: str, found: Found) -> list[str]:
    """One row of a table."""
    cells = [f"{brief(found[key])} to {brief(found[f'{key}_worst'])}" for key in ("us", "peer_us")]
    return [name, *cells, f"{found['ratio']:.1f}"]


def brief(number: float) -> str:
    """Three digits, or all before the point."""
    return f"{number:.3g}" if number < 1000 else f"{number:,.0f}"


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small and once: is it still right?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures there")
    given = parser.parse_args()
    use_one_thread()
    rounds = 1 if given.quick else 5
    bundle = trained(ticks=400 if given.quick else 1500)

    found: dict[str, dict[str, Found]] = {"samples_to_results": {}, "step": {}, "network": {}}
    for case in QUICK_CASES if given.quick else CASES:
        found["samples_to_results"][case.name] = samples_to_results(case, bundle, rounds)
    for rows in QUICK_ROWS if given.quick else ROWS:
        repeats = 5 if given.quick else max(20, 20_000 // rows)
        for part, judged in (("step", True), ("network", False)):
            found[part][f"{rows} assets"] = one_tick(
                rows, bundle, rounds, repeats=repeats, judged=judged
            )

    heads = {
        "samples_to_results": ("samples to results, us a sample", "step", "naive"),
        "step": ("one tick, us: network and judge", "step", "GRUCell"),
        "network": ("one tick, us: network alone", "step", "GRUCell"),
    }
    for part, (what, mine, other) in heads.items():
        lines = [line(name, each) for name, each in found[part].items()]
        print(table((what, mine, other, "times faster"), lines), end="\n\n")
    if given.json or not given.quick:
        write(
            given.json or RESULTS / "pipeline.json", {"set": "pipeline", "rounds": rounds, **found}
        )


if __name__ == "__main__":
    main()
