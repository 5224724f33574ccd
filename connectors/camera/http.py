"""Snapshots over HTTP: each camera is asked for its newest picture, and gives it where it is new.

A server that can tell is asked only for what has changed (ETag and Last-Modified: RFC 9110, 13.1);
of one that cannot, the same content again is no new picture. What each camera gave last is the
position. One that does not answer holds up no other; where none does, the link is lost.
"""

import asyncio
import contextlib
import hashlib
import json
import logging
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from connectors.camera.shots import Shot
from connectors.camera.way import Way
from connectors.contract import Batch, LostError, NotReadyError, RefusedError
from connectors.http import HttpUrl, host_of, plain, retry_after_s, trust
from connectors.secrets import read_secret

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)

OK, NOT_MODIFIED, UNAUTHORIZED, FORBIDDEN = 200, 304, 401, 403
IDENTITY = "identity"  # no Content-Encoding: RFC 9110, 12.5.3
_PLAIN = {"accept-encoding": IDENTITY}
LONGEST_TAG = 1000  # characters of an ETag that are kept
_URL: TypeAdapter[str] = TypeAdapter(HttpUrl)


@dataclass(frozen=True, slots=True)
class _Last:
    """What a camera gave last."""

    hash: str = ""  # SHA-256 of the content, hex
    etag: str = ""
    modified: str = ""  # Last-Modified, as it was said

    @property
    def conditions(self) -> dict[str, str]:
        """The headers by which only something else is asked for."""
        asked = {"if-none-match": self.etag, "if-modified-since": self.modified}
        return {name: value for name, value in asked.items() if value}


