"""What is odd though right."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from connectors import Connector
from monitor.site.advice import advice
from monitor.site.config import Config

Plant = Callable[..., Config]
MODEL = "    model: {bundle: models/pump}\n"


def test_a_plant_with_its_model_is_not_odd(plant: Plant, tmp_path: object) -> None:
    assert advice(plant(("models/pump", str(tmp_path)))) == ()


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ([], "kinds.pump.model.bundle: no model at /plants/north/models/pump yet"),
        ([(MODEL, "")], "kinds.pump: no model; only plain limits can raise alarms"),
        ([(MODEL, "")], "neither limits nor a model judge temp, temp_max; shown only"),
        (
            [("temp: {unit: degC}", "temp: {unit: degC, model: false}")],
            "neither limits nor a model judge temp; shown only",
        ),
        ([("tick_ms: 1000", "tick_ms: 90000")], "kinds.pump.channels: stale_s is shorter"),
        ([("tick_ms: 1000", "tick_ms: 90000")], "kinds.pump.idle_s: 30 s is shorter"),
        (
            [("tick_ms: 1000", "tick_ms: 90000")],
            "a repeat of a sample early in a tick counts as late",
        ),
        ([("{source: line, address: plant/T1}", "T1")], "sources.line: no asset takes anything"),
        ([("sinks:\n  inbox: {type: recorder, folder: alarms}\n", "")], "sinks: none;"),
        ([("assets:\n", "  fan: {channels: {speed: }}\nassets:\n")], "kinds.fan: no asset is of"),
    ],
)
def test_what_is_odd_is_said(plant: Plant, changes: list[tuple[str, str]], wanted: str) -> None:
    assert any(wanted in line for line in advice(plant(*changes)))


def test_a_source_that_run_will_refuse_is_told_beforehand(
    plant: Plant, connectors: dict[str, Connector]
) -> None:
    wanted = "sources.rig: type 'recorder' holds history only; `train` and `backfill` read it"
    assert not any("history only" in line for line in advice(plant()))
    connectors["recorder"] = replace(connectors["recorder"], source=None)
    assert any(line.startswith(wanted) for line in advice(plant()))
