"""What is odd though right."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from connectors import Connector
from monitor.site.advice import advice
from monitor.site.config import Config

Plant = Callable[..., Config]
RUNNING = "    running: {channel: flow, above: 0.5}\n"
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
        (
            [("high: 8, deadband: 0.1", "high: 8")],
            "kinds.pump.channels: no deadband in the limits of flow; a value that lingers",
        ),
        (
            [("deadband: 0.1", "only_running: true"), (RUNNING, "")],
            "only_running in the limits of flow does nothing; the kind does not say",
        ),
        ([("assets:\n", "  fan: {channels: {speed: }}\nassets:\n")], "kinds.fan: no asset is of"),
    ],
)
def test_what_is_odd_is_said(plant: Plant, changes: list[tuple[str, str]], wanted: str) -> None:
    assert any(wanted in line for line in advice(plant(*changes)))


@pytest.mark.parametrize("limits", ["{rate: 3}", "{high: 8, off_delay_s: 30}"])
def test_a_limit_that_does_not_chatter_wants_no_deadband(plant: Plant, limits: str) -> None:
    said = advice(plant(("{low: 1.5, high: 8, deadband: 0.1}", limits)))
    assert not any("deadband" in line for line in said)


def test_a_lateness_shorter_than_the_slowest_tag_takes_is_said(plant: Plant) -> None:
    late = ("password_file: secrets/line", "late_ms: 100")
    (said,) = [line for line in advice(plant(late)) if "lateness_ms" in line]
    assert said == (  # plant/T1, 8 characters
        "kinds.pump.lateness_ms: 0 ms; samples of source line may come 800 ms after their stamp, "
        "and late ones are not scored"
    )
    patient = ("tick_ms: 1000", "tick_ms: 1000\n    lateness_ms: 800")
    assert not any("lateness_ms" in line for line in advice(plant(late, patient)))


def test_a_source_that_run_will_refuse_is_told_beforehand(
    plant: Plant, connectors: dict[str, Connector]
) -> None:
    wanted = "sources.rig: type 'recorder' holds history only; `train` and `backfill` read it"
    assert not any("history only" in line for line in advice(plant()))
    connectors["recorder"] = replace(connectors["recorder"], source=None)
    assert any(line.startswith(wanted) for line in advice(plant()))
