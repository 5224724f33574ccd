"""The demo: recordings of real machines, what was done with them, and whether it holds.

Sits beside the plant: it prepares a folder, and in the end judges what the plant's own rooms have
stored. What was sent is counted in the recordings themselves, not by the connector it is held
against. The command tells the story; see configs/demo/SOURCE.md for where the recordings are from.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from monitor.live.service import Ended
from monitor.site.config import Config, load
from monitor.site.problems import PlantError
from monitor.site.status import summary
from monitor.state.database import Database, DatabaseReader
from monitor.state.store import Alarm, Store

MARKER = ".watchkeeper-demo"  # in the folders that the demo made, and may make anew
WATCHED = "watched.json"  # beside the recordings: which are watched, and when they change
FRESH = ("data", "models", "alarms")  # folders, as demo.yaml names them
SUMMARY = "summary.json"

CLAIMS = {
    "nothing_lost": "every sample of the recordings was received and stored",
    "nothing_duplicated": "no sample counted twice",
    "samples_conserved": "received = stored + duplicate + late + rejected, for each source",
    "healthy_silent": "the unit that stays healthy raised no alarm",
    "silent_before_change": "the unit that changes raised no alarm before it changed",
    "change_noticed": "it raised an alarm after it changed",
    "alarms_delivered": "every alarm was delivered as a message",
    "backfill_equal": "scoring the recordings as history gave the same scores, to the bit",
    "pictures_drawn": "a picture of each watched unit was drawn",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """A folder that is ready to be trained and watched."""

    folder: Path
    config: Config  # demo.yaml
    changes: Mapping[str, int | None]  # watched asset -> ns when it changes; None: it does not

    @property
    def watched(self) -> Config:
        """The plant without the machines that it only learns from."""
        assets = {name: self.config.assets[name] for name in self.changes}
        return self.config.model_copy(update={"assets": assets})

    def samples_sent(self) -> int:
        """The values that the recordings of the watched assets hold in the columns asked for."""
        count = 0
        for asset in self.changes:
            for bound in self.config.tags_of(asset):
                source: Any = self.config.sources[bound.source]
                column = pq.read_table(source.path, columns=[bound.address])[bound.address]
                count += len(column) - column.null_count
        return count


def prepare(folder: Path) -> Demo:
    """Copy the packaged demo into a folder, in place of what a demo before left there.

    Raises PlantError where the folder holds anything else, LockedError while a service runs in it,
    and OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / MARKER).exists() and any(folder.iterdir()):
        raise PlantError(
            f"{folder}: holds something that the demo did not make; nothing was touched. "
            f"Name a new or an empty folder with --out."
        )
    if (folder / FRESH[0] / "state.db").exists():
        Database(folder / FRESH[0]).close()  # not while somebody else writes it
    (folder / MARKER).write_text("`watchkeeper demo` made this folder, and may make it anew.\n")
    for name in FRESH:
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()
    for old in (folder / SUMMARY, *folder.glob("unit_*.png")):
        old.unlink(missing_ok=True)
    for file in (resources.files("configs") / "demo").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    listed = json.loads((folder / WATCHED).read_text(encoding="utf-8"))
    return Demo(
        folder=folder,
        config=load(folder / "demo.yaml"),
        changes={asset: _instant(known["changes_at"]) for asset, known in listed.items()},
    )


def judge(
    demo: Demo,
    live: DatabaseReader,
    again: DatabaseReader,
    *,
    ended: Ended,
    pictures: Sequence[Path],
) -> dict[str, Any]:
    """What is written to summary.json: figures, and each of ``CLAIMS`` with whether it holds.

    ``live`` and ``again`` are the states of the service and of the backfill.
    """
    found = summary(live)
    sent, received = demo.samples_sent(), found["samples_received"]
    digests = Store(live).digest(), Store(again).digest()
    alarms = Store(live).alarms()
    early, noticed = _before_and_after(alarms, demo.changes)
    steady = [asset for asset, change in demo.changes.items() if change is None]
    messages = len(list((demo.folder / "alarms").glob("*.json")))
    claims = {
        "nothing_lost": sent == received == found["samples_stored"],
        "nothing_duplicated": found["samples_duplicated"] == 0,
        "samples_conserved": found["samples_conserved"],
        "healthy_silent": not any(alarm.asset in steady for alarm in alarms),
        "silent_before_change": not early,
        "change_noticed": noticed,
        "alarms_delivered": messages == len(Store(live).alarm_events())
        and not any(ended.undelivered.values()),
        "backfill_equal": digests[0] == digests[1]
        and {alarm.id for alarm in alarms} == {alarm.id for alarm in Store(again).alarms()},
        "pictures_drawn": len(pictures) == len(demo.changes)
        and all(path.stat().st_size > 0 for path in pictures),
    }
    return {
        "samples_sent": sent,
        "samples_received": received,
        "samples_lost": sent - received,
        "samples_duplicated": found["samples_duplicated"],
        "frames_scored": found["frames_scored"],
        "alarms": found["alarms"],
        "score_latency_ms": found["score_latency_ms"],
        "digest": digests[0],
        "claims": claims,
    }


def _before_and_after(
    alarms: Sequence[Alarm], changes: Mapping[str, int | None]
) -> tuple[bool, bool]:
    """Whether a changing asset raised an alarm before its change; whether each did after it."""
    times = {asset: change for asset, change in changes.items() if change is not None}
    early = any(alarm.raised < times.get(alarm.asset, 0) for alarm in alarms)
    noticed = all(
        any(alarm.asset == asset and alarm.raised >= change for alarm in alarms)
        for asset, change in times.items()
    )
    return early, noticed


def _instant(text: str | None) -> int | None:
    """A time with its offset, to the second, in ns since 1970 UTC."""
    return None if text is None else int(datetime.fromisoformat(text).timestamp()) * 1_000_000_000
