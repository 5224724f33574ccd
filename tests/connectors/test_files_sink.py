"""Messages as files: whole or not at all, once."""

import json
import os

import pytest

from connectors.contract import NotReadyError, RefusedError
from connectors.files import Sink
from connectors.files import sink as room
from connectors.files.settings import WritingSettings
from connectors.points import Message, Points


def sink(folder):
    return Sink("inbox", WritingSettings(type="files", folder=str(folder)))


def message(name="m1", **body):
    return Message(
        id=name, subject="s", type="alarm.raised", time=1_704_067_200_000_000_001, body=body
    )


async def test_a_message_becomes_one_json_file(tmp_path):
    await sink(tmp_path).deliver([message(asset="Pumpe 1 ä", value=1.5)])
    (path,) = tmp_path.iterdir()
    assert path.name == "m1.json"
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "id": "m1",
        "subject": "s",
        "type": "alarm.raised",
        "time": "2024-01-01T00:00:00.000000001Z",
        "body": {"asset": "Pumpe 1 ä", "value": 1.5},
    }


async def test_content_is_on_disk_before_its_name_and_the_name_before_delivery_returns(
    tmp_path, monkeypatch
):
    steps = []
    real = room._fsync
    monkeypatch.setattr(room, "_fsync", lambda path: (steps.append(path.name), real(path)))
    real_replace = room.Path.replace
    monkeypatch.setattr(
        room.Path, "replace", lambda a, b: (steps.append(f"to {b.name}"), real_replace(a, b))
    )
    await sink(tmp_path).deliver([message()])
    assert steps == [".m1.json.tmp", "to m1.json", tmp_path.name]


async def test_what_a_crash_left_half_written_is_written_anew(tmp_path):
    (tmp_path / ".m1.json.tmp").write_text("{")
    await sink(tmp_path).deliver([message()])
    assert [path.name for path in tmp_path.iterdir()] == ["m1.json"]
    assert json.loads((tmp_path / "m1.json").read_text())["id"] == "m1"


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".m", "a/b", "../a", "a\\b", "a\n", "ä", "x" * 201]
)
async def test_an_id_that_is_no_safe_file_name_is_refused_and_the_others_are_written(
    tmp_path, name
):
    with pytest.raises(RefusedError, match="no safe file name") as refused:
        await sink(tmp_path).deliver([message("m0"), message(name), message("m2")])
    assert refused.value.items == (1,)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m0.json", "m2.json"]


async def test_what_is_no_json_and_what_is_no_message_is_refused(tmp_path):
    import numpy as np

    points = Points(measurement="m", tags={}, time=np.zeros(0, np.int64), fields={})
    with pytest.raises(RefusedError, match=r"item 0.*item 1.*item 2") as refused:
        await sink(tmp_path).deliver([message(x=float("nan")), message(x={1j}), points])
    assert refused.value.items == (0, 1, 2)
    assert list(tmp_path.iterdir()) == []


async def test_a_folder_that_is_not_there_or_is_a_file_is_not_ready(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "no" / "inbox", tmp_path / "file"):
        with pytest.raises(NotReadyError, match="cannot write to"):
            await sink(folder).open()
        with pytest.raises(NotReadyError, match="cannot write to"):
            await sink(folder).deliver([message()])
    assert not (tmp_path / "no").exists()


async def test_a_folder_is_made_when_the_one_above_is_there(tmp_path):
    one = sink(tmp_path / "inbox")
    await one.open()
    await one.deliver([message()])
    assert (tmp_path / "inbox" / "m1.json").exists()


async def test_a_full_disk_is_not_ready_and_leaves_no_message_half_written(tmp_path, monkeypatch):
    def full(path):
        raise OSError(28, os.strerror(28), str(path))

    monkeypatch.setattr(room, "_fsync", full)
    with pytest.raises(NotReadyError, match="No space left"):
        await sink(tmp_path).deliver([message()])
    assert not (tmp_path / "m1.json").exists()


async def test_opening_leaves_nothing_behind(tmp_path):
    await sink(tmp_path).open()
    assert list(tmp_path.iterdir()) == []
