"""Live, backfill and replay of the journal are one: the same samples give the same scores."""

import pytest
from support import plants
from support.building import NOW, START, assets, kind, samples
from support.plants import CHANNELS, TICKS, Split

from connectors.batch import Notice, NoticeKind
from monitor.core.pipeline import Pipeline
from monitor.core.plan import Plan
from monitor.core.records import Results
from monitor.history.backfill import backfill

DISPLACED, BEHIND = 100, 220  # row 100 of a recording stands behind row 220


def out_of_order(ticks: int = TICKS) -> list[int]:
    """All rows in order, but for one."""
    order = [row for row in range(ticks) if row != DISPLACED]
    order.insert(order.index(BEHIND) + 1, DISPLACED)
    return order


@pytest.mark.parametrize("model", ["ewma", "gru", "lstm"])
@pytest.mark.parametrize(
    "count", [pytest.param(1, marks=pytest.mark.slow), 3, pytest.param(20, marks=pytest.mark.slow)]
)
def test_live_backfill_and_replay_give_equal_bits(model, count, tmp_path):
    made = plants.plant(tmp_path / "plant", assets=count, model=model)
    live = plants.run(made)
    assert live.summary["frames"] == count * TICKS
    assert live.summary["frames_scored"] > 0.9 * count * TICKS
    assert live.summary["samples_late"] == 0
    assert {transition for _, transition, _ in live.events} == {"raised", "returned"}
    for again in (plants.backfill(made), plants.replay(made)):
        assert again.digest == live.digest
        assert again.events == live.events
        for figure in ("samples_received", "samples_stored", "frames", "frames_scored", "alarms"):
            assert again.summary[figure] == live.summary[figure]


@pytest.mark.slow
@pytest.mark.parametrize("batch_rows", [3, 17, 1000])
def test_the_result_does_not_depend_on_how_a_recording_is_cut(batch_rows, tmp_path):
    whole = plants.run(plants.plant(tmp_path / "whole", assets=2, model="gru"))
    made = plants.plant(tmp_path / "cut", assets=2, model="gru", batch_rows=batch_rows)
    for found in (plants.run(made), plants.backfill(made), plants.replay(made)):
        assert (found.digest, found.events) == (whole.digest, whole.events)


@pytest.mark.slow
@pytest.mark.parametrize("split", Split)
@pytest.mark.parametrize("batch_rows", [7, 60])
def test_the_result_does_not_depend_on_how_many_sources_bring_it(split, batch_rows, tmp_path):
    one = plants.run(plants.plant(tmp_path / "one", assets=3, model="lstm"))
    made = plants.plant(
        tmp_path / "split", assets=3, model="lstm", split=split, batch_rows=batch_rows
    )
    for found in (plants.run(made), plants.backfill(made), plants.replay(made)):
        assert found.summary["samples_late"] == 0
        assert (found.digest, found.events) == (one.digest, one.events)


def test_a_backfill_in_two_halves_reads_each_sample_once(tmp_path):
    made = plants.plant(tmp_path / "plant", assets=1)
    middle = (plants.START + 150) * plants.SECOND
    first, second = plants.backfill(made, until=middle), plants.backfill(made, since=middle)
    received = [half.summary["samples_received"] for half in (first, second)]
    assert received == [151 * len(CHANNELS), (TICKS - 151) * len(CHANNELS)]


def test_a_late_sample_is_late_again_in_a_replay_and_in_time_once_the_file_is_repaired(tmp_path):
    made = plants.plant(tmp_path / "plant", assets=1, model="gru")
    columns = plants.columns(made.assets)
    plants.write(made.folder / "rig.csv", columns, order=out_of_order())
    live = plants.run(made)
    assert live.summary["samples_late"] == len(CHANNELS)
    assert live.summary["samples_conserved"]

    again = plants.replay(made)
    assert (again.digest, again.events) == (live.digest, live.events)
    assert again.summary["samples_late"] == len(CHANNELS)

    plants.write(made.folder / "rig.csv", columns)
    repaired = plants.backfill(made)
    assert repaired.summary["samples_late"] == 0
    assert repaired.summary["samples_received"] == live.summary["samples_received"]
    assert repaired.digest != live.digest


def test_each_batch_gives_its_results_and_its_progress():
    of = kind()
    plan = Plan(site="works", kinds={"k": of}, assets=tuple(assets(1, of)))
    batches = [
        samples((0, 1, 1.0), (1, 1, 1.0)),
        samples((0, 2, 2.0), (1, 2, 2.0)),
        Notice(source="s", kind=NoticeKind.ENDED),
    ]
    told = []
    found = Results.join(
        list(
            backfill(
                Pipeline(plan, {}), batches, received=NOW, progress=lambda *one: told.append(one)
            )
        )
    )
    ticks = [tick for block in found.scores for tick in block.tick.tolist()]
    second = plants.SECOND
    assert ticks == [START + second, START + 2 * second]
    assert told == [(2, START + second), (4, START + 2 * second)]
