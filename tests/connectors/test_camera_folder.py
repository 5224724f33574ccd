"""Pictures from a folder: whole ones, in their order, each once, and what becomes of the files."""

import asyncio
import errno
import os

import pytest
from support.pictures import noise, png
from support.recordings import rejected

from connectors.batch import Notice, NoticeKind, Pictures
from connectors.camera import Source
from connectors.camera.folder import FolderSource
from connectors.camera.settings import FolderSettings, ReadingSettings
from connectors.contract import LostError, NotReadyError, RefusedError, TagRef

SECOND = 1_000_000_000
TIME = 1_700_000_000 * SECOND


def content(number):
    return png(noise(number, 4, 4, 1))


def put(folder, name, data, *, time=TIME):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(data)
    os.utime(path, ns=(time, time))
    return path


def source(folder, *addresses, now=lambda: TIME + SECOND, **given):
    more = {key: given.pop(key) for key in ("max_mb", "clock_ahead_s") if key in given}
    how = FolderSettings(path=str(folder), **({"poll_s": 0.01} | given))
    settings = ReadingSettings(type="camera", folder=how, **more)
    tags = [TagRef(id=number, address=one) for number, one in enumerate(addresses or (".",))]
    return Source("eyes", settings, tags, now=now)


async def take(made, count, *, resume=None, accept=True):
    """The batches up to so many pictures and rejections."""
    batches, seen = [], 0
    await made.open(resume=resume)
    running = made.batches()
    async with asyncio.timeout(20):
        while seen < count:
            batch = await anext(running)
            batches.append(batch)
            seen += len(batch) if isinstance(batch, Pictures) else batch.count
            if accept and batch.position is not None:
                await made.accepted(batch.position)
    await running.aclose()
    await made.close()
    return batches


def contents(batches):
    return [one for batch in batches if isinstance(batch, Pictures) for one in batch.content]


async def nothing_more(made, *, resume, scans=5):
    """Whether it gives nothing in so many looks."""
    await made.open(resume=resume)
    looked = []
    scan = made._scan
    made._scan = lambda error: looked.append(1) or scan(error)
    running = asyncio.ensure_future(anext(made.batches()))
    async with asyncio.timeout(20):
        while len(looked) < scans and not running.done():  # noqa: ASYNC110 - it does not call
            await asyncio.sleep(0.01)
    found = running.done()
    running.cancel()
    await asyncio.wait([running])
    await made.close()
    return not found


async def test_a_name_tells_part_recipe_and_time(tmp_path):
    put(tmp_path, "A7_bolt_20231114231320.png", content(1))
    put(tmp_path, "A8_bolt_19990101000000.png", content(2))  # its clock lost its time
    put(tmp_path, "A9_bolt_20231399231320.png", content(3))  # no such month
    put(tmp_path, "A9_bolt.txt", b"")
    made = source(
        tmp_path,
        name=r"(?P<part>\w+?)_(?P<recipe>\w+)_(?P<time>\d{14})\.png",
        time_format="%Y%m%d%H%M%S",
        timezone="Europe/Berlin",
    )
    batches = await take(made, 3)
    (found,) = [one for one in batches if isinstance(one, Pictures)]
    assert found.part == ("A7", "A8")
    assert found.recipe == ("bolt", "bolt")
    assert found.time.tolist() == [TIME, TIME + SECOND]
    assert rejected(batches) == {"time": 1}
    assert made.status()["restamped_total"] == 1


async def test_without_a_time_in_its_name_it_was_taken_when_it_was_written(tmp_path):
    put(tmp_path, "1.PNG", content(1), time=TIME - 5)
    (found,) = await take(source(tmp_path), 1)
    assert found.time.tolist() == [TIME - 5]
    assert found.part == found.recipe == (None,)


async def test_a_file_that_is_still_written_is_left_until_it_is_whole_and_holds_back_later_ones(
    tmp_path,
):
    whole = content(1)
    path = put(tmp_path, "1.png", whole[:20])
    made = source(tmp_path)
    await made.open(resume=None)
    for size in range(21, len(whole) + 1):
        path.write_bytes(whole[:size])
        if size == 30:
            put(tmp_path, "2.png", content(2))
        assert contents(made._read(made._ready(made._scan(LostError)))[0]) in ([], [content(2)])
    found = made._read(made._ready(made._scan(LostError)))[0]
    assert whole in contents(found)
    assert rejected(found) == {}


