"""Points into a bucket: ready-made line protocol, through the client's synchronous write API.

Retrying, keeping and putting aside are the delivery's work: here a request succeeds, or says why
not. The client blocks, so each request has a thread; nobody waits for it after the last delivery.
"""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel

from connectors.contract import NotReadyError, RefusedError
from connectors.http import host_of, plain, retry_after_s, trust
from connectors.influxdb.settings import WritingSettings
from connectors.points import Outgoing, Points
from connectors.secrets import read_secret

if TYPE_CHECKING:
    from influxdb_client.client.influxdb_client import InfluxDBClient
    from influxdb_client.rest import ApiException

    from connectors.influxdb.lines import Lines

TOO_LARGE = 413
OF_THE_LINES = (400, 422)  # InfluxDB 1, 2 and 3 for lines that it will not have
LONGEST_REASON = 500  # characters
MENDED_BY = {
    401: "It does not accept the token; want one that may write to the bucket",
    403: "The token may not write here; want one that may write to the bucket",
    404: "Bucket or organisation is not there; make it, or correct bucket, org or url",
}

Piece = tuple[int, "Lines"]  # which item, and lines of it


class _RefusedLinesError(Exception):
    """The server will not have what was sent, or (``too_large``) not so much of it at once."""

    def __init__(self, reason: str, *, too_large: bool) -> None:
        super().__init__(reason)
        self.too_large = too_large


