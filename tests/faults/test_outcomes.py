"""The frame of the fault suite: what is run again, what is kept, and that the page shows it."""

import json
import re
import runpy
from dataclasses import replace

import pytest
from support import outcomes
from support.outcomes import RESULTS, ROOT, Mode, Outcome

SCRIPT = runpy.run_path(str(ROOT / "scripts" / "make_reliability.py"))
ONE = Outcome(
    unit="tests/faults/test_x.py::test_y[1]",
    fault="mosquitto_killed",
    passed=True,
    code="c",
    test="t",
    date="2026-01-01T00:00:00Z",
    took_s=1.0,
    figures={"times": 2, "sent": 5, "stored": 5, "recovered_s": [1.0, 3.0]},
)


def test_the_page_is_what_the_figures_say():
    assert SCRIPT["FILE"].read_text(encoding="utf-8") == SCRIPT["page"](SCRIPT["read"]()), (
        "run: .venv/bin/python scripts/make_reliability.py"
    )


def test_each_unit_with_figures_is_a_test_that_is_there():
    units = json.loads(RESULTS.read_text(encoding="utf-8"))["units"]
    for unit in units:
        file, _, name = unit.partition("::")
        text = (ROOT / file).read_text(encoding="utf-8")
        assert re.search(rf"def {re.escape(name.partition('[')[0])}\(", text), unit


@pytest.mark.parametrize(
    ("outcome", "mode", "done"),
    [
        (None, Mode.FULL, False),
        (ONE, Mode.FULL, True),
        (replace(ONE, passed=False), Mode.FULL, False),
        (replace(ONE, code="older"), Mode.FULL, False),
        (replace(ONE, test="older"), Mode.FULL, False),
        (replace(ONE, code="older", test="older"), Mode.CONTINUE, True),
        (replace(ONE, passed=False), Mode.CONTINUE, False),
    ],
)
def test_what_passed_for_this_program_and_test_is_not_run_again(outcome, mode, done):
    assert outcomes.is_done(outcome, code="c", test="t", mode=mode) is done


def test_the_newest_outcome_of_a_unit_counts_wherever_it_is(tmp_path):
    folder, results = tmp_path / "kept", tmp_path / "results.json"
    other = replace(ONE, unit="another", date="2026-01-03T00:00:00Z")
    outcomes.keep(ONE, folder)
    outcomes.keep(other, folder)
    outcomes.merge(folder, results)
    newer = replace(ONE, date="2026-01-02T00:00:00Z", passed=False, reason="why")
    outcomes.keep(newer, folder)
    outcomes.keep(replace(other, date="2026-01-01T00:00:00Z", passed=False), folder)
    outcomes.merge(folder, results)
    assert outcomes.known(tmp_path / "nothing", results) == {ONE.unit: newer, "another": other}


def test_the_page_adds_what_passed_and_names_what_failed():
    units = {
        name: {**outcomes.asdict(one), "date": one.date}
        for name, one in {
            "a": ONE,
            "b": replace(
                ONE, figures={"times": 3, "sent": 7, "stored": 7, "recovered_s": [2.0, None]}
            ),
            "c": replace(ONE, passed=False, reason="it was lost", figures={"times": 9}),
        }.items()
    }
    machine = {"cpu": "CPU", "cores": 2, "python": "3"}
    page = SCRIPT["page"]({"machine": machine, "command": "make faults", "units": units})
    assert (
        "| mosquitto killed | stored = what the broker handed over or still held | 5 of 20" in page
    )
    assert "| mosquitto killed | 12 |  | 12 |" in page
    assert "| mosquitto killed |  | 2.00 / 3.00 / 3.00 |" in page
    assert "- `c`: it was lost" in page
    assert "Hours of load" not in page
    grown = {"memory_growth": [0.0101], "files_growth": [0.0], "lag_growth_s": [-0.25]}
    soak = {"times": 120.0, "a_second": [5300.2], "lag_s": [0.034], "memory_mb": [212.4], **grown}
    units["d"] = {**outcomes.asdict(ONE), "fault": "soak", "figures": soak}
    page = SCRIPT["page"]({"machine": machine, "command": "make faults", "units": units})
    assert "| 120 | 5,300 | 0.03 | 212 | +0.010 | +0.000 | -0.250 |" in page
    assert page.count("not run yet") == len(SCRIPT["FAULTS"]) - 2