async def test_a_file_that_changes_while_it_is_read_is_left_for_another_time(tmp_path):
    path = put(tmp_path, "1.png", content(1))
    made = source(tmp_path)
    await made.open(resume=None)
    made._ready(made._scan(LostError))
    ready = made._ready(made._scan(LostError))
    path.write_bytes(content(2))
    assert made._read(ready) == ([], False)


async def test_a_name_that_is_written_again_and_again_gives_each_picture(tmp_path):
    put(tmp_path, "latest.png", content(0))
    made = source(tmp_path)
    await made.open(resume=None)
    running = made.batches()
    for number in range(3):
        found = await anext(running)
        assert contents([found]) == [content(number)]
        put(tmp_path, "next", content(number + 1), time=TIME + number).rename(
            tmp_path / "latest.png"
        )
    await running.aclose()


async def test_what_was_taken_is_not_read_again_after_a_restart(tmp_path):
    for number in range(12):
        put(tmp_path, f"{number}.png", content(number))
    batches = await take(source(tmp_path), 12)
    assert len(batches) == 2
    assert contents(batches) == [content(number) for number in range(12)]
    assert await nothing_more(source(tmp_path), resume=batches[-1].position)
    rest = await take(source(tmp_path), 4, resume=batches[0].position)
    assert contents(rest) == [content(number) for number in range(8, 12)]


async def test_touching_the_rights_of_a_file_that_was_taken_gives_nothing(tmp_path):
    path = put(tmp_path, "1.png", content(1))
    made = source(tmp_path)
    await made.open(resume=None)
    running = made.batches()
    await anext(running)
    path.chmod(0o600)
    put(tmp_path, "2.png", content(2))
    assert contents([await anext(running)]) == [content(2)]
    await running.aclose()