class _AwayError(Exception):
    """A camera did not give a picture, in words."""

    def __init__(self, words: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(words)
        self.retry_after_s = retry_after_s


class HttpSource(Way):
    """Asks each camera each ``interval_s``. It never ends."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        assert self._settings.http is not None  # noqa: S101 - else it is of another way
        self._how = self._settings.http
        self._client: httpx.AsyncClient | None = None
        self._last: dict[str, _Last] = {}  # by address
        self._away: dict[str, str] = {}  # by address: why
        self._first: list[Shot] = []  # what came as it was opened
        self._number = 0  # of the last batch
        self._unchanged = 0

    async def open(self, *, resume: str | None) -> None:
        """See Source of the contract. NotReadyError while no camera answers."""
        await self.close()
        import httpx  # noqa: PLC0415 - only where pictures are asked for

        for address in self._cameras:
            try:
                _URL.validate_python(address)
            except ValidationError as error:
                raise RefusedError(
                    f"{self.name}: {address.rpartition('@')[2]!r} is no address: "
                    f"{error.errors()[0]['msg']}",
                    connector=self.name,
                ) from None
        self._last = _parsed(resume)
        secret = await asyncio.to_thread(self._secret)
        self._client = httpx.AsyncClient(
            auth=self._auth(secret),
            headers=_PLAIN | ({"authorization": f"Bearer {secret}"} if self._bears_token else {}),
            timeout=None,  # noqa: S113 - bounded as a whole, in _ask
            verify=await asyncio.to_thread(trust, self._how.ca_file, connector=self.name),
            trust_env=False,  # what is configured is what is used
        )
        try:
            self._first = await self._asked()
        except _AwayError as error:
            await self.close()
            raise NotReadyError(
                f"{self.name}: {error}", connector=self.name, retry_after_s=error.retry_after_s
            ) from error

    async def batches(self) -> AsyncIterator[Batch]:
        """See Source of the contract."""
        clock = asyncio.get_running_loop().time
        self._heard()
        shots, self._first = self._first, []
        due = clock()
        while True:
            if shots:
                self._number += 1
                position = json.dumps([self._number, self._position()])
                for batch in await asyncio.to_thread(self._gate.batches, shots, position):
                    yield batch
                self._heard()
            for notice in self._alive():
                yield notice
            due = max(due + self._how.interval_s, clock())
            await asyncio.sleep(due - clock())
            try:
                shots = await self._asked()
            except _AwayError as error:
                raise LostError(f"{self.name}: {error}", connector=self.name) from error

    async def accepted(self, position: str) -> None:
        """A camera forgets nothing for us: nothing to do."""

    async def close(self) -> None:
        """See Source of the contract."""
        client, self._client = self._client, None
        self._first, self._away = [], {}
        if client is not None:
            await client.aclose()

    def status(self) -> Mapping[str, int | float | str]:
        """See Source of the contract."""
        return {
            **super().status(),
            "unchanged_total": self._unchanged,
            "cameras_away": len(self._away),
        }

    async def _asked(self) -> list[Shot]:
        """What is new of all cameras. Raises _AwayError where none of them answers."""
        found = await asyncio.gather(
            *(self._ask(address) for address in self._cameras), return_exceptions=True
        )
        errors: list[_AwayError] = []
        shots = []
        for address, one in zip(self._cameras, found, strict=True):
            if isinstance(one, _AwayError):
                errors.append(one)
                self._say_away(address, str(one))
            elif isinstance(one, BaseException):
                raise one
            else:
                self._say_away(address, "")
                shots += [one] if one is not None else []
        if errors and len(errors) == len(self._cameras):
            raise errors[0]
        return shots

    async def _ask(self, address: str) -> Shot | None:
        """A camera's picture; None: it is the one it gave last. Raises _AwayError."""
        import httpx  # noqa: PLC0415 - as above

        assert self._client is not None, "open() first"  # noqa: S101 - the caller's own mistake
        last = self._last.get(address, _Last())
        most, content = self._settings.bounds.bytes, bytearray()
        try:
            async with (
                asyncio.timeout(self._how.timeout_s),
                self._client.stream("GET", address, headers=last.conditions) as answer,
            ):
                if answer.status_code == OK:
                    async for part in answer.aiter_raw():  # packed, it would have no bound
                        content += part
                        if len(content) > most:
                            break  # the rest is left unread: it is too large
        except (httpx.HTTPError, TimeoutError, ValueError) as error:
            raise _AwayError(
                f"no picture from {host_of(address)}: {plain(error)}. Trying again; check that it "
                "is up and the address is right"
            ) from error
        if answer.status_code == NOT_MODIFIED:
            self._unchanged += 1
            return None
        if answer.status_code != OK:
            raise self._refusal(address, answer)
        if answer.headers.get("content-encoding", IDENTITY).lower() != IDENTITY:
            raise _AwayError(
                f"{host_of(address)} packs its pictures (Content-Encoding) though it is asked not "
                "to. Switch that off; JPEG and PNG are packed as they are"
            )
        return self._shot(address, bytes(content), answer.headers)

    def _shot(self, address: str, content: bytes, headers: Mapping[str, str]) -> Shot | None:
        digest = hashlib.sha256(content).hexdigest()
        modified = headers.get("last-modified", "")
        same = self._last.get(address, _Last()).hash == digest
        self._last[address] = _Last(digest, headers.get("etag", "")[:LONGEST_TAG], modified)
        if same:
            self._unchanged += 1
            return None
        return Shot(
            camera=self._cameras[address],
            content=content,
            came=self._now(),
            time=_stamp(modified),
            name=host_of(address),
        )

    def _refusal(self, address: str, answer: "httpx.Response") -> _AwayError:
        """What an answer means that brings no picture."""
        status = answer.status_code
        advice = "Trying again"
        if status in (UNAUTHORIZED, FORBIDDEN):
            advice = "Check user_name and password, or the token, and `auth`"
        elif 300 <= status < 400:
            advice = "It redirects, and redirects are not followed; want the final address"
        return _AwayError(
            f"{host_of(address)} answers {status}. {advice}",
            retry_after_s=retry_after_s(answer.headers.get("retry-after"), now_s=time.time()),
        )

    def _say_away(self, address: str, why: str) -> None:
        """Say once that a camera is away while others answer, and once that it is back."""
        before = self._away.pop(address, "")
        if why:
            self._away[address] = why
        if why and why != before:
            log.warning("%s: %s.", self.name, why)
        elif before and not why:
            log.info("%s: %s gives pictures again.", self.name, host_of(address))

    def _position(self) -> dict[str, list[str]]:
        return {
            address: [last.hash, last.etag, last.modified]
            for address, last in self._last.items()
            if address in self._cameras
        }

    @property
    def _bears_token(self) -> bool:
        return self._how.token_file is not None or self._how.token_env is not None

    def _secret(self) -> str:
        """The token or the password; empty where none is wanted. Raises NotReadyError."""
        how = self._how
        what, file, env = "password", how.password_file, how.password_env
        if self._bears_token:
            what, file, env = "token", how.token_file, how.token_env
        found = read_secret(what, file=file, env=env, connector=self.name)
        return "" if found is None else found.get_secret_value()

    def _auth(self, secret: str) -> "httpx.Auth | None":
        import httpx  # noqa: PLC0415 - as above

        if self._how.user_name is None:
            return None
        kind = httpx.BasicAuth if self._how.auth == "basic" else httpx.DigestAuth
        return kind(self._how.user_name, secret)


def _stamp(modified: str) -> int | None:
    """A time of HTTP (RFC 9110, 5.6.7) in ns since 1970 UTC; None: there is none that reads."""
    try:
        found = parsedate_to_datetime(modified)
        return round(found.replace(tzinfo=found.tzinfo or UTC).timestamp()) * 1_000_000_000
    except (ValueError, OverflowError):
        return None


def _parsed(position: str | None) -> dict[str, _Last]:
    """What each camera gave last, from a position that is ours."""
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        _, last = json.loads(position or "[0, {}]")
        return {str(address): _Last(*map(str, one)) for address, one in last.items()}
    return {}
