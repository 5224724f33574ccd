"""What does a GPU bring: one tick of many assets, history at once, training; and the same scores?

Each against what one would write first with torch on the same GPU, in the same run, on the same
input and with the same weights; training against the product itself on one CPU thread. Beside them
what the card itself can do: a product of large matrices, and a copy.

* ``network``: one tick of the forecaster for N assets, gather and scatter; against GRUCell, a head.
* ``step``: the same with the judge that turns residuals into scores and blame.
* ``end_to_end``: a bundle's step, from numpy arrays in the channels' units to numpy arrays of
  surprise; against the same scaling and calibration around the eager step.
* ``sweep``: history, many ticks at once; against nn.GRU and a head, a thousand ticks a call.
* ``training``: one epoch; ``mixed``: in bf16 against float32.
* ``accuracy``: how far the scores of the GPU and of the CPU are apart. The script fails where it is
  more than 1e-3, or where an alarm differs.

    python benchmarks/gpu.py [--device cuda] [--quick] [--json FILE]
"""

import argparse
import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _machine import RESULTS, table, write
from numpy.typing import NDArray
from pipeline import (
    CHANNELS,
    HIDDEN,
    THRESHOLD,
    TOLERANCE,
    Eager,
    Found,
    Ours,
    Reading,
    brief,
    readings,
    trained,
)
from torch import Tensor, nn

from models.bundle import Bundle
from models.gradient import GradientFit, Run
from models.recurrent import Forecaster
from models.runtime import use_one_thread
from models.settings import GruSettings, TrainingSettings

# T ticks, A assets, C channels, R rows of many ticks

GPU_ON_CPU = "cpu:0"  # takes the code of a GPU: whatever is not plainly "cpu" does
WIDE = (64, 256, 1024)  # hidden: what mixed precision is tried on
PEER_TICKS = 1000  # that the peer of the sweep takes a call
SURPRISE_TOLERANCE = 1e-3  # what is promised between a GPU and a CPU
F64 = NDArray[np.float64]
Work = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Size:
    """How large everything is."""

    rounds: int
    training_ticks: int  # of the bundle that is measured
    rows: tuple[int, ...]
    repeats: int
    sweep: tuple[int, int]  # assets, ticks
    runs: tuple[int, int]  # to train on: count, ticks
    compared: tuple[int, int]  # assets, ticks
    matrix: int
    copied: int  # bytes


FULL = Size(
    rounds=5,
    training_ticks=1500,
    rows=(1000, 10_000, 100_000),
    repeats=300,
    sweep=(1000, 5000),
    runs=(64, 5000),
    compared=(64, 2000),
    matrix=8192,
    copied=2**30,
)
QUICK = Size(
    rounds=1,
    training_ticks=400,
    rows=(1, 10),
    repeats=3,
    sweep=(5, 40),
    runs=(4, 200),
    compared=(6, 60),
    matrix=128,
    copied=2**16,
)