class Sink:
    """Writes points; the same points again change nothing, for they have the same series and time.

    A server that refuses a request writes the good lines of it or none, and does not say which: so
    the request is halved until the refused blocks are known, and all others are written.
    """

    Settings: ClassVar[type[BaseModel]] = WritingSettings
    accepts: ClassVar[tuple[type[Outgoing], ...]] = (Points,)

    def __init__(self, name: str, settings: WritingSettings) -> None:
        self.name = name
        self._settings = settings
        self._batch_lines = settings.batch_lines
        self._client: InfluxDBClient | None = None

    async def open(self) -> None:
        """Make the client. Raises NotReadyError for a token or certificate that is not there."""
        await self.close()
        self._client = await asyncio.to_thread(self._new_client)

    async def deliver(self, items: Sequence[Outgoing]) -> None:
        """See Sink of the contract. An item refused in part has its good lines written."""
        from connectors.influxdb.lines import lines  # noqa: PLC0415 - imports pyarrow

        points = {i: item for i, item in enumerate(items) if isinstance(item, Points)}
        refused = {i: "no points" for i in range(len(items)) if i not in points}
        order = list(points)
        written, unwritable = lines(list(points.values()))
        refused |= {order[place]: reason for place, reason in unwritable.items()}
        pieces = [(order[place], written[place]) for place in sorted(written)]
        for body in self._bodies(pieces):
            refused |= await self._take(body)
        if refused:
            raise RefusedError.of(refused, connector=self.name, count=len(items))

    async def close(self) -> None:
        """Close the client. A request still under way ends by itself, within ``timeout_s``."""
        client, self._client = self._client, None
        if client is not None:
            client.close()  # type: ignore[no-untyped-call]

    def _new_client(self) -> "InfluxDBClient":
        from influxdb_client.client.influxdb_client import (  # noqa: PLC0415 - only where there is one
            InfluxDBClient,
        )

        settings = self._settings
        token = read_secret(
            "token", file=settings.token_file, env=settings.token_env, connector=self.name
        )
        secure = settings.url.startswith("https:")
        return InfluxDBClient(
            settings.url,
            token=token.get_secret_value() if token else None,  # type: ignore[arg-type] # None: no header
            org=settings.org,
            timeout=round(settings.timeout_s * 1000),  # ms, for all of a request
            enable_gzip=True,
            ssl_context=trust(settings.ca_file, connector=self.name) if secure else None,
        )

    def _bodies(self, pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
        """Pieces in their order, in requests of at most ``_batch_lines`` lines, full ones."""
        body: list[Piece] = []
        room = self._batch_lines
        for item, lines in pieces:
            start = 0
            while start < len(lines):
                part = lines.part(start, start + room)
                body.append((item, part))
                start, room = start + len(part), room - len(part)
                if not room:
                    yield body
                    body, room = [], self._batch_lines
        if body:
            yield body

    async def _take(self, body: Sequence[Piece]) -> Mapping[int, str]:
        """Write all that can be; the items of which something cannot, and why."""
        try:
            data = b"".join(lines.data for _, lines in body)
            await _apart(lambda: self._post(data), name=f"influxdb {self.name}")
        except _RefusedLinesError as refusal:
            halves = _halves(body, within=refusal.too_large)
            if not halves:
                return {body[0][0]: str(refusal)}
            if refusal.too_large:
                self._batch_lines = max(sum(len(lines) for _, lines in half) for half in halves)
            return {i: why for half in halves for i, why in (await self._take(half)).items()}
        return {}

    def _post(self, body: bytes) -> None:
        """Send one request. Raises NotReadyError, _RefusedLinesError."""
        from influxdb_client.client.write_api import SYNCHRONOUS  # noqa: PLC0415 - as above
        from influxdb_client.rest import ApiException  # noqa: PLC0415
        from urllib3.exceptions import HTTPError  # noqa: PLC0415

        client, settings = self._client, self._settings
        if client is None:  # closed meanwhile
            raise NotReadyError(f"{self.name}: not open", connector=self.name)
        try:
            client.write_api(write_options=SYNCHRONOUS).write(
                settings.bucket, settings.org, body
            )  # stamps are ns, the client's own default
        except ApiException as error:
            if error.status:
                raise self._meaning(error) from None  # its text is all that the server said
            raise self._no_connection(error) from error  # TLS failed
        except (HTTPError, UnicodeDecodeError) as error:  # the client takes any answer for UTF-8
            raise self._no_connection(error) from error

    def _no_connection(self, error: Exception) -> NotReadyError:
        return NotReadyError(
            f"{self.name}: no connection to {host_of(self._settings.url)}: {plain(error)}. Trying "
            "again; check that the server is up and the address is right",
            connector=self.name,
        )

    def _meaning(self, error: "ApiException") -> NotReadyError | _RefusedLinesError:
        """What an answer that is no success asks of us."""
        status, reason = int(error.status), _reason(error.body)
        if status == TOO_LARGE:
            return _RefusedLinesError(f"{status}: {reason or 'too large'}", too_large=True)
        if status in OF_THE_LINES and reason:  # else it is not the database that speaks
            return _RefusedLinesError(f"{status}: {reason}", too_large=False)
        headers: Mapping[str, str] = error.headers or {}
        advice = MENDED_BY.get(status, "Trying again")
        return NotReadyError(
            f"{self.name}: {host_of(self._settings.url)} answers {status}"
            f"{f' ({reason})' if reason else ''}. {advice}",
            connector=self.name,
            retry_after_s=retry_after_s(headers.get("Retry-After"), now_s=time.time()),
        )


async def _apart(work: Callable[[], None], *, name: str) -> None:
    """Do it in a thread that the end of the program does not wait for, as it does for a pool's."""
    done: Future[None] = Future()
    done.set_running_or_notify_cancel()

    def run() -> None:
        try:
            work()
            done.set_result(None)
        except BaseException as error:  # noqa: BLE001 - for whoever waits
            done.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    await asyncio.wrap_future(done)


def _halves(body: Sequence[Piece], *, within: bool) -> list[Sequence[Piece]]:
    """The body in two; a single piece only ``within`` itself, and one line not at all."""
    if len(body) > 1:
        middle = len(body) // 2
        return [body[:middle], body[middle:]]
    ((item, lines),) = body
    if not within or len(lines) == 1:
        return []
    middle = len(lines) // 2
    return [[(item, lines.part(0, middle))], [(item, lines.part(middle, len(lines)))]]


def _reason(body: str | bytes | None) -> str:
    """What InfluxDB says for itself (1: error, 2 and 3: message); empty where another speaks."""
    try:
        said = json.loads(body or "")
    except ValueError:
        return ""
    if not isinstance(said, dict):
        return ""
    reason = said.get("message") or said.get("error") or ""
    return str(reason)[:LONGEST_REASON]
