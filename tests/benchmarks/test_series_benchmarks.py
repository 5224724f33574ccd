"""The benchmarks of series run on any folder of their layout, and count as their protocols say."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.benchmarks import script, start


def run(name: str, folder: Path) -> dict[str, Any]:
    """What the benchmark keeps, started as a person does, small and with its proofs."""
    kept = folder / "kept.json"
    with contextlib.redirect_stdout(io.StringIO()) as said:
        start(name, "--data", folder, "--quick", "--check", "--json", kept)
    assert "same bits" in said.getvalue()
    found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    assert found["set"] == name
    assert found["baselines"]["EWMA-Mahalanobis" if name != "actuator" else PLAIN]
    return found


PLAIN = "EWMA-Mahalanobis, all sensors"


def test_vus_pr_of_a_perfect_score_is_near_one_and_of_an_even_one_the_share_of_anomalies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vus = script("_vus", monkeypatch)
    label = np.zeros(1000, np.int64)
    label[500:600] = 1

    assert vus.vus_pr(label, label.astype(float), 0) == pytest.approx(1.0)
    assert vus.vus_pr(label, np.zeros(1000), 0) == pytest.approx(0.1)
    late = np.roll(label, 5).astype(float)
    assert vus.vus_pr(label, late, 0) < vus.vus_pr(label, late, 40) < 1.0
    with pytest.raises(ValueError, match="want some, not all"):
        vus.vus_pr(np.ones(10, np.int64), np.zeros(10), 5)


def test_the_tolerance_is_the_period_of_the_series_or_a_hundred_and_twenty_five(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vus = script("_vus", monkeypatch)

    assert vus.period(np.sin(np.arange(4000) * 2 * np.pi / 50)) == 50
    assert vus.period(np.ones(4000)) == 125


def test_nab_points_of_an_early_a_late_a_false_and_no_alarm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nab = script("_nab", monkeypatch)
    truth = nab.Truth(((400, 499),), 1000)

    def points(*rows: int, profile: str = "standard") -> float:
        alarm = np.zeros(1000, np.bool_)
        alarm[list(rows)] = True
        return float(nab.points([(truth, alarm)], nab.PROFILES[profile]))

    assert points() == 0.0
    assert points(400) == pytest.approx(100.0)
    assert points(400, 450) == points(400)  # only the first of a window counts
    assert 50 < points(499) < points(450) < 100
    assert points(400, 200) == pytest.approx(100 - 100 * 0.11 / 2)  # before the first window
    assert points(400, 200, profile="low_fp") == pytest.approx(100 - 100 * 0.22 / 2)
    assert points(400, 510) > points(400, 900)  # soon after a window costs less
    assert points(400, 10) == points(400)  # probation is not scored
    assert nab.probation(22_695) == 750


def write_nab(folder: Path) -> None:
    """Two hourly temperatures that wander; the second is cold for two days of the last week."""
    chance = np.random.default_rng(4)
    labels = {}
    start = np.datetime64("2020-01-01T00:00:00")
    for name, shift in (("oil_temperature", 0.0), ("ambient_temperature", -40.0)):
        stamp = start + np.arange(1200) * np.timedelta64(3600, "s")
        value = 70 + 3 * np.sin(np.arange(1200) * 2 * np.pi / 24) + chance.normal(size=1200)
        value[1000:1048] += shift
        edges = [str(stamp[k]).replace("T", " ") for k in (990, 1060)]
        labels[name] = {"windows": [edges] if shift else []}
        lines = ["timestamp,value"]
        lines += [
            f"{str(at).replace('T', ' ')},{x:.4f}" for at, x in zip(stamp, value, strict=True)
        ]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "labels.json").write_text(json.dumps(labels), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_nab_finds_a_cold_that_is_not_the_seasons(tmp_path: Path) -> None:
    write_nab(tmp_path)

    found = run("nab", tmp_path)

    assert found["metrics"].keys() == {"standard", "low_fp"}
    assert found["metrics"]["standard"] > 50  # 0: nothing found


def test_nab_says_what_a_folder_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nab = script("nab", monkeypatch)
    with pytest.raises(nab.LayoutError, match=r"labels\.json"):
        nab.read(tmp_path)
    write_nab(tmp_path)
    (tmp_path / "ambient_temperature.csv").unlink()
    with pytest.raises(nab.LayoutError, match="has a window"):
        nab.read(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("timestamp,celsius\n2020-01-01 00:00:00,1\n", "want columns timestamp and value"),
        ("timestamp,value\n2020-01-01 00:00:00,1\n", "want two rows or more, got 1"),
        ("timestamp,value\n2020-01-01 00:00:00,a\n2020-01-01 01:00:00,b\n", "want numbers in"),
        ("timestamp,value\nsoon,1\nlater,2\n", "want times in timestamp"),
    ],
)
def test_nab_says_what_is_wrong_with_a_series(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nab = script("nab", monkeypatch)
    write_nab(tmp_path)
    (tmp_path / "oil_temperature.csv").write_text(text, encoding="utf-8")

    with pytest.raises(nab.LayoutError, match=said):
        nab.read(tmp_path)


def write_telemetry(folder: Path) -> None:
    """Two channels that go round; one stands still for a time. Neither is in the second list."""
    for name, period in (("SMAP_X-1", 40), ("MSL_Y-2", 55)):
        train, test = (np.sin(np.arange(n) * 2 * np.pi / period) for n in (600, 900))
        label = np.zeros(900, np.uint8)
        test[600:700] = test[600]
        label[600:700] = 1
        columns = [np.stack([value, np.zeros_like(value)], 1) for value in (train, test)]
        np.savez(folder / f"{name}.npz", train=columns[0], test=columns[1], label=label)
    (folder / "tsb_ad_reference.csv").write_text("craft,channel\nSMAP,X-1\nMSL,Z\n", "utf-8")
    (folder / "tsb_ad_u_reference.csv").write_text("craft,channel\nMSL,Z\n", "utf-8")


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_smap_msl_sees_a_round_that_stands_still_and_leaves_out_means_of_nothing(
    tmp_path: Path,
) -> None:
    write_telemetry(tmp_path)

    found = run("smap_msl", tmp_path)

    assert found["metrics"].keys() == {"vus_pr_multivariate", "vus_pr"}
    assert found["metrics"]["vus_pr"] > 0.5


def test_smap_msl_lets_what_never_moves_flicker_and_refuses_other_layouts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smap_msl = script("smap_msl", monkeypatch)
    with pytest.raises(smap_msl.LayoutError, match="no <CRAFT>"):
        smap_msl.read(tmp_path)
    label = np.array([0, 1, 0], np.uint8)
    train, test = np.ones((8, 2)), np.ones((3, 2))
    np.savez(tmp_path / "SMAP_S.npz", train=train, test=test, label=label)
    assert smap_msl.read(tmp_path)[0].train.std() == pytest.approx(smap_msl.STILL)
    np.savez(tmp_path / "SMAP_S.npz", train=train, test=test, label=label[:2])
    with pytest.raises(smap_msl.LayoutError, match="want train"):
        smap_msl.read(tmp_path)


def write_actuators(folder: Path) -> None:
    """Units that travel at one speed from wherever they are mounted; act_4 is faster."""
    chance = np.random.default_rng(5)
    columns = ["Accel_1", "Accel_2", "Accel_3", "Angle", "PG_1", "PG_2"]
    for number, speed in ((1, 10.0), (2, 10.0), (4, 14.0), (9, 10.0)):
        at = np.minimum(speed * np.arange(1000), 4000)[None]
        way = np.where(np.arange(12) % 2, 1, -1)[:, None]
        value = chance.normal(size=(12, 1000, 6)) + 8000 + 1000 * number
        value[:, :, 3] += way * at * chance.normal(1, 0.01, size=(12, 1))
        np.savez(
            folder / f"act_{number}.npz",
            x=value.astype(np.uint16),
            columns=np.array(columns),
            damage=np.array("gear" if number == 4 else "none"),
        )


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_actuators_are_judged_by_how_they_move_and_not_by_where_they_are_mounted(
    tmp_path: Path,
) -> None:
    write_actuators(tmp_path)

    found = run("actuator", tmp_path)

    assert found["metrics"] == {"auc": 1.0, "far_at_full_detection": 0.0}


def test_actuator_says_which_units_a_folder_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    actuator = script("actuator", monkeypatch)
    write_actuators(tmp_path)
    (tmp_path / "act_4.npz").unlink()

    with pytest.raises(actuator.LayoutError, match="and a damaged one"):
        actuator.read(tmp_path, actuator.SENSORS)
