"""The detection benchmarks run on any folder of their layout, and judge as their protocols say."""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.benchmarks import script, start

from models.settings import EwmaSettings


def write_tep(folder: Path) -> None:
    """Four variables with a common cause; fault 21 moves one of them, fault 9 none."""
    folder.mkdir()
    chance = np.random.default_rng(1)
    mixing = chance.normal(size=(4, 4))
    for name, rows in (("d00", 300), ("d00_te", 300), ("d21_te", 220), ("d09_te", 220)):
        value = chance.normal(size=(rows, 4)) @ mixing
        value[160:, 2] += 20.0 if name == "d21_te" else 0.0
        lines = ["sample,A,B,C,D"]
        lines += [f"{n + 1}," + ",".join(f"{x:.6g}" for x in row) for n, row in enumerate(value)]
        text = "\n".join(lines) + "\n"
        if name == "d21_te":
            (folder / f"{name}.csv").write_text(text, encoding="utf-8")
        else:
            with gzip.open(folder / f"{name}.csv.gz", "wt", encoding="utf-8") as file:
                file.write(text)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_tep_scores_whatever_faults_are_there_and_proves_that_live_scores_are_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tep(tmp_path / "tep")
    kept = tmp_path / "tep.json"

    start("tep", "--data", tmp_path / "tep", "--quick", "--check", "--json", kept)

    assert "same bits" in capsys.readouterr().out
    found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    assert found["set"] == "tep"
    assert found["seeds"] == [0]
    assert found["metrics"].keys() == {
        f"{name}_far{rate}"
        for rate in (1, 5)
        for name in ("fdr", "prefault", "fault_21", "fault_9")
    } | {"fdr_far1_hard", "fdr_far5_hard"}
    assert found["metrics"]["fdr_far1"] == found["metrics"]["fault_21_far1"] > 95
    assert found["metrics"]["fdr_far1_hard"] < 20
    assert found["spread"]["fdr_far1"] == [found["metrics"]["fdr_far1"]] * 2
    assert found["baselines"].keys() >= {"PCA T2", "PCA SPE"}
    assert found["cpu_s"] > 0
    assert {"machine", "command"} <= found.keys()


def test_tep_says_which_run_a_folder_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tep = script("tep", monkeypatch)
    write_tep(tmp_path / "tep")
    (tmp_path / "tep" / "d00_te.csv.gz").unlink()

    with pytest.raises(tep.LayoutError, match="no d00_te"):
        tep.read(tmp_path / "tep")


def tep_csv(folder: Path, name: str, header: str, rows: int) -> None:
    """A run of random numbers under this header, in place of another."""
    (folder / f"{name}.csv.gz").unlink(missing_ok=True)
    chance = np.random.default_rng(3)
    cells = chance.normal(size=(rows, header.count(",") + 1))
    lines = [header, *(",".join(f"{x:.6g}" for x in row) for row in cells)]
    (folder / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "header", "rows", "said"),
    [
        ("d00_te", "A,B,C", 300, "want columns D, got A, B, C"),
        ("d09_te", "A,B,C,D", 160, "want more than 160 rows in d09_te"),
        ("d00", "A,B,C,D", 150, "d00: training: want at least 200 frames, got 150"),
    ],
)
def test_tep_says_what_is_wrong_with_a_run(
    tmp_path: Path, name: str, header: str, rows: int, said: str
) -> None:
    write_tep(tmp_path / "tep")
    tep_csv(tmp_path / "tep", name, header, rows)

    with pytest.raises(SystemExit, match=said):
        start("tep", "--data", tmp_path / "tep", "--quick")


