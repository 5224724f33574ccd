"""The demo: recordings of real machines over real servers, and whether what is claimed holds.

Sits beside the plant: it prepares a folder, and in the end judges what the plant's own rooms have
stored. What was sent is counted by the side that sent it, and what was delivered by the side that
took it. The command tells the story; see configs/demo/SOURCE.md for where the recordings are from.
"""

import base64
import json
import secrets
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from monitor.core.records import AlarmClass, Transition
from monitor.live.messages import message
from monitor.live.service import Ended
from monitor.site.config import Config, load
from monitor.site.problems import PlantError
from monitor.site.receiver import PREFIX, Taken
from monitor.site.replay import Playing, Unit
from monitor.site.status import summary
from monitor.state.database import Database, DatabaseReader
from monitor.state.store import Alarm, Store

MARKER = ".watchkeeper-demo"  # in the folders that the demo made, and may make anew
WATCHED = "watched.json"  # beside the recordings: which strokes are watched, and when they change
CONFIG, SUMMARY, SECRET = "demo.yaml", "summary.json", "webhook.secret"
DATA, MODELS, LEDGER = "data", "models", "sent"  # folders; the first two as demo.yaml names them
PICTURES = "pictures"  # beside the recordings: UNIT/STROKE.png
SEEN = (AlarmClass.PICTURE, AlarmClass.COMBINED)  # alarms that want pictures: history has none
PERIOD_MS = 5_000  # from stroke to stroke: of 12 to 36 s, the pauses are shortened
OPCUA_PORT, MQTT_PORT = 4840, 1883  # as in demo.yaml
URL = "http://127.0.0.1:8080/alarms"  # as in demo.yaml
MOSQUITTO = "/usr/sbin/mosquitto"  # where Debian puts it, and users do not look
MILLISECOND = 1_000_000  # ns

