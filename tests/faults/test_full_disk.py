"""A real disk runs full under the service, and is made room on."""

import asyncio
import logging
import shutil
import subprocess
import time

import pytest
from support import plants
from support.commands import watchkeeper
from support.plants import CHANNELS, TICKS, until

from monitor.live import service as service_room
from monitor.state.journal import Journal

ROOM = 6 << 20  # bytes: a database with its log, and two snapshots


@pytest.fixture
def small_disk(tmp_path):
    """A disk of a few MiB, where this user may mount one."""
    mount, umount = shutil.which("mount"), shutil.which("umount")
    folder = tmp_path / "disk"
    folder.mkdir()
    command = [mount, "-t", "tmpfs", "-o", f"size={ROOM}", "none", folder]
    if (
        mount is None
        or umount is None
        or subprocess.run(command, capture_output=True, check=False).returncode
    ):
        pytest.skip("this user may not mount a disk; the injected error is tested instead")
    yield folder
    subprocess.run([umount, folder], check=True)


def fill(path):
    """Take all room that is left."""
    with path.open("ab", buffering=0) as ballast:
        for size in (1 << 16, 1 << 10, 1):
            try:
                while True:
                    ballast.write(bytes(size))
            except OSError:
                continue


@pytest.mark.timeout(60)
def test_a_start_on_a_full_disk_ends_in_clear_words_and_the_next_one_goes_on(small_disk, tmp_path):
    expected = plants.run(plants.plant(tmp_path / "calm"))
    made = plants.plant(tmp_path / "plant")
    made.settings["site"]["data_dir"] = str(small_disk / "data")
    made.save()
    fill(small_disk / "ballast")
    for _ in range(2):  # as a supervisor would
        said = watchkeeper("run", made.file)
        assert said.code == 3
        assert "the disk is full" in said.err
        assert "Traceback" not in said.err
        assert said.out == ""
    (small_disk / "ballast").unlink()
    assert watchkeeper("run", made.file).code == 0
    assert plants.outcome(small_disk / "data").digest == expected.digest


@pytest.mark.slow
@pytest.mark.fault("disk_full")
@pytest.mark.timeout(60)
async def test_the_service_waits_for_room_and_goes_on(
    small_disk, tmp_path, caplog, monkeypatch, figures
):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(service_room, "BEAT_S", 0.1)
    calm = plants.plant(tmp_path / "calm", assets=3, model="gru", batch_rows=2)
    expected = await asyncio.to_thread(plants.run, calm)
    made = plants.plant(tmp_path / "plant", assets=3, model="gru", batch_rows=2, speed=100.0)
    made.settings["site"]["data_dir"] = str(small_disk / "data")
    made.save()
    async with plants.serving(made, snapshot_s=0.2) as running:
        await until(lambda: running.service.stepper.at > 10)
        fill(small_disk / "ballast")
        await until(lambda: "waits" in caplog.text and "disk is full" in caplog.text)
        full_at = Journal(running.database).last()
        await asyncio.sleep(1.5)
        assert Journal(running.database).last() == full_at, "nothing is accepted"
        assert not running.task.done()
        (small_disk / "ballast").unlink()
        back = time.monotonic()
        await until(lambda: Journal(running.database).last() > full_at)
        figures["recovered_s"] = [time.monotonic() - back]
        async with asyncio.timeout(30):
            ended = await running.task
    assert ended.refused == {}
    found = plants.outcome(small_disk / "data")
    assert (found.digest, found.events) == (expected.digest, expected.events)
    assert found.summary["samples_received"] == 3 * TICKS * len(CHANNELS)
    assert made.messages() == calm.messages()
    figures |= {
        "times": 1,
        "sent": 3 * TICKS * len(CHANNELS),
        "received": found.summary["samples_received"],
        "stored": found.summary["samples_stored"],
        "duplicate": found.summary["samples_duplicated"],
        "late": found.summary["samples_late"],
    }
    once = (
        "Source rig waits",
        "Time stands still",
        "The step waits for the disk",
        "No snapshot is saved",
    )
    for words in once:
        assert sum(words in record.getMessage() for record in caplog.records) <= 1
