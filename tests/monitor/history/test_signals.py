"""Each check on a made signal that has what it looks for, and on healthy ones that do not."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import lfilter
from support.machines import stretch

from monitor.history import signals
from monitor.history.quality import CHECKS
from monitor.history.signals import Severity, Sign, Signal, twins

F64 = NDArray[np.float64]
N = 6000  # ticks of a second
TICKS = np.arange(N)


def noise(seed: int = 0) -> F64:
    return np.random.default_rng(seed).normal(size=N)


def wander(seed: int = 0, memory: float = 0.98) -> F64:
    """A load that wanders and comes back: deviation 1."""
    return lfilter([np.sqrt(1 - memory**2)], [1, -memory], noise(seed))


def on_change(value: F64, deadband: float) -> F64:
    shown = value.copy()
    for n in range(1, len(shown)):
        if abs(value[n] - shown[n - 1]) < deadband:
            shown[n] = shown[n - 1]
    return shown


def exponential_holds() -> F64:
    """Reported at random instants."""
    random = np.random.default_rng(3)
    at = np.unique(np.append(0, np.flatnonzero(random.random(N) < 0.2)))
    return wander()[at[np.searchsorted(at, TICKS, side="right") - 1]]


def changed(value: F64, where: object, to: object) -> F64:
    value[where] = to
    return value


HEALTHY: dict[str, F64] = {
    "noise": 50 + noise(),
    "a load that wanders": 80 + 5 * wander(memory=0.999),
    "a day and a night": 20 + 5 * np.sin(TICKS / 500) + 0.3 * noise(),
    "a day and a night, without noise": 20 + 5 * np.sin(TICKS / 500),
    "a coarse day and night": np.round(20 + 5 * np.sin(TICKS / 200), 1),
    "a coarse instrument": np.round(20 + 3 * wander(memory=0.999), 1),
    "a converter of 12 bits": np.round((40 + 4 * wander(memory=0.99)) / 0.0244) * 0.0244,
    "vibration": np.exp(0.3 * wander(memory=0.5)),
    "heavier tails than a normal one": np.random.default_rng(1).laplace(size=N),
    "a slow rise with noise": 50 + TICKS / 1000 + noise(),
    "a tank that fills and empties": 50 + 10 * np.abs(TICKS % 600 / 300 - 1) + 0.1 * noise(),
    "decimals of an export": np.round(50 + 2 * wander(), 2),
    "far from zero": 1e6 + noise(),
    "small": 1e-6 * noise(),
}

# Name of the check -> a signal that has what it looks for
ODD: dict[str, list[F64]] = {
    "constant": [np.full(N, 7.0)],
    "few levels": [(np.sin(TICKS / 50) > 0) * 1.0, np.array([0.0, 3.0, 9.0, 2.0])[TICKS // 50 % 4]],
    "coarse": [np.round(0.8 * wander()) + 0.0, np.round(0.5 * wander(memory=0.99)) * 0.33],
    "counter": [
        np.cumsum(np.abs(noise())),
        np.floor(np.cumsum(np.abs(noise())) / 3),
        np.cumsum(np.abs(noise())) % 2500,
        -np.cumsum(np.abs(noise())),
    ],
    "stuck": [changed(50 + noise(), slice(2000, 2400), 50.5)],
    "straight lines": [
        np.interp(TICKS, TICKS[::20], wander()[::20]),
        np.interp(TICKS, TICKS[::60], 400 * wander()[::60]).round(1),
        np.interp(
            TICKS,
            np.unique(np.append(0, (N * np.random.default_rng(2).random(200)))),
            np.random.default_rng(4).normal(size=201),
        ),
    ],
    "held": [on_change(wander(memory=0.999), 0.2), wander()[TICKS // 10 * 10], exponential_holds()],
    "spikes": [changed(50 + noise(), [700, 2900, 5000], 90.0)],
    "clamped": [
        np.minimum(50 + 3 * wander(), 52.0),
        np.maximum(3 * wander(), 0.0),
        np.clip(np.round(50 + 3 * wander(), 1), 48, 99),
    ],
    "several modes": [np.where(np.sin(TICKS / 200) > 0.3, 80.0, 50.0) + noise()],
}


def looked_at(value: F64, valid: NDArray[np.bool_] | None = None) -> dict[str, Sign]:
    seen = None if valid is None else valid[:, None]
    signal = Signal.of([stretch(value[:, None], valid=seen)], 0, tick_s=1.0)
    return {name: sign for name, check in CHECKS.items() if (sign := check(signal)) is not None}


@pytest.mark.parametrize("value", HEALTHY.values(), ids=HEALTHY)
def test_nothing_is_found_about_a_healthy_signal(value: F64) -> None:
    assert looked_at(value) == {}
    assert looked_at(-value) == {}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in ODD.items() for value in values]
)
def test_each_check_finds_what_it_looks_for(name: str, value: F64) -> None:
    assert name in looked_at(value)


def test_the_worse_a_gap_the_more_severe() -> None:
    value = 50 + noise()

    def missing(share: float, tail: int = 0) -> Sign | None:
        valid = np.random.default_rng(0).random(N) >= share
        valid[N - tail :] = False
        return looked_at(value, valid).get("gaps")

    assert missing(0.005) is None
    found = [missing(0.05), missing(0.2), missing(0.1, 3600)]
    assert [one.severity for one in found] == [Severity.NOTE, Severity.WARNING, Severity.SEVERE]
    assert "at the longest 60 min" in found[2].words


def test_what_is_not_valid_is_not_looked_at() -> None:
    value = changed(50 + noise(), slice(3000, 3100), 1e9)
    valid = np.ones(N, np.bool_)
    valid[3000:3100] = False

    assert set(looked_at(value, valid)) == {"gaps"}


def test_values_before_and_after_a_gap_are_no_move() -> None:
    runs = [stretch(50 + noise()[:3000, None]), stretch(90 + noise(1)[:3000, None], start=9000)]
    signal = Signal.of(runs, 0, tick_s=1.0)

    assert len(signal.moves) == 5998
    assert np.abs(signal.moves).max() < 10
    assert signals.counter(signal) is None


def test_how_a_value_is_held_is_told() -> None:
    regular = looked_at(wander()[TICKS // 10 * 10])["held"]
    random = looked_at(exponential_holds())["held"]

    assert regular.words == "unchanged in 90% of the frames: a new value each 10 s"
    assert "reported on change, mostly after 3 s" in random.words


def test_the_end_of_a_steep_slope_is_no_spike_and_two_wild_values_are_one_each() -> None:
    strokes = changed(50.0 * (TICKS % 200 < 100) + noise(), TICKS % 200 == 0, 80.0)
    assert "spikes" not in looked_at(strokes)

    wild = looked_at(changed(50 + noise(), [700, 701, 2900], [90.0, 91.0, 90.0]))["spikes"]
    assert wild.words.startswith("3 spikes, the largest ")


def test_a_value_that_is_reported_at_random_is_not_stuck_when_that_takes_long() -> None:
    assert "stuck" not in looked_at(exponential_holds())


def test_lines_are_lines_also_where_an_export_cut_their_digits() -> None:
    cut = np.interp(TICKS, TICKS[::30], 20 * wander()[::30]).round(2)
    assert looked_at(cut)["straight lines"].share > 0.9


def test_two_modes_are_told_with_their_shares() -> None:
    words = looked_at(ODD["several modes"][0])["several modes"].words

    assert words == "around 49.97 58% of the time, around 79.97 42%; 10 changes"


def test_a_few_frames_say_nothing() -> None:
    signal = Signal.of([stretch(np.full((50, 1), 3.0))], 0, tick_s=1.0)

    assert not any(check(signal) for check in CHECKS.values())
    nothing = stretch(np.full((50, 1), 3.0), valid=np.zeros((50, 1), np.bool_))
    found = {name: check(Signal.of([nothing], 0, tick_s=1.0)) for name, check in CHECKS.items()}
    assert {name for name, sign in found.items() if sign is not None} == {"gaps"}


def test_a_copy_is_a_twin_and_what_follows_the_same_load_is_not() -> None:
    load = 20 * wander(memory=0.999)
    value = np.stack([load + noise(1), load + noise(2), 100 - 2 * (load + noise(1)), noise(3)], 1)
    valid = np.ones(value.shape, np.bool_)
    valid[1000:3000, 0] = False
    value[1000:3000, 0] = np.nan

    alike = twins([stretch(value, valid=valid)], range(4))

    assert alike[0, 2] == pytest.approx(1.0)
    assert alike[0, 1] < 0.9
    assert alike[0, 3] < 0.2
    assert np.array_equal(alike, alike.T)
    assert twins([stretch(np.full((50, 2), 3.0))], range(2)).max() == 0


def test_from_one_stretch_to_the_next_no_two_channels_move_together() -> None:
    load = np.repeat(np.random.default_rng(0).normal(size=60), 50)[:, None] * [500.0, 900.0]
    value = load + np.stack([noise(1)[:3000], noise(2)[:3000]], 1)
    pieces = [stretch(value[at : at + 50], start=at) for at in range(0, 3000, 50)]

    assert twins(pieces, range(2))[0, 1] < 0.2
    assert twins([stretch(value)], range(2))[0, 1] > 0.99
