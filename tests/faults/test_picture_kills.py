"""A picture over a real broker that ends the process which inspects it: it alone is set aside."""

import pytest
from support import plants
from support.brokers import mosquitto, publish
from support.cameras import with_camera
from support.plants import until
from support.servers import HERE
from support.watching import DIES, STRANGE, StandIn, painted

from monitor.site import cameras as rooms
from monitor.state.picture_results import PictureResults

pytestmark = [pytest.mark.broker, pytest.mark.timeout(90)]
TOPIC = "line/top"


async def test_one_that_kills_is_set_aside_and_the_others_are_inspected_while_sensors_go_on(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(rooms, "Inspection", StandIn)
    monkeypatch.setattr(StandIn, "load", classmethod(lambda cls, _folder: cls(DIES)))
    made = with_camera(plants.plant(tmp_path / "plant", model=None), address=TOPIC)
    recording = made.folder / "rig.csv"
    recording.rename(made.folder / "later")
    with mosquitto(tmp_path) as broker:
        made.settings["sources"]["eyes"] = {
            "type": "camera",
            "mqtt": {"host": HERE, "port": broker.port, "client_id": "watch"},
        }
        async with plants.serving(made.save()) as running:
            counts = lambda: running.service.stepper.shown["conservation"]["eyes"]  # noqa: E731 - one line
            inspecting = running.service.inspecting
            supervisor = running.service.supervisors["eyes"]
            await until(lambda: supervisor.state.is_open)
            for number, shade in enumerate((40, STRANGE, 41)):
                said = {"part": f"A{number}", "time": str(plants.START + number)}
                publish(broker, (TOPIC, painted(number, shade)), said=said)
            await until(lambda: inspecting.standing.restarts)
            (made.folder / "later").rename(recording)
            await until(lambda: running.status["frames"] == plants.TICKS)
            await until(lambda: counts()["stored"] == 2)
            assert counts()["received"] == 3
            assert counts()["rejected"] == {"inspection_kills": 1}
            assert inspecting.standing.restarts == 2
            assert inspecting.standing.latency_ms["p99"] > 0
            results = PictureResults(running.database).read()
            assert {one.part: one.rejected for one in results} == {
                "A0": "",
                "A1": "inspection_kills",
                "A2": "",
            }
