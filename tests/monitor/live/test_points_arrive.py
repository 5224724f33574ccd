"""From results to what a peer reads: the points that are made are those that its sink expects."""

import asyncio
import json

import pytest
from support import plants
from support.brokers import HERE, Recorder, mosquitto
from support.plants import START, TICKS

from connectors.mqtt.sink import STATES
from monitor.core.records import ScoreState
from monitor.state.database import DatabaseReader
from monitor.state.store import Store


def test_mqtt_names_each_state_as_the_step_counts_it():
    assert list(STATES.values()) == [state.name.lower() for state in sorted(ScoreState)]


@pytest.mark.broker
@pytest.mark.timeout(60)
@pytest.mark.parametrize("model", ["ewma", None])
async def test_the_last_score_and_each_alarm_arrive_at_a_broker(model, tmp_path):
    made = plants.plant(tmp_path / "plant", assets=1, model=model)
    with mosquitto(tmp_path) as broker:
        made.settings["sinks"] = {
            "inbox": {
                "type": "mqtt",
                "host": HERE,
                "port": broker.port,
                "client_id": "out",
                "site": "works",
            }
        }
        got = Recorder(broker, "watchkeeper/works/m0/#")
        try:
            await asyncio.to_thread(plants.run, made.save())
            messages = await asyncio.to_thread(got.all)
        finally:
            got.disconnect()
    told = [(topic.rsplit("/", 1)[1], json.loads(payload)) for topic, payload, _ in messages]
    with DatabaseReader(made.data) as database:
        last = Store(database).latest()[0]
        events = Store(database).alarm_events()
    state = [document for what, document in told if what == "state"][-1]
    assert (state.pop("threshold") is None) == (model is None)
    assert state == {
        "asset": "m0",
        "time": state["time"],
        "time_ms": (START + TICKS - 1) * 1000,
        "state": ScoreState(int(last.state[0])).name.lower(),
        "valid": model is not None,
        "surprise": float(last.surprise[0]) if model else None,
        "coverage": float(last.coverage[0]) if model else 0.0,
    }
    alarms = [document["body"] for what, document in told if what == "alarm"]
    assert [(one["alarm"], one["transition"], one["time_ns"]) for one in alarms] == [
        (one.id, str(one.transition), one.tick) for one in events
    ]