async def test_a_name_that_comes_again_replaces_no_file_that_was_moved(tmp_path):
    made = source(tmp_path, afterwards="move")
    for number in range(4):
        put(tmp_path, "latest.png", content(number), time=TIME + number // 2)
        await take(made, 1)
    moved = list((tmp_path / "done").iterdir())
    assert sorted(one.read_bytes() for one in moved) == sorted(map(content, range(4)))
    assert {one.name for one in moved} == {
        "latest.png",
        f"latest.{TIME}.png",
        f"latest.{TIME + 1}.png",
        f"latest.{TIME + 1}.2.png",
    }


async def test_a_link_to_itself_is_passed_over_and_said_once(tmp_path, caplog):
    for name in ("loop.png", "other.png"):
        (tmp_path / name).symlink_to(name)
    assert await nothing_more(source(tmp_path), resume=None)
    put(tmp_path, "1.png", content(1))
    assert contents(await take(source(tmp_path), 1)) == [content(1)]
    (said, _) = [one.message for one in caplog.records if "passed over" in one.message]
    assert "loop.png" in said or "other.png" in said


async def test_pictures_of_kinds_that_are_not_read_are_counted_by_kind_and_said_once(
    tmp_path, caplog
):
    for name in ("1.bmp", "2.TIF", "3.tif", "notes.txt"):
        put(tmp_path, name, content(1))
    assert await nothing_more(source(tmp_path), resume=None)
    (said,) = [one.message for one in caplog.records if "passed over" in one.message]
    assert "1 .bmp, 2 .tif passed over: JPEG and PNG are read" in said


class Broken:
    """An entry of a folder that cannot be looked at."""

    name, path = "2.png", "2.png"

    def is_symlink(self):
        return False

    def stat(self):
        raise OSError(errno.EIO, "Input/output error")


async def test_a_file_that_cannot_be_looked_at_is_passed_over_and_all_of_them_are_a_loss(tmp_path):
    put(tmp_path, "1.png", content(1))
    made = source(tmp_path)
    with os.scandir(tmp_path) as entries:
        (found,) = made._looked_at([Broken(), *entries])
    assert found[0] == "1.png"
    with pytest.raises(OSError, match="Input/output"):
        made._looked_at([Broken()])


@pytest.mark.parametrize(("afterwards", "left"), [("delete", []), ("move", ["done/1.png"])])
async def test_files_go_once_their_pictures_are_safe_and_not_before(tmp_path, afterwards, left):
    put(tmp_path / "top", "1.png", content(1))
    made = source(tmp_path, "top", afterwards=afterwards)
    await take(made, 1, accept=False)
    assert (tmp_path / "top" / "1.png").exists()
    await take(made, 1)  # it was not accepted, so it comes again
    found = [path for path in (tmp_path / "top").rglob("*") if path.is_file()]
    assert [str(path.relative_to(tmp_path / "top")) for path in found] == left


async def test_a_file_that_was_replaced_meanwhile_is_not_deleted_for_the_one_before(tmp_path):
    path = put(tmp_path, "1.png", content(1))
    made = source(tmp_path, afterwards="delete")
    await made.open(resume=None)
    running = made.batches()
    first = await anext(running)
    put(tmp_path, "next", content(2)).rename(path)
    await made.accepted(first.position)
    assert path.read_bytes() == content(2)
    await running.aclose()


async def test_files_that_do_not_stay_are_taken_whatever_their_age_says(tmp_path):
    put(tmp_path, "1.png", content(1))
    ahead = f"{1 << 62}/1/x.png"  # the clock was set back since
    assert contents(await take(source(tmp_path, afterwards="delete"), 1, resume=ahead)) == [
        content(1)
    ]


async def test_a_large_file_is_rejected_and_never_held_whole(tmp_path):
    put(tmp_path, "1.png", content(1) + bytes(5_000))
    batches = await take(source(tmp_path, max_mb=0.001), 1)
    assert rejected(batches) == {"picture_too_large": 1}
    assert "1.png" in batches[0].example


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_a_file_that_may_not_be_read_is_rejected(tmp_path):
    put(tmp_path, "1.png", content(1)).chmod(0)
    assert rejected(await take(source(tmp_path), 1)) == {"picture_unreadable": 1}


async def test_names_that_are_no_text_are_told_as_text(tmp_path):
    name = os.fsdecode(b"p\xff1.png")
    put(tmp_path, name, content(1))
    (found,) = await take(source(tmp_path, name=r"(?P<part>.*)\.png"), 1)
    assert found.part == ("p?1",)
    assert found.position.encode()


async def test_folders_and_links_to_nowhere_are_no_pictures(tmp_path):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere")
    put(tmp_path, "1.png", content(1))
    assert contents(await take(source(tmp_path), 1)) == [content(1)]


async def test_a_folder_that_goes_away_is_a_lost_link(tmp_path):
    folder = tmp_path / "there"
    with pytest.raises(NotReadyError, match="make the folder"):
        await source(folder).open(resume=None)
    folder.mkdir()
    made = source(folder)
    await made.open(resume=None)
    folder.rmdir()
    with pytest.raises(LostError):
        await anext(made.batches())


@pytest.mark.parametrize("address", ["..", "a/../../b", "/top"])
async def test_an_address_outside_the_folder_is_refused(tmp_path, address):
    with pytest.raises(RefusedError):
        await source(tmp_path, address).open(resume=None)


async def test_it_says_now_and_then_that_there_is_nothing_new(tmp_path, monkeypatch):
    monkeypatch.setattr("connectors.camera.way.ALIVE_S", 0.0)
    made = source(tmp_path)
    await made.open(resume=None)
    notice = await anext(made.batches())
    assert isinstance(notice, Notice)
    assert notice.kind is NoticeKind.ALIVE


def test_the_way_that_is_set_makes_the_source(tmp_path):
    assert type(source(tmp_path)) is FolderSource


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"name": "("}, "no regular expression"),
        ({"name": r"(?P<serial>.*)"}, "group 'serial'"),
        ({"name": r"(?P<time>.*)"}, "go together"),
        ({"time_format": "%Y"}, "go together"),
        ({"name": r"(?P<time>.*)", "time_format": "%Y"}, "wants its zone"),
        ({"name": r"(?P<time>.*)", "time_format": "%Y", "timezone": "Mars"}, "no time zone"),
    ],
)
def test_settings_that_cannot_work_are_said_to_be_wrong(wrong, words):
    with pytest.raises(ValueError, match=words):
        FolderSettings(path="x", **wrong)


def test_a_camera_source_wants_a_way():
    with pytest.raises(ValueError, match="want one way"):
        ReadingSettings(type="camera")
