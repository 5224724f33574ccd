"""Snapshots over HTTP: what is new, once; and servers that are away, slow, huge, or say no."""

import asyncio
import gzip

import pytest
from support.pictures import noise, png
from support.receivers import HANG_UP, SAY_NOTHING, Answer, receiving
from support.recordings import rejected

from connectors.batch import NoticeKind
from connectors.camera import Source
from connectors.camera.settings import HttpSettings, ReadingSettings
from connectors.contract import LostError, NotReadyError, RefusedError, TagRef

SECOND = 1_000_000_000
TIME = 1_700_000_000 * SECOND
NAMED = "CAMERA_TOKEN"
MODIFIED = "Tue, 14 Nov 2023 22:13:00 GMT"  # 20 s before TIME


def content(number):
    return png(noise(number, 4, 4, 1))


@pytest.fixture
def camera():
    with receiving() as server:
        server.usual = lambda _: Answer(304)
        yield server


def source(*addresses, max_mb=0.01, **given):
    how = HttpSettings(**({"interval_s": 0.01, "timeout_s": 40.0} | given))
    settings = ReadingSettings(type="camera", http=how, max_mb=max_mb)
    tags = [TagRef(id=number, address=one) for number, one in enumerate(addresses, 1)]
    return Source("eyes", settings, tags, now=lambda: TIME)


async def take(made, count, *, resume=None):
    await made.open(resume=resume)
    running = made.batches()
    async with asyncio.timeout(50):
        batches = [await anext(running) for _ in range(count)]
    await running.aclose()
    await made.close()
    return batches


async def test_a_picture_is_given_once_and_then_only_another_is_asked_for(camera):
    head = {"ETag": '"a1"', "Last-Modified": MODIFIED}
    camera.answers += [Answer(200, head, content(1)), Answer(304), Answer(200, {}, content(2))]
    first, second = await take(source(camera.url), 2)
    assert (first.content, second.content) == ((content(1),), (content(2),))
    assert first.time.tolist() == [TIME - 20 * SECOND]
    assert second.time.tolist() == [TIME]
    assert "if-none-match" not in camera.got[0].headers
    assert camera.got[0].headers["accept-encoding"] == "identity"
    for asked in camera.got[1:3]:
        assert asked.headers["if-none-match"] == '"a1"'
        assert asked.headers["if-modified-since"] == MODIFIED


async def test_the_same_content_again_is_no_new_picture_also_after_a_restart(camera):
    camera.usual = lambda _: Answer(200, {}, content(1))
    (found,) = await take(source(camera.url), 1)
    camera.answers += [Answer(200, {}, content(1)), Answer(200, {}, content(2))]
    made = source(camera.url)
    (other,) = await take(made, 1, resume=found.position)
    assert other.content == (content(2),)
    assert made.status()["unchanged_total"] >= 1


async def test_what_was_not_safe_is_asked_for_again(camera):
    camera.usual = lambda _: Answer(200, {"ETag": '"a1"'}, content(1))
    await take(source(camera.url), 1)
    (again,) = await take(source(camera.url), 1, resume=None)
    assert again.content == (content(1),)
    assert "if-none-match" not in camera.got[-1].headers or len(camera.got) > 2


@pytest.mark.parametrize("resume", ["", "x", "[1]", "[1, 2]", '[1, {"a": 3}]'])
async def test_a_position_that_is_not_ours_is_none(camera, resume):
    camera.usual = lambda _: Answer(200, {}, content(1))
    assert len(await take(source(camera.url), 1, resume=resume)) == 1


async def test_a_picture_that_is_too_large_is_not_read_to_its_end_and_rejected(camera):
    camera.answers += [Answer(200, {}, content(1) + bytes(1_000_000))]
    assert rejected(await take(source(camera.url), 1)) == {"picture_too_large": 1}


async def test_what_is_no_picture_is_rejected(camera):
    camera.answers += [Answer(200, {}, b"<html>Log in</html>")]
    assert rejected(await take(source(camera.url), 1)) == {"picture_no_jpeg_or_png": 1}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(401), "answers 401. Check user_name"),
        (Answer(302, {"Location": "/other"}), "redirects are not followed"),
        (Answer(500), "answers 500. Trying again"),
        (Answer(200, {"Content-Encoding": "gzip"}, gzip.compress(content(1))), "packs its pict"),
        (HANG_UP, "no picture from http://localhost"),
        (Answer(200, {"Content-Length": "9999"}, b"cut"), "no picture from http://localhost"),
    ],
)
async def test_a_server_that_gives_none_is_waited_for(camera, answer, words):
    camera.usual = lambda _: answer
    with pytest.raises(NotReadyError, match=words):
        await source(camera.url, timeout_s=2.0).open(resume=None)
    camera.usual = lambda _: Answer(200, {}, content(1))
    assert len(await take(source(camera.url), 1)) == 1