class Clock:
    """Seconds of a call: of the device between two events, or of the wall until all is done."""

    def __init__(self, device: str) -> None:
        self.cuda = device == "cuda"

    def race(
        self, contestants: Mapping[str, Work], rounds: int, repeats: int, *, wall: bool = False
    ) -> dict[str, list[float]]:
        """Seconds a call in each round, the contestants in turn, after calls that do not count."""
        for work in contestants.values():
            for _ in range(min(repeats, 100)):
                work()
        found: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(rounds):
            for name, work in contestants.items():
                gc.collect()
                gc.disable()
                timed = self._events if self.cuda and not wall else self._wall
                found[name].append(timed(work, repeats) / repeats)
                gc.enable()
        return found

    def _events(self, work: Work, repeats: int) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        for _ in range(repeats):
            work()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3  # it gives milliseconds

    def _wall(self, work: Work, repeats: int) -> float:
        self._finish()
        before = time.perf_counter()
        for _ in range(repeats):
            work()
        self._finish()
        return time.perf_counter() - before

    def _finish(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()


def moved(bundle: Bundle, device: str) -> Bundle:
    """The same bundle on the device, by way of its folder, as the product has it."""
    with tempfile.TemporaryDirectory() as folder:
        bundle.save(Path(folder) / "model")
        if device == "cuda":
            return Bundle.load(Path(folder) / "model", device="cuda")
        loaded = Bundle.load(Path(folder) / "model", device="cpu")
    return Bundle(loaded.card, loaded.detector.to(device))


def figures(seconds: Mapping[str, list[float]]) -> Found:
    """Median, least and most microseconds a call of both sides, and how many times faster we are.

    The first contestant is ours, the second the peer.
    """
    found: Found = {}
    for name, times in zip(("us", "peer_us"), seconds.values(), strict=True):
        us = [1e6 * each for each in times]
        found |= {name: statistics.median(us), f"{name}_least": min(us), f"{name}_most": max(us)}
    return {**found, "ratio": found["peer_us"] / found["us"]}


def apart(one: Tensor, other: Tensor) -> float:
    """The largest difference."""
    return float((one - other).abs().max())


# ---- what the card can do --------------------------------------------------------------------


def roofline(clock: Clock, size: Size, device: str) -> Found:
    """TFLOP/s of a float32 product without TF32, and GB/s of a copy, read and written."""
    a, b = (torch.randn(size.matrix, size.matrix, device=device) for _ in range(2))
    product = torch.empty_like(a)
    source = torch.zeros(size.copied // 4, device=device)
    target = torch.empty_like(source)
    seconds = clock.race({"product": lambda: torch.mm(a, b, out=product)}, size.rounds, 3)
    seconds |= clock.race({"copy": lambda: target.copy_(source)}, size.rounds, 10)
    return {
        "product_tflops": 2 * size.matrix**3 / statistics.median(seconds["product"]) / 1e12,
        "copy_gb_per_s": 2 * size.copied / statistics.median(seconds["copy"]) / 1e9,
    }


# ---- one tick ---------------------------------------------------------------------------------


def one_tick(clock: Clock, size: Size, bundle: Bundle, rows: int, *, judged: bool) -> Found:
    """One tick of N assets, everything on the device before and after."""
    device = bundle.detector.device
    generator = torch.Generator().manual_seed(5)
    reading = Reading(
        torch.randn(rows, CHANNELS, generator=generator).to(device),
        torch.ones(rows, CHANNELS, dtype=torch.bool, device=device),
        torch.arange(rows, device=device),
    )
    sides = {
        "ours": Ours(bundle.detector, rows, judged=judged),
        "eager": Eager(bundle.detector, rows, judged=judged),
    }
    first = [side.tick(reading) for side in sides.values()]
    delta = max(apart(one, other) for one, other in zip(*first, strict=True))
    assert delta <= TOLERANCE, f"the sides are {delta} apart"
    works = {name: lambda side=side: side.tick(reading) for name, side in sides.items()}
    return figures(clock.race(works, size.rounds, size.repeats)) | {"delta": delta}


def end_to_end(clock: Clock, size: Size, bundle: Bundle, rows: int) -> Found:
    """One tick of N assets, from numpy to numpy; wall time."""
    detector, card = bundle.detector, bundle.card
    value = readings(1, rows, seed=6)[0]
    valid = np.ones(value.shape, np.bool_)
    eager = Eager(detector, rows, judged=True)
    everyone = torch.arange(rows, device=detector.device)
    state = bundle.initial(rows)

    def ours() -> NDArray[np.float32]:
        nonlocal state
        judged, state = bundle.step(value, valid, state)
        return judged.surprise

    def peer() -> NDArray[np.float32]:
        scaled, usable = card.scaling.apply(value, valid)
        given = (torch.from_numpy(part).to(detector.device) for part in (scaled, usable))
        found = [part.cpu().numpy() for part in eager.tick(Reading(*given, everyone))]
        raw, _, expected, spread = found
        card.scaling.scale.back(expected)
        card.scaling.scale.spread_back(spread)
        surprise: NDArray[np.float32] = card.calibration.apply(raw)
        return surprise

    delta = float(np.abs(ours() - peer()).max())
    assert delta <= SURPRISE_TOLERANCE, f"the sides are {delta} apart"
    repeats = max(size.repeats // 10, 1)
    seconds = clock.race({"ours": ours, "eager": peer}, size.rounds, repeats, wall=True)
    return figures(seconds) | {"delta": delta}


# ---- history ----------------------------------------------------------------------------------


class Sequence:
    """nn.GRU and a head with the forecaster's weights, a thousand ticks a call."""

    def __init__(self, bundle: Bundle) -> None:
        forecaster = bundle.detector.predictor
        assert isinstance(forecaster, Forecaster)
        learnt = forecaster.network.state_dict()
        self.cell, self.head = nn.GRU(2 * CHANNELS, HIDDEN), nn.Linear(HIDDEN, 2 * CHANNELS)
        for module, prefix in ((self.cell, "cell."), (self.head, "head.")):
            own = {n.removeprefix(prefix): x for n, x in learnt.items() if n.startswith(prefix)}
            module.load_state_dict(own)
            module.to(bundle.detector.device)
        self.log_floor = learnt["floor"].log()

    def forecast(self, value_TAC: Tensor, valid_TAC: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and spread [R, C]."""
        hidden = value_TAC.new_zeros(1, value_TAC.shape[1], HIDDEN)
        means, spreads = [], []
        pieces = zip(value_TAC.split(PEER_TICKS), valid_TAC.split(PEER_TICKS), strict=True)
        for value, valid in pieces:
            seen, after = self.cell(torch.cat([value, valid], 2), hidden)
            mean, log_spread = self.head(torch.cat([hidden, seen[:-1]])).chunk(2, 2)
            means.append(mean)
            spreads.append(torch.maximum(log_spread, self.log_floor).exp())
            hidden = after
        return torch.cat(means).flatten(0, 1), torch.cat(spreads).flatten(0, 1)


def sweep(clock: Clock, size: Size, bundle: Bundle) -> dict[str, Found]:
    """History of many assets: on the device with and without the judge, and from numpy to numpy."""
    assets, ticks = size.sweep
    detector, peer = bundle.detector, Sequence(bundle)
    value_RC = readings(ticks, assets, seed=7).reshape(-1, CHANNELS)
    everything = np.ones(value_RC.shape, np.bool_)
    scaled, usable = bundle.card.scaling.apply(value_RC, everything)
    value, valid = (torch.from_numpy(part).to(detector.device) for part in (scaled, usable))
    value_TAC, valid_TAC = (part.view(ticks, assets, CHANNELS) for part in (value, valid))
    counts = [assets] * ticks
    forecaster = detector.predictor
    assert isinstance(forecaster, Forecaster)

    def peers() -> tuple[Tensor, Tensor]:
        return peer.forecast(value_TAC, valid_TAC.float())

    sides: dict[str, Work] = {
        "network": lambda: forecaster.sequence(value_TAC, valid_TAC, forecaster.initial(assets)),
        "network and judge": lambda: detector.sweep(value, valid, counts, detector.initial(assets)),
        "numpy to numpy": lambda: bundle.sweep(
            value_RC, everything, counts, bundle.initial(assets)
        ),
    }
    evidence, _ = detector.sweep(value, valid, counts, detector.initial(assets))
    mean, spread = peers()
    delta = max(apart(evidence.expected, mean), apart(evidence.spread, spread))
    assert delta <= TOLERANCE, f"the sides are {delta} apart"
    del evidence, mean, spread
    found = {}
    for name, work in sides.items():
        wall = name == "numpy to numpy"
        rounds = min(size.rounds, 3) if wall else size.rounds
        seconds = clock.race({"ours": work, "nn.GRU": peers}, rounds, 1, wall=wall)
        found[name] = figures(seconds) | {"delta": delta}
        found[name]["readings_per_s"] = assets * ticks / found[name]["us"] * 1e6
    return found


# ---- training ---------------------------------------------------------------------------------


def training(size: Size, device: str) -> Found:
    """One epoch on the device, against one on the CPU; wall time."""
    seconds = {}
    for key, name in (("ours", device), ("peer", "cpu")):
        work = {key: epoch(size, name, HIDDEN, TrainingSettings())}
        seconds |= Clock(name).race(work, min(size.rounds, 3), 1, wall=True)
    return figures(seconds)


def mixed(size: Size, device: str) -> dict[str, Found]:
    """One epoch in bf16, against one in float32; networks of several sizes, wall time."""
    found = {}
    for hidden in WIDE:
        work = {
            side: epoch(size, device, hidden, TrainingSettings(precision=precision))
            for side, precision in (("ours", "bf16"), ("float32", "float32"))
        }
        seconds = Clock(device).race(work, min(size.rounds, 3), 1, wall=True)
        found[f"hidden {hidden}"] = figures(seconds)
    return found


def epoch(size: Size, device: str, hidden: int, settings: TrainingSettings) -> Work:
    """One pass of a fit on a device, as often as it is called."""
    count, ticks = size.runs
    value = readings(ticks, count, seed=8)
    scaled = ((value - value.mean((0, 1))) / value.std((0, 1))).astype(np.float32)
    valid = np.ones((ticks, CHANNELS), np.bool_)
    runs = [Run(asset=f"a{n}", value=scaled[:, n], valid=valid) for n in range(count)]
    predictor = GruSettings(hidden=hidden).build(CHANNELS).to(device).predictor
    assert isinstance(predictor, Forecaster)
    fit = GradientFit(predictor, runs, settings, fold=0)
    return lambda: fit.run_epoch(lambda: False)


# ---- the same scores --------------------------------------------------------------------------


def accuracy(size: Size, here: Bundle, there: Bundle) -> dict[str, Found]:
    """How far raw and surprise are apart, tick by tick and at once, and over the threshold.

    Channels are missing here and there, some for good, and some assets leave their healthy level.
    """
    assets, ticks = size.compared
    random = np.random.default_rng(9)
    value = readings(ticks, assets, seed=10)
    value[ticks // 2 :, ::8, 0] += np.linspace(0.0, 15.0, ticks - ticks // 2)[:, None]
    valid = random.random(value.shape) > 0.02
    valid[:, 1::16, 2] = False
    value_RC, valid_RC = value.reshape(-1, CHANNELS), valid.reshape(-1, CHANNELS)
    counts = [assets] * ticks

    def at_once(bundle: Bundle) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        judged, _ = bundle.sweep(value_RC, valid_RC, counts, bundle.initial(assets))
        return judged.raw, judged.surprise

    def by_tick(bundle: Bundle) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        state, raw, surprise = bundle.initial(assets), [], []
        for now, seen in zip(value, valid, strict=True):
            judged, state = bundle.step(now, seen, state)
            raw.append(judged.raw)
            surprise.append(judged.surprise)
        return np.concatenate(raw), np.concatenate(surprise)

    raw, surprise = at_once(here)
    found = {}
    for name, way in (("at once", at_once), ("tick by tick", by_tick)):
        other_raw, other_surprise = way(there)
        over, other_over = surprise >= THRESHOLD, other_surprise >= THRESHOLD
        found[name] = {
            "delta_raw": float(np.abs(raw - other_raw).max()),
            "delta_surprise": float(np.abs(surprise - other_surprise).max()),
            "largest_raw": float(raw.max()),
            "largest_surprise": float(surprise.max()),
            "over_threshold": int(over.sum()),
            "over_on_one_only": int((over != other_over).sum()),
        }
    return found


# ---- the tables -------------------------------------------------------------------------------


def line(name: str, found: Found) -> list[str]:
    """One row of a table."""
    cells = [
        f"{brief(found[key])} ({brief(found[f'{key}_least'])} to {brief(found[f'{key}_most'])})"
        for key in ("us", "peer_us")
    ]
    return [name, *cells, f"{found['ratio']:.2f}"]


def card(device: str) -> dict[str, Any]:
    """The device in words."""
    if device != "cuda":
        return {"device": "cpu"}
    free, memory = torch.cuda.mem_get_info()
    return {
        "device": torch.cuda.get_device_name(),
        "cuda": torch.version.cuda,
        "memory_bytes": memory,
        "free_bytes": free,
        "peak_bytes": torch.cuda.max_memory_allocated(),
    }


def show(what: str, mine: str, peer: str, found: Mapping[str, Found]) -> None:
    """One table, as soon as it is known."""
    lines = [line(name, each) for name, each in found.items()]
    print(table((what, mine, peer, "times faster"), lines), end="\n\n", flush=True)


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="small and once: is it still right?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures there")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        print("No CUDA device here: nothing measured. --device cpu runs the same code without one.")
        return
    use_one_thread()
    device = "cuda" if given.device == "cuda" else GPU_ON_CPU
    size = QUICK if given.quick else FULL
    clock = Clock(device)
    found: dict[str, Any] = {}

    def keep() -> None:
        """Write what is known so far: what fails later takes nothing with it."""
        if given.json or not given.quick:
            content = {"set": "gpu", **card(device), "rounds": size.rounds, **found}
            write(given.json or RESULTS / "gpu.json", content)

    here = trained(ticks=size.training_ticks)
    there = moved(here, device)
    with torch.inference_mode():
        found["roofline"] = roofline(clock, size, device)
        print(", ".join(f"{name} {brief(x)}" for name, x in found["roofline"].items()), flush=True)
        found["accuracy"] = accuracy(size, here, there)
        for name, each in found["accuracy"].items():
            print(name, ", ".join(f"{key} {x:.3g}" for key, x in each.items()), flush=True)
        keep()
        for part, judged in (("network", False), ("step", True)):
            found[part] = {
                f"{rows} assets": one_tick(clock, size, there, rows, judged=judged)
                for rows in size.rows
            }
            show(f"one tick, us: {part}", "step", "GRUCell", found[part])
            keep()
        found["end_to_end"] = {
            f"{rows} assets": end_to_end(clock, size, there, rows) for rows in size.rows
        }
        show("one tick, us: numpy to numpy", "step", "GRUCell", found["end_to_end"])
        keep()
        found["sweep"] = sweep(clock, size, there)
        assets, ticks = size.sweep
        show(f"{assets} assets, {ticks} ticks, us", "sweep", "nn.GRU, no judge", found["sweep"])
        for name, each in found["sweep"].items():
            print(f"{name}: {each['readings_per_s'] / 1e6:.3g} million readings a second")
        keep()
    found["training"] = training(size, device)
    show("training, us", "an epoch", "the same on one CPU thread", {"GRU": found["training"]})
    keep()
    if device.startswith("cuda"):
        found["mixed"] = mixed(size, device)
        show("training, us", "an epoch in bf16", "in float32", found["mixed"])
        keep()
    for each in found["accuracy"].values():
        assert each["delta_surprise"] <= SURPRISE_TOLERANCE, "surprise differs from the CPU's"
        assert each["over_on_one_only"] == 0, "alarms differ from the CPU's"


if __name__ == "__main__":
    main()