CLAIMS = {
    "nothing_lost": "every sample that the servers sent was received and stored",
    "nothing_duplicated": "no sample counted twice",
    "nothing_late": "no sample came after its frame was closed",
    "samples_conserved": "received = stored + duplicate + late + rejected, for each source",
    "healthy_silent": "the unit that stays healthy raised no alarm",
    "silent_before_change": "the unit that changes raised no alarm before it changed",
    "change_noticed": "its sensors raised an alarm after it changed",
    "pictures_inspected": "every picture that was sent was received and inspected",
    "defects_noticed": "its camera raised an alarm after it changed",
    "judged_together": "so did sensors and pictures together, with both as evidence",
    "webhooks_delivered": "every alarm arrived as a webhook, once, its signature verified",
    "backfill_equal": "scoring what was sent as history gave the same scores, to the bit",
    "plots_drawn": "a plot of each watched unit was drawn",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """A folder that is ready to be trained and watched."""

    folder: Path
    config: Config  # demo.yaml, with the ports that were free
    playing: Playing
    changes: Mapping[str, int | None]  # watched asset -> its stroke, of those played; None: never

    @property
    def watched(self) -> Config:
        """The plant without the machines that it only learns from."""
        assets = {name: self.config.assets[name] for name in self.changes}
        return self.config.model_copy(update={"assets": assets})

    @property
    def idle_s(self) -> float:
        """After so much silence every frame has closed."""
        return max(kind.idle_s for kind in self.config.kinds.values()) + 2.0

    @property
    def recorded(self) -> Config:
        """The same plant, read from what was sent."""
        data = yaml.safe_load((self.folder / CONFIG).read_text(encoding="utf-8"))
        data["sources"] = {
            name: {"type": "files", "path": f"{LEDGER}/{name}.parquet", "layout": "wide"}
            for name in self.changes
        }
        data["assets"] = {
            name: {"kind": self.config.assets[name].kind, "source": name} for name in self.changes
        }
        data.pop("cameras")
        for kind in data["kinds"].values():
            kind.pop("training")
        return Config.from_data(data, base=self.folder.absolute())


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What the side of the servers said of it. Times in ns since 1970 UTC."""

    sent: int  # samples
    pictures: int  # sent, too
    first: int  # of the first sample
    changes: Mapping[str, int | None]  # when each watched asset became another machine

    @classmethod
    def of(cls, demo: Demo, said: Mapping[str, Any], *, first_values: int) -> "Played":
        """``said`` is of Process.play(); ``first_values`` stood in the server before it."""
        begins: Mapping[str, Sequence[int]] = said["begins_ms"]
        return cls(
            sent=said["count"] + first_values,
            pictures=said["pictures"],
            first=min(times[0] for times in begins.values()) * MILLISECOND,
            changes={
                name: None if stroke is None else begins[name][stroke] * MILLISECOND
                for name, stroke in demo.changes.items()
            },
        )


def prepare(
    folder: Path,
    *,
    url: str = URL,
    secret: str | None = None,
    influx: Mapping[str, str] | None = None,
    strokes: int | None = None,
) -> Demo:
    """Copy the packaged demo into a folder, in place of what a demo before left there.

    ``url`` and ``secret`` are of the webhook receiver; ``influx`` are settings of a sink that gets
    all points; ``strokes`` plays so many of each unit, around the change. Raises PlantError where
    the folder holds anything else, LockedError while a service runs in it, and OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / MARKER).exists() and any(folder.iterdir()):
        raise PlantError(
            f"{folder}: holds something that the demo did not make; nothing was touched. "
            f"Name a new or an empty folder with --out."
        )
    if (folder / DATA / "state.db").exists():
        Database(folder / DATA).close()  # not while somebody else writes it
    (folder / MARKER).write_text("`watchkeeper demo` made this folder, and may make it anew.\n")
    for name in (DATA, MODELS, LEDGER, PICTURES):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()
    for old in (folder / SUMMARY, *folder.glob("unit_*.png")):
        old.unlink(missing_ok=True)
    _copy(resources.files("configs") / "demo", folder)
    keep_secret(folder / SECRET, secret or new_secret())
    opcua_port, mqtt_port = _free_ports(2)
    _write_config(folder / CONFIG, opcua_port, mqtt_port, url, influx)
    config = load(folder / CONFIG)
    listed = json.loads((folder / WATCHED).read_text(encoding="utf-8"))
    units, changes = [], {}
    for place, (name, known) in enumerate(listed.items()):
        first, last = known["strokes"]
        change = known["changes_at_stroke"]
        if strokes is not None:
            middle = (first + last) // 2 if change is None else change
            first, last = middle - strokes // 2, middle - strokes // 2 + strokes
        tags = list(config.tags_of(name))
        units.append(
            Unit(
                name=name,
                recording=str(folder / f"{name}.parquet"),
                strokes=(first, last),
                over_mqtt=tuple(tag.tag for tag in tags if tag.source == "broker"),
                over_opcua=tuple(tag.tag for tag in tags if tag.source == "plc"),
                after_ms=place * PERIOD_MS // len(listed),  # in turns
                pictures=[
                    (int(file.stem) - first, str(file))
                    for file in sorted((folder / PICTURES / name).glob("*.png"))
                    if first <= int(file.stem) < last
                ],
            )
        )
        changes[name] = None if change is None else change - first
    playing = Playing(
        units=tuple(units),
        opcua_port=opcua_port,
        mqtt_port=mqtt_port,
        ledger=str(folder / LEDGER),
        period_ms=PERIOD_MS,
        mosquitto=shutil.which("mosquitto") or shutil.which(MOSQUITTO),
    )
    return Demo(folder=folder, config=config, playing=playing, changes=changes)


