"""A database that takes results: what must be in it, from what is stored."""

import contextlib
from collections import Counter

import numpy as np
from support import plants
from support.databases import TOKEN, Influx, Shim
from support.servers import started

from monitor.core.records import ScoreState, Transition
from monitor.state.database import DatabaseReader
from monitor.state.names import Family, Names
from monitor.state.store import Store


@contextlib.contextmanager
def database(folder):
    """A database, and what stands before it."""
    with started(Influx(folder / "influx")) as influx:
        influx.database("plant")
        with started(Shim(folder / "shim", influx)) as shim:
            yield influx, shim


def token(folder):
    (folder / "token").write_text(TOKEN)
    return str(folder / "token")


def finite(number):
    return float(number) if np.isfinite(number) else 0.0


def kept(folder):
    """What a database must hold, from what is stored: scores, channels and alarms."""
    found = {}
    threshold = plants.outcome(folder).summary["assets"]["m0"]["threshold"]
    with DatabaseReader(folder) as reader:
        names = Names(reader).of(Family.ASSET)
        events = Store(reader).alarm_events()
        returned = {one.id: one.tick for one in events if one.transition is Transition.RETURNED}
        for block in Store(reader).scores():
            for row in range(len(block)):
                tick = int(block.tick[row])
                tags = {"site": "works", "asset": names[int(block.asset[row])], "model": "ewma"}
                found["asset_score", tuple(sorted(tags.items())), tick] = {
                    "surprise": finite(block.surprise[row]),
                    "threshold": threshold,
                    "raw": finite(block.raw[row]),
                    "coverage": finite(block.coverage[row]),
                    "state": float(block.state[row]),
                    "valid": float(block.state[row] == ScoreState.OK),
                    "alarms_open": float(
                        sum(
                            one.asset == tags["asset"]
                            and one.raised <= tick < returned.get(one.id, tick + 1)
                            for one in events
                            if one.transition is Transition.RAISED
                        )
                    ),
                }
                for place, channel in enumerate(block.channels):
                    shown, expected = block.value[row, place], block.expected[row, place]
                    key = tuple(sorted((tags | {"channel": channel}).items()))
                    found["channel_score", key, tick] = {
                        "value": finite(shown),
                        "expected": finite(expected),
                        "residual": finite(shown - expected),
                        "spread": finite(block.spread[row, place]),
                        "contribution": finite(block.blame[row, place]),
                        "valid": float(np.isfinite(shown)),
                        "judged": float(np.isfinite(shown - expected)),
                    }
        for event in events:
            tags = {
                "site": "works",
                "asset": event.asset,
                "class": str(event.alarm_class),
                "point": event.point,
                "transition": str(event.transition),
            }
            found["alarm_event", tuple(sorted(tags.items())), event.tick] = {
                "value": event.value,
                "threshold": event.threshold,
                "valid": 1.0,
                "shelved": 0.0,
                "alarm_id": event.id,
                "reason": event.reason,
                "fault": "" if event.diagnosis is None else event.diagnosis.fault,
                "picture": event.picture,
                "who": event.who,
            }
    return found


def kinds(contents):
    return Counter(measurement for measurement, _, _ in contents)
