"""The control socket: a line in, a line out, and nobody else's business."""

import asyncio
import json
import os
import socket
import stat
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.plants import until

from monitor.live import control
from monitor.live.control import (
    MOST_BYTES,
    MOST_CALLERS,
    Control,
    NotRunningError,
    RequestError,
    ask,
)


async def echo(request):
    return dict(request)


async def refuse(_request):
    raise RequestError("not today")


async def fail(_request):
    raise ZeroDivisionError


HANDLERS = {"echo": echo, "refuse": refuse, "fail": fail}


@asynccontextmanager
async def listening(folder):
    folder.mkdir(parents=True, exist_ok=True)
    found = Control(folder, HANDLERS)
    await found.open()
    try:
        yield found
    finally:
        await found.close()


async def spoken(folder, *lines):
    """Raw lines to the socket, and all answers until it hangs up."""
    reader, writer = await asyncio.open_unix_connection(str(folder / control.SOCKET))
    writer.write(b"".join(lines))
    writer.write_eof()
    found = [json.loads(line) for line in (await reader.read()).splitlines()]
    writer.close()
    return found


async def test_a_request_is_answered(tmp_path):
    async with listening(tmp_path):
        assert await asyncio.to_thread(ask, tmp_path, "echo", word="ä", number=1) == {
            "word": "ä",
            "number": 1,
        }


async def test_several_requests_on_one_line_each_get_an_answer_each(tmp_path):
    async with listening(tmp_path):
        lines = [json.dumps({"request": "echo", "n": n}).encode() + b"\n" for n in range(3)]
        assert await spoken(tmp_path, *lines) == [{"answer": {"n": n}} for n in range(3)]


async def test_what_cannot_be_done_is_said_in_words(tmp_path):
    async with listening(tmp_path):
        with pytest.raises(RequestError, match="not today"):
            await asyncio.to_thread(ask, tmp_path, "refuse")
        with pytest.raises(RequestError, match="got request 'nothing', want one of echo, refuse"):
            await asyncio.to_thread(ask, tmp_path, "nothing")


@pytest.mark.parametrize(
    "line", [b"{\n", b"[]\n", b"1\n", b"\n", b"\xff\n", b'{"request": []}\n', b"[" * 60_000 + b"\n"]
)
async def test_what_is_no_request_is_an_error_and_the_next_is_heard(line, tmp_path):
    async with listening(tmp_path):
        wrong, right = await spoken(tmp_path, line, b'{"request": "echo"}\n')
    assert "want one" in wrong["error"]
    assert right == {"answer": {}}


async def test_a_mistake_of_ours_is_logged_and_the_service_goes_on(tmp_path, caplog):
    async with listening(tmp_path):
        with pytest.raises(RequestError, match="its log says why"):
            await asyncio.to_thread(ask, tmp_path, "fail")
        assert "ZeroDivisionError" in caplog.text
        assert await asyncio.to_thread(ask, tmp_path, "echo") == {}


async def test_a_line_without_end_is_refused_and_not_kept(tmp_path):
    async with listening(tmp_path):
        (found,) = await spoken(tmp_path, b"x" * (20 * MOST_BYTES))
        assert found == {"error": f"more than {MOST_BYTES} bytes in a line"}
        assert await asyncio.to_thread(ask, tmp_path, "echo") == {}


async def test_more_callers_than_a_person_can_be_are_told_to_come_again(tmp_path):
    path = str(tmp_path / control.SOCKET)
    async with listening(tmp_path) as found:
        lines = [await asyncio.open_unix_connection(path) for _ in range(MOST_CALLERS)]
        await until(lambda: len(found._talking) == MOST_CALLERS)
        with pytest.raises(RequestError, match="others ask just now"):
            await asyncio.to_thread(ask, tmp_path, "echo")
        for _, writer in lines:
            writer.close()
        await until(lambda: not found._talking)
        assert await asyncio.to_thread(ask, tmp_path, "echo") == {}


async def test_half_a_request_is_none(tmp_path):
    async with listening(tmp_path):
        assert await spoken(tmp_path, b'{"request": "echo"}') == []


async def test_the_socket_is_its_owners_alone_from_the_first_moment(tmp_path, monkeypatch):
    modes = []
    bind = socket.socket.bind

    def bound(self, address):
        bind(self, address)
        if self.family == socket.AF_UNIX:
            modes.append(stat.S_IMODE(Path(address).stat().st_mode))

    class Watched(socket.socket):
        pass

    Watched.bind = bound
    monkeypatch.setattr(control.socket, "socket", Watched)
    before = os.umask(0)
    try:
        async with listening(tmp_path):
            assert stat.S_IMODE((tmp_path / control.SOCKET).stat().st_mode) == 0o600
    finally:
        os.umask(before)
    assert modes == [0o600]


async def test_a_socket_that_a_dead_process_left_is_replaced_and_ours_is_taken_away(tmp_path):
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / control.SOCKET))
    left.close()
    with pytest.raises(NotRunningError, match="no service runs here"):
        ask(tmp_path, "echo")
    async with listening(tmp_path):
        assert await asyncio.to_thread(ask, tmp_path, "echo") == {}
    assert not (tmp_path / control.SOCKET).exists()
    with pytest.raises(NotRunningError):
        ask(tmp_path, "echo")


async def test_a_folder_deeper_than_a_socket_can_name_works_as_well(tmp_path):
    deep = tmp_path / ("a" * 100) / ("b" * 100)
    async with listening(deep):
        assert await asyncio.to_thread(ask, deep, "echo", n=1) == {"n": 1}
        assert (deep / control.SOCKET).is_socket()


async def test_a_caller_who_keeps_the_line_open_does_not_hold_up_the_end(tmp_path):
    async with listening(tmp_path):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / control.SOCKET))
        writer.write(b'{"request": "echo"}\n')
        assert await reader.readline() == b'{"answer": {}}\n'
    assert await reader.read() == b""
    writer.close()


async def test_a_service_that_ends_in_mid_answer_is_said(tmp_path):
    async def stuck(_request):
        await asyncio.Event().wait()

    found = Control(tmp_path, {"echo": stuck})
    await found.open()
    asking = asyncio.create_task(asyncio.to_thread(ask, tmp_path, "echo"))
    await until(lambda: found._talking)
    await found.close()
    with pytest.raises(NotRunningError, match="ended before it answered"):
        await asking