def new_secret() -> str:
    """A secret for a webhook, as Standard Webhooks writes it."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def keep_secret(path: Path, secret: str) -> None:
    """Write it where only this user may read."""
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(secret + "\n", encoding="utf-8")


def judge(
    demo: Demo,
    live: DatabaseReader,
    again: DatabaseReader,
    *,
    played: Played,
    taken: Sequence[Taken],
    ended: Ended,
    plots: Sequence[Path],
) -> dict[str, Any]:
    """What is written to summary.json: figures, and each of ``CLAIMS`` with whether it holds.

    ``live`` and ``again`` are the states of the service and of the backfill; ``taken`` is what the
    receiver got.
    """
    found = summary(live)
    pictures = _pictures(demo, found)
    received = found["samples_received"] - pictures["received"]  # a picture is a sample there
    stored = found["samples_stored"] - pictures["inspected"]
    since = played.first - 1  # before it there was a server with nothing measured
    digests = Store(live).digest(since=since), Store(again).digest(since=since)
    alarms = Store(live).alarms()
    early = _early(alarms, played.changes)
    steady = [asset for asset, change in played.changes.items() if change is None]
    due = {
        message(event, site=demo.config.site.name).id: event for event in Store(live).alarm_events()
    }
    verified = [one for one in taken if one.verified]
    claims = {
        "nothing_lost": played.sent == received == stored,
        "nothing_duplicated": found["samples_duplicated"] == 0,
        "nothing_late": found["samples_late"] == 0,
        "samples_conserved": found["samples_conserved"],
        "healthy_silent": not any(alarm.asset in steady for alarm in alarms),
        "silent_before_change": not early,
        "change_noticed": _noticed(alarms, played.changes, AlarmClass.PROCESS),
        "pictures_inspected": played.pictures == pictures["received"] == pictures["inspected"],
        "defects_noticed": _noticed(alarms, played.changes, AlarmClass.PICTURE),
        "judged_together": _noticed(alarms, played.changes, AlarmClass.COMBINED),
        "webhooks_delivered": sorted(one.id for one in verified) == sorted(due)
        and len(taken) == len(verified)
        and not any(ended.undelivered.values()),
        "backfill_equal": digests[0] == digests[1]
        and _raised(alarms) == _raised(Store(again).alarms()),
        "plots_drawn": len(plots) == len(demo.changes)
        and all(path.stat().st_size > 0 for path in plots),
    }
    return {
        "samples_sent": played.sent,
        "samples_received": received,
        "samples_lost": played.sent - received,
        "samples_duplicated": found["samples_duplicated"],
        "samples_late": found["samples_late"],
        "pictures_sent": played.pictures,
        "pictures_received": pictures["received"],
        "pictures_inspected": pictures["inspected"],
        "frames_scored": found["frames_scored"],
        "alarms": found["alarms"],
        "score_latency_ms": found["score_latency_ms"],
        "webhooks_delivered": len(taken),
        "webhooks_verified": len(verified),
        "webhook_latency_ms": _latency(taken, due),
        "digest": digests[0],
        "claims": claims,
    }


def _latency(taken: Sequence[Taken], due: Mapping[str, Any]) -> dict[str, float | None]:
    """From the instant of the frame that raised an alarm to the webhook's arrival, p50 and p99."""
    took = sorted(
        (one.arrived - due[one.id].tick) / MILLISECOND
        for one in taken
        if one.id in due and due[one.id].transition is Transition.RAISED
    )
    return {
        name: round(took[int(share * (len(took) - 1))], 1) if took else None
        for name, share in (("p50", 0.50), ("p99", 0.99))
    }


def _pictures(demo: Demo, found: Mapping[str, Any]) -> dict[str, int]:
    """How many pictures were received, and inspected."""
    sources = {camera.source for camera in demo.config.cameras.values()}
    counts = [of for name, of in found["sources"].items() if name in sources]
    return {
        "received": sum(of["received"] for of in counts),
        "inspected": sum(of["stored"] for of in counts),
    }


def _raised(alarms: Sequence[Alarm]) -> set[str]:
    """Those that history can raise, too."""
    return {alarm.id for alarm in alarms if alarm.alarm_class not in SEEN}


def _early(alarms: Sequence[Alarm], changes: Mapping[str, int | None]) -> bool:
    """Whether an asset raised an alarm before its change."""
    return any(alarm.raised < (changes.get(alarm.asset) or 0) for alarm in alarms)


def _noticed(
    alarms: Sequence[Alarm], changes: Mapping[str, int | None], alarm_class: AlarmClass
) -> bool:
    """Whether each asset that changes raised an alarm of this class after it."""
    return all(
        any(
            (alarm.asset, alarm.alarm_class) == (asset, alarm_class) and alarm.raised >= change
            for alarm in alarms
        )
        for asset, change in changes.items()
        if change is not None
    )


def _copy(there: Traversable, here: Path) -> None:
    """All that is in a packaged folder."""
    for one in there.iterdir():
        if one.is_dir():
            (here / one.name).mkdir(exist_ok=True)
            _copy(one, here / one.name)
        else:
            (here / one.name).write_bytes(one.read_bytes())


def _free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on now."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def _write_config(
    path: Path, opcua_port: int, mqtt_port: int, url: str, influx: Mapping[str, str] | None
) -> None:
    """The packaged configuration with the ports and addresses of this run."""
    text = path.read_text(encoding="utf-8")
    for there, here in (
        (f"127.0.0.1:{OPCUA_PORT}", f"127.0.0.1:{opcua_port}"),
        (f"port: {MQTT_PORT}", f"port: {mqtt_port}"),
        (URL, url),
    ):
        assert there in text, f"demo.yaml lacks {there}"  # noqa: S101 - it is our own
        text = text.replace(there, here)
    if influx is not None:
        text += f"  influx: {json.dumps({'type': 'influxdb', **influx})}\n"
    path.write_text(text, encoding="utf-8")
