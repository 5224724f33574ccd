"""The configuration of a Watchkeeper that watches exactly what is simulated."""

import json
from pathlib import Path
from typing import Any

from monitor.site.simulate.plan import HOST, NAMESPACE, Form, Lane, Simulation
from monitor.site.simulate.signals import HIGHEST, PER_UNIT

FILE = "plant.yaml"
DATA = "data"  # the watcher's data folder, beside it
BROKER, PLC = "broker", "plc"  # its sources
FASTEST_PUBLISHING_MS, SLOWEST_PUBLISHING_MS = 100, 500
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
    """The configuration, as YAML: each entry of a section is one line of JSON."""
    lines = [
        "# Watches what `watchkeeper simulate` sends; written by it, and kept when it is there.",
        "config_version: 1",
    ]
    for section, entries in _tree(simulation).items():
        lines += [f"{section}:"]
        lines += [f"  {name}: {json.dumps(entry)}" for name, entry in entries.items()]
    return "\n".join(lines) + "\n"


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
    channels = {
        channel: {"unit": unit, "limits": {"high_high": HIGHEST // PER_UNIT, "deadband": 1}}
        | ({"feature": "rms"} if lane.form is Form.BLOCK else {})
        for channel, unit in zip(lane.channel_names, lane.units, strict=True)
    }
    late = SLACK_MS + lane.takes_ms + (0 if lane.over_mqtt else 2 * _publishing_ms(lane))
    return {"tick_ms": lane.period_ms, "lateness_ms": late, "channels": channels}


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
