"""The configuration of a Watchkeeper that watches exactly what is simulated."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from monitor.site.simulate.machines import KINDS, MachineKind
from monitor.site.simulate.plan import HOST, NAMESPACE, Form, Lane, Simulation
from monitor.site.simulate.signals import HIGHEST, PER_UNIT
from monitor.site.simulate.unit import BLOCK_MS

FILE = "plant.yaml"
DATA = "data"  # the watcher's data folder, beside it
BROKER, PLC = "broker", "plc"  # its sources
FASTEST_PUBLISHING_MS, SLOWEST_PUBLISHING_MS = 100, 500
STALE_S, IDLE_S = 60, 30
COAST_S = 120  # before and after a stop is noticed: whole minutes over COAST_DOWN_S of conditions
WARM_S = 1800  # after a start: bearings and windings have come most of the way
SLACK_MS = 500  # that a loaded machine may take beside what is configured


def source_of(lane: Lane) -> str:
    """The watcher's source of a lane."""
    return BROKER if lane.over_mqtt else PLC


def write(simulation: Simulation, folder: Path) -> Path:
    """Write the configuration beside the ledger; where it is. Kept as it is if it is there."""
    path = folder / FILE
    if not path.exists():
        path.write_text(text(simulation), encoding="utf-8")
    return path


def text(simulation: Simulation) -> str:
    """The configuration, as YAML."""
    return yaml(
        _tree(simulation),
        "Watches what `watchkeeper simulate` sends; written by it, and kept when it is there.",
    )


def yaml(tree: Mapping[str, Any], words: str) -> str:
    """A configuration: what holds nothing nested is one line of JSON."""
    return "\n".join([f"# {words}", "config_version: 1", *_lines(tree)]) + "\n"


def _lines(tree: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    for name, entry in tree.items():
        if isinstance(entry, Mapping) and (
            not indent or any(isinstance(one, Mapping) for one in entry.values())
        ):
            yield f"{indent}{name}:"
            yield from _lines(entry, indent + "  ")
        else:
            yield f"{indent}{name}: {json.dumps(entry)}"


def _tree(simulation: Simulation) -> dict[str, dict[str, Any]]:
    sources: dict[str, Any] = {}
    if simulation.mqtt is not None:
        host, port = simulation.mqtt
        client = f"watchkeeper-{simulation.name}"
        sources[BROKER] = {
            "type": "mqtt", "host": host, "port": port, "protocol": "3.1.1", "client_id": client,
        }  # fmt: skip
    opcua = [lane for lane in simulation.lanes if not lane.over_mqtt]
    if opcua:
        sources[PLC] = {
            "type": "opcua",
            "url": f"opc.tcp://{HOST}:{simulation.opcua_port}",
            "insecure": True,
            "sampling_ms": min(lane.period_ms for lane in opcua),
            "publishing_ms": max(_publishing_ms(lane) for lane in opcua),
            "every_sample": True,
        }
    return {
        "site": {"name": "simulation", "data_dir": DATA},
        "sources": sources,
        "kinds": {lane.name: _kind(lane) for lane in simulation.lanes},
        "assets": {
            asset: {"kind": lane.name, **_where(simulation, lane)}
            for lane in simulation.lanes
            for asset in lane.asset_names
        },
    }


def _kind(lane: Lane) -> dict[str, Any]:
    late = SLACK_MS + lane.takes_ms + (0 if lane.over_mqtt else 2 * _publishing_ms(lane))
    times = {"tick_ms": lane.period_ms, "lateness_ms": late}
    if lane.kind:
        return times | machine(
            KINDS[lane.kind], period_ms=lane.period_ms, changes_only=lane.changes_only
        )
    channels = {
        channel: {"unit": unit, "limits": {"high_high": HIGHEST // PER_UNIT, "deadband": 1}}
        | ({"feature": "rms"} if lane.form is Form.BLOCK else {})
        for channel, unit in zip(lane.channel_names, lane.units, strict=True)
    }
    return {**times, "channels": channels}


def machine(kind: MachineKind, *, period_ms: int, changes_only: bool) -> dict[str, Any]:
    """The channels of a kind of machine, and how to tell that it runs."""
    stale_s = 2 * BLOCK_MS // 1000 if changes_only else max(STALE_S, 3 * period_ms // 1000)
    channels = {
        name: {
            "unit": one.unit, "stale_s": stale_s, "sensor": {"range": [one.low, one.high]},
        }
        for name, one in kind.instruments.items()
    }  # fmt: skip
    given = {"idle_s": max(IDLE_S, 3 * period_ms // 1000), "channels": channels}
    if kind.running is None:
        return given
    channel, above = kind.running
    running = {"channel": channel, "above": above, "startup_s": WARM_S, "coastdown_s": COAST_S}
    return {**given, "running": running}


def _where(simulation: Simulation, lane: Lane) -> dict[str, str]:
    if not lane.over_mqtt:
        address = f"nsu={NAMESPACE};s={{asset}}.{{tag}}"
    elif lane.form is Form.FLAT:
        address = simulation.topic("{asset}") + "#{tag}"
    else:
        address = simulation.topic("{asset}", "{tag}")
    return {"source": source_of(lane), "address": address}


def _publishing_ms(lane: Lane) -> int:
    return min(max(lane.period_ms, FASTEST_PUBLISHING_MS), SLOWEST_PUBLISHING_MS)
