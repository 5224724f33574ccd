"""Health and metrics over real HTTP, of a service that runs."""

import asyncio
import contextlib
import socket

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from support import plants
from support.commands import watchkeeper
from support.plants import CHANNELS, TICKS, HeldClock, until

from monitor.live import service as service_room
from monitor.web.app import listening, serving


@contextlib.asynccontextmanager
async def answering(running):
    """A client of a service's port."""
    with listening("127.0.0.1", 0) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with (
            serving(running.service.standing, listener),
            httpx.AsyncClient(base_url=url, trust_env=False) as client,
        ):
            yield client


async def status(client, path):
    answer = await client.get(path)
    return answer.status_code, answer.json()


async def test_ready_until_the_samples_stop_and_again_when_they_come(tmp_path, monkeypatch):
    monkeypatch.setattr(service_room, "BEAT_S", 0.05)
    made = plants.never_ending(plants.plant(tmp_path / "plant", assets=1, model=None))
    there = (made.folder / "rig.csv").rename(made.folder / "rig.later")
    clock = HeldClock(TICKS)
    async with plants.serving(made, clock=clock) as running, answering(running) as client:
        await until(lambda: running.service.stepper.alive)
        async with asyncio.timeout(30):
            code, said = await status(client, "/readyz")
            while (
                "no source gives data: rig is waiting" not in said["reasons"][0]
            ):  # is tried again
                code, said = await status(client, "/readyz")
        assert code == 503
        assert not said["ready"]
        code, said = await status(client, "/healthz")
        assert (code, said["alive"], len(said["reasons"])) == (200, True, 1)

        there.rename(made.folder / "rig.csv")
        await until(lambda: running.status["samples_received"] == TICKS * len(CHANNELS))
        assert await status(client, "/readyz") == (200, {"ready": True, "reasons": []})

        clock.second += 31
        await until(lambda: running.service.stepper.shown["updated_ns"] >= clock.now())
        code, said = await status(client, "/readyz")
        assert code == 503
        assert "rig was last heard 31 s ago, want every 30 s" in said["reasons"][0]


async def test_the_metrics_are_those_of_the_service(tmp_path):
    made = plants.never_ending(plants.plant(tmp_path / "plant", assets=1, model="ewma"))
    async with plants.serving(made) as running, answering(running) as client:
        await until(lambda: running.status["samples_received"] == TICKS * len(CHANNELS))
        await until(lambda: running.status["backlog"] == {"inbox": 0})
        answer = await client.get("/metrics")
        status = running.status
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.headers["cache-control"] == "no-store"
    found = {
        (sample.name.removeprefix("watchkeeper_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert found["samples_received_total", "rig"] == TICKS * len(CHANNELS)
    assert found["samples_accepted_total", "rig"] == TICKS * len(CHANNELS)
    assert found["frames_scored_total",] == status["frames_scored"]
    assert found["frames_skipped_total", "warming"] == TICKS - found["frames_scored_total",]
    assert found["score_latency_seconds_count",] > TICKS * len(CHANNELS) / 150
    assert found["end_to_end_latency_seconds_count",] > 0
    assert found["gpu_in_use",] == 0
    assert found["writer_errors_total",] == 0
    assert found["outbox_items", "inbox"] == 0
    assert found["alert_delivery_lag_seconds", "inbox"] > 0
    assert found["journal_bytes",] > 4096
    assert found["model_age_seconds", "pump"] > 0
    assert found["journal_writable",] == 1


async def test_nothing_else_is_answered(tmp_path):
    made = plants.never_ending(plants.plant(tmp_path / "plant", assets=1, model=None))
    async with plants.serving(made) as running, answering(running) as client:
        assert (await client.get("/nowhere")).status_code == 404
        assert (await client.post("/readyz")).status_code == 405
        assert "server" not in (await client.get("/healthz")).headers


def test_a_port_that_is_taken_is_said_before_anything_starts(tmp_path):
    made = plants.plant(tmp_path / "plant", assets=1, model=None)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        made.settings["web"] = {"port": port}
        said = watchkeeper("run", made.save().file)
    assert said.code == 3
    assert f"web: 127.0.0.1:{port}: the address is in use by another program" in said.err
    assert made.messages() == []
    assert "nothing is stored" not in said.err


def test_a_host_that_is_not_ours_is_said():
    with pytest.raises(OSError, match=r"web: 192\.0\.2\.1:9188"), listening("192.0.2.1", 9188):
        pass  # RFC 5737: nobody has this address


async def test_the_end_of_the_service_ends_the_page(tmp_path):
    made = plants.never_ending(plants.plant(tmp_path / "plant", assets=1, model=None))
    async with plants.serving(made) as running:
        async with answering(running) as client:
            url = client.base_url
            assert (await client.get("/healthz")).status_code == 200
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get("/healthz")
    assert not [one for one in asyncio.all_tasks() if one.get_name() == "web"]