async def test_a_server_that_is_too_busy_is_given_the_time_it_asks_for(camera):
    camera.usual = lambda _: Answer(503, {"Retry-After": "7"})
    with pytest.raises(NotReadyError) as error:
        await source(camera.url).open(resume=None)
    assert error.value.retry_after_s == 7


async def test_one_that_says_nothing_is_given_up_in_its_time(camera):
    camera.usual = lambda _: SAY_NOTHING
    with pytest.raises(NotReadyError, match="no answer in time"):
        await source(camera.url, timeout_s=0.1).open(resume=None)


async def test_a_server_that_goes_away_is_a_lost_link(camera):
    camera.answers += [Answer(200, {}, content(1))]
    made = source(camera.url)
    await made.open(resume=None)
    running = made.batches()
    await anext(running)
    camera.stop()
    with pytest.raises(LostError):
        async with asyncio.timeout(50):
            await anext(running)
    await made.close()


async def test_one_of_two_cameras_that_is_away_holds_up_no_other_and_is_said_once(camera, caplog):
    with receiving() as other:
        other.usual = lambda _: Answer(500)
        camera.answers += [Answer(200, {}, content(n)) for n in (1, 2)]
        made = source(camera.url, other.url)
        await made.open(resume=None)
        running = made.batches()
        found = [await anext(running) for _ in range(2)]
        assert [one.camera.tolist() for one in found] == [[1], [1]]
        assert made.status()["cameras_away"] == 1
        other.usual = lambda _: Answer(200, {}, content(3))
        assert (await anext(running)).camera.tolist() == [2]
        assert made.status()["cameras_away"] == 0
        await made.close()
    assert sum("answers 500" in one.getMessage() for one in caplog.records) == 1


async def test_it_logs_in_by_name_and_password_or_by_a_token(camera, tmp_path, monkeypatch):
    (tmp_path / "secret").write_text("letmein\n")
    monkeypatch.setenv(NAMED, "t0k3n")
    camera.usual = lambda _: Answer(200, {}, content(1))
    basic = source(camera.url, user_name="mon", password_file=str(tmp_path / "secret"))
    await take(basic, 1)
    assert camera.got[-1].headers["authorization"].startswith("Basic ")
    await take(source(camera.url, token_env=NAMED), 1)
    assert camera.got[-1].headers["authorization"] == "Bearer t0k3n"


async def test_a_digest_is_made_where_the_camera_wants_one(camera, tmp_path):
    (tmp_path / "secret").write_text("letmein")
    wants = 'Digest realm="cam", nonce="n", qop="auth", algorithm=MD5'
    camera.usual = lambda asked: (
        Answer(200, {}, content(1))
        if asked.headers.get("authorization", "").startswith("Digest ")
        else Answer(401, {"WWW-Authenticate": wants})
    )
    login = {"user_name": "mon", "password_file": str(tmp_path / "secret"), "auth": "digest"}
    assert len(await take(source(camera.url, **login), 1)) == 1


async def test_no_error_shows_a_secret_or_a_path(camera, tmp_path):
    (tmp_path / "secret").write_text("letmein")
    camera.usual = lambda _: Answer(403)
    login = {"user_name": "mon", "password_file": str(tmp_path / "secret")}
    with pytest.raises(NotReadyError) as error:
        await source(camera.url + "?key=hidden", **login).open(resume=None)
    assert "letmein" not in str(error.value)
    assert "hidden" not in str(error.value)


@pytest.mark.parametrize("address", ["top", "ftp://cam/x.jpg", "http://mon:letmein@cam/x.jpg"])
async def test_an_address_that_is_no_url_is_refused(address):
    with pytest.raises(RefusedError, match="is no address") as error:
        await source(address).open(resume=None)
    assert "letmein" not in str(error.value)


async def test_it_says_now_and_then_that_there_is_nothing_new(camera, monkeypatch):
    monkeypatch.setattr("connectors.camera.way.ALIVE_S", 0.0)
    (notice,) = await take(source(camera.url), 1)
    assert notice.kind is NoticeKind.ALIVE


@pytest.mark.parametrize(
    "wrong",
    [
        {"user_name": "mon"},
        {"password_env": "P"},
        {"user_name": "mon", "password_env": "P", "password_file": "p"},
        {"token_env": "T", "user_name": "mon", "password_env": "P"},
    ],
)
def test_settings_that_cannot_work_are_said_to_be_wrong(wrong):
    with pytest.raises(ValueError, match=r"want one of them|go together"):
        HttpSettings(interval_s=5.0, **wrong)