@pytest.mark.parametrize("name", ["tep", "skab", "nab", "smap_msl", "actuator"])
def test_an_empty_folder_is_told_and_so_is_none(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = script(name, monkeypatch)
    for folder, said in ((tmp_path, str(tmp_path)), (tmp_path / "none", "no such folder")):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", "--data", str(folder)])
        with pytest.raises(SystemExit, match=said):
            one.main(name, "", one.measure)


def test_a_score_that_the_live_step_would_not_give_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = script("_detection", monkeypatch)
    value = np.random.default_rng(6).normal(size=(300, 2))
    rows = [bench.stretch("a", value, tick_ms=1000), bench.stretch("b", value[:50], tick_ms=1000)]
    bundle = bench.learn(rows, ["x", "y"], EwmaSettings(spans=(1, 4), warmup_ticks=0)).bundle
    scores = bench.score(bundle, rows)

    assert bench.agree(bundle, rows, scores) == 350
    assert bench.agree(bundle, [bench.part(rows[0], 0, 100)], scores[:1]) == 100
    scores[1].surprise[7] += np.float32(1e-6)
    with pytest.raises(AssertionError, match="b: surprise differs"):
        bench.agree(bundle, rows, scores)


@pytest.mark.parametrize("dearer", [0.0, 0.3])
def test_a_frame_that_costs_more_after_many_others_is_found_beside_a_busy_neighbour(
    dearer: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = script("_detection", monkeypatch)
    clock = 0.0
    chance = np.random.default_rng(8)

    class Live:
        def __init__(self, *_: object) -> None:
            self.seen = 0

        def score(self, frames: Any) -> None:
            nonlocal clock
            self.seen += len(frames)
            clock += 1 + dearer * (self.seen > 500)
            clock += chance.exponential(5.0) * (chance.random() < 0.2)  # the neighbour

    monkeypatch.setattr(bench, "Live", Live)
    monkeypatch.setattr(bench.time, "thread_time", lambda: clock)
    rows = bench.stretch("a", np.zeros((50, 1)), tick_ms=1000)

    ratio = bench.ageing(object(), rows, young=100, old=1000, pairs=200)
    assert ratio == pytest.approx(1 + dearer)


def test_tep_sets_the_threshold_on_the_other_healthy_run_and_never_on_the_faults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tep = script("tep", monkeypatch)
    healthy = np.arange(1000.0)
    fault = np.concatenate([np.full(160, 991.0), np.full(100, 980.0), np.full(100, 2000.0)])

    found = tep.figures(healthy, {4: fault})

    assert found["fdr_far1"] == 50.0  # half of the rows of the fault are over 989.01
    assert found["fdr_far5"] == 100.0
    assert found["prefault_far1"] == 100.0
    assert "fdr_far1_hard" not in found


def write_skab(folder: Path) -> None:
    """Three recordings of three sensors; in each, rows 500 to 599 are moved."""
    chance = np.random.default_rng(2)
    for name in ("valve7/0", "valve7/1", "other/2"):
        value = chance.normal(size=(700, 3))
        value[500:600, 1] += 6.0
        label = np.zeros(700)
        label[500:600] = 1
        change = np.zeros(700)
        change[[500, 600]] = 1
        lines = ["datetime;Flow;Speed;Heat;anomaly;changepoint"]
        for second, row in enumerate(np.column_stack([value, label, change])):
            stamp = f"2020-03-09 10:{second // 60:02d}:{second % 60:02d}"
            lines.append(";".join([stamp, *(f"{x:.6g}" for x in row)]))
        path = folder / f"{name}.csv.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(path, "wt", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
    health = folder / "anomaly-free"
    health.mkdir()
    (health / "anomaly-free.csv").write_text("datetime;Flow\n2020-02-08 13:30:47;1.5\n", "utf-8")


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_skab_judges_whatever_recordings_are_there_by_the_products_alarms(tmp_path: Path) -> None:
    write_skab(tmp_path / "skab")
    kept = tmp_path / "skab.json"

    start("skab", "--data", tmp_path / "skab", "--quick", "--json", kept)

    found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    assert found["metrics"].keys() == {"f1", "far", "mar", "nab_standard"}
    assert found["metrics"]["f1"] > 0.7
    assert found["baselines"]["EWMA-Mahalanobis"]["f1"] > 0.8


def test_skab_says_what_a_folder_should_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skab = script("skab", monkeypatch)
    (tmp_path / "valve1").mkdir()

    with pytest.raises(skab.LayoutError, match="columns datetime, anomaly and changepoint"):
        skab.read(tmp_path)


def test_skab_judges_no_recording_with_a_choice_that_its_own_labels_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    skab = script("skab", monkeypatch)
    counted = np.tile(np.array([10, 0, 10, 100]), (len(skab.CHOICES), 3, 1))
    counted[:12, 0] = [20, 0, 0, 100]  # low thresholds suit the first recording alone
    counted[-12:, 1:] = [13, 0, 7, 100]  # high ones the two others, a little

    chosen = skab.leave_one_out(counted)

    assert chosen[0] >= len(skab.CHOICES) - 12
    assert max(chosen[1:]) < 12


def test_nab_counts_the_first_hit_of_a_window_and_what_is_outside_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    skab = script("skab", monkeypatch)
    rows = skab.LEARNT + 300

    def scored(flagged: slice | None = None, changes: tuple[int, int] = (100, 200)) -> float:
        change, flag = np.zeros(rows, np.bool_), np.zeros(rows, np.bool_)
        change[[skab.LEARNT + at for at in changes]] = True
        if flagged:
            flag[skab.LEARNT + flagged.start : skab.LEARNT + flagged.stop] = True
        recording = skab.Recording(
            rows=None, names=(), second=np.arange(float(rows)), label=change, change=change
        )
        points: float = skab.nab([recording], [flag])
        return points

    assert scored() == 0.0
    assert scored(slice(100, 200)) == pytest.approx(100.0)  # both found, at once
    assert scored(slice(100, 150)) == pytest.approx(50.0)  # its end falls into the same window
    assert scored(slice(20, 40)) == pytest.approx(100 * 2 * -0.11 / 4)  # two that are false
    assert scored(slice(160, 200)) == pytest.approx(100 * (2 - 0.11 + 1) / 4)  # one at the last
    late = skab._worth(50 / 60)  # the second window begins where the first ends
    assert scored(slice(150, 290), (100, 140)) == pytest.approx(100 * (late - 1 - 0.11 + 2) / 4)
