"""Messages as webhooks: CloudEvents 1.0 in the body, signed as Standard Webhooks are.

One message after the other, so that those of one alarm keep their order. Which answer means what is
in docs/decisions/0023-webhooks.md. Sources: standardwebhooks.com, cloudevents.io (structured mode).
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import logging
import re
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, model_validator

from connectors.contract import ConfigPath, NotReadyError, RefusedError
from connectors.http import HttpUrl, host_of, plain, retry_after_s, trust
from connectors.points import Message, Outgoing
from connectors.secrets import read_secret

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger(__name__)

MOST_BYTES = 20_000  # of a body: what receivers of Standard Webhooks are asked to take
READ_BYTES = 1 << 16  # of an answer's body, so that its connection can be used again
PREFIX = "whsec_"
SAFE_ID = re.compile(r"[!-~]{1,256}")  # what a header can hold
GONE, TOO_MANY, SERVERS_FAULT = 410, 429, 500
# Answers about the way to the endpoint, not about this message: a person or time can mend it.
OF_THE_WAY = frozenset({401, 403, 404, 405, 407, 408, 421, 425, TOO_MANY})


class WebhookSettings(BaseModel):
    """An HTTP endpoint that gets each message, signed (Standard Webhooks, CloudEvents 1.0)."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"example": {"secret_file": "webhook.secret"}},
    )

    type: Literal["webhook"] = Field(description="The connector: webhook.", examples=["webhook"])
    url: HttpUrl = Field(
        description="Where messages are sent by POST. Redirects are not followed.",
        examples=["https://maintenance.example/hooks/alarms"],
    )
    secret_file: ConfigPath | None = Field(
        None,
        description="The file that holds the secret they are signed with: whsec_ and 24 to 64 "
        "bytes in base64. Several, one a line, all sign: that is how a secret is replaced.",
    )
    secret_env: str | None = Field(
        None, description="The environment variable that holds it, if no file does."
    )
    timeout_s: float = Field(
        15.0, gt=0, le=300, description="How long a message may take, from connecting to an answer."
    )
    ca_file: ConfigPath | None = Field(
        None,
        description="Certificates (PEM) of the authorities that may vouch for it; left out: those "
        "this machine trusts.",
    )

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        if (self.secret_file is None) == (self.secret_env is None):
            raise ValueError("want secret_file or secret_env, and only one of them")
        return self


class Sink:
    """Sends each message until it was answered; what was settled is not sent again in a retry."""

    Settings: ClassVar[type[BaseModel]] = WebhookSettings
    accepts: ClassVar[tuple[type[Outgoing], ...]] = (Message,)

    def __init__(self, name: str, settings: WebhookSettings) -> None:
        self.name = name
        self._settings = settings
        self._keys: list[bytes] = []
        self._client: httpx.AsyncClient | None = None
        self._settled: dict[str, str | None] = {}  # id -> why it was refused; None: it was taken
        self._gone = ""  # why nothing is sent any more

    async def open(self) -> None:
        """Read the secrets. NotReadyError where one is lacking, RefusedError once it is gone."""
        await self.close()
        if self._gone:
            raise RefusedError(self._gone, connector=self.name)
        import httpx  # noqa: PLC0415 - only where there is one

        self._keys = await asyncio.to_thread(self._read_keys)
        self._client = httpx.AsyncClient(
            timeout=None,  # noqa: S113 - bounded as a whole, in _post
            verify=await asyncio.to_thread(trust, self._settings.ca_file, connector=self.name),
            trust_env=False,  # what is configured is what is used
        )

    async def deliver(self, items: Sequence[Outgoing]) -> None:
        """See Sink of the contract. Stops at the first that must be tried again."""
        refused: dict[int, str] = {}
        ids = {item.id for item in items if isinstance(item, Message)}
        self._settled = {one: why for one, why in self._settled.items() if one in ids}
        for index, item in enumerate(items):
            if not isinstance(item, Message):
                refused[index] = f"want a Message, got {type(item).__name__}"
                continue
            if item.id not in self._settled:
                self._settled[item.id] = await self._send(item)
            if (reason := self._settled[item.id]) is not None:
                refused[index] = reason
        self._settled = {}
        if refused:
            raise RefusedError.of(refused, connector=self.name, count=len(items))

    async def close(self) -> None:
        """Close what connections there are."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _send(self, message: Message) -> str | None:
        """Send one message. None: taken; a text: why it never will be. Raises NotReadyError."""
        try:
            body = envelope(message)
        except (TypeError, ValueError) as error:
            return str(error)
        stamp = int(time.time())
        status, headers = await self._post(
            body,
            {
                "content-type": "application/cloudevents+json; charset=utf-8",
                "webhook-id": message.id,
                "webhook-timestamp": str(stamp),
                "webhook-signature": signature(message.id, stamp, body, self._keys),
            },
        )
        if 200 <= status < 300:
            return None
        said = f"{self.name}: {host_of(self._settings.url)} answers {status}"
        if status == GONE:
            self._gone = (
                f"{said}: the endpoint is gone. Nothing is sent any more, everything is kept. "
                "Correct its url, or take the sink out, and start again"
            )
            logger.error("%s.", self._gone)
            raise NotReadyError(self._gone, connector=self.name)
        if 400 <= status < SERVERS_FAULT and status not in OF_THE_WAY:
            return f"answered {status}"
        advice = "Trying again"
        if 300 <= status < 400:
            advice = "It redirects, and redirects are not followed; want the final address as url"
        elif status < SERVERS_FAULT and status != TOO_MANY:
            advice = "Check its url, and that both sides have the same secret"
        raise NotReadyError(
            f"{said}. {advice}",
            connector=self.name,
            retry_after_s=retry_after_s(headers.get("retry-after"), now_s=time.time()),
        )

    async def _post(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str]]:
        """Status and headers of the answer. Raises NotReadyError where there is none in time."""
        import httpx  # noqa: PLC0415 - as above

        assert self._client is not None, "open() first"  # noqa: S101 - the caller's own mistake
        answer: httpx.Response | None = None
        try:
            async with (
                asyncio.timeout(self._settings.timeout_s),
                self._client.stream(
                    "POST", self._settings.url, content=body, headers=headers
                ) as answer,
            ):
                await _drain(answer)
        except (httpx.HTTPError, TimeoutError) as error:
            if answer is None:
                raise NotReadyError(
                    f"{self.name}: no answer from {host_of(self._settings.url)}: {plain(error)}. "
                    "Trying again; check that it is up and the address is right",
                    connector=self.name,
                ) from error
        assert answer is not None  # noqa: S101 - else we were out by now
        return answer.status_code, answer.headers

    def _read_keys(self) -> list[bytes]:
        """The keys of all secrets, in their order. Raises NotReadyError."""
        secret = read_secret(
            "secret",
            file=self._settings.secret_file,
            env=self._settings.secret_env,
            connector=self.name,
        )
        assert secret is not None  # noqa: S101 - the settings name one
        keys = []
        for number, text in enumerate(secret.get_secret_value().split(), start=1):
            try:
                key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
            except ValueError:  # also where a character is not ASCII
                key = b""
            if not text.startswith(PREFIX) or not 24 <= len(key) <= 64:
                raise NotReadyError(
                    f"{self.name}: secret {number}: want {PREFIX} and 24 to 64 bytes in base64",
                    connector=self.name,
                )
            keys.append(key)
        return keys


def signature(id: str, stamp: int, body: bytes, keys: Sequence[bytes]) -> str:  # noqa: A002 - its word
    """The header webhook-signature: one signature for each key; ``stamp`` in s since 1970 UTC."""
    content = f"{id}.{stamp}.".encode() + body
    digests = (hmac.digest(key, content, hashlib.sha256) for key in keys)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)


def envelope(message: Message) -> bytes:
    """The message as a CloudEvent in JSON, below MOST_BYTES.

    Of a longer one, the smaller shares of ``blame`` are left out and ``blame_omitted`` counts them.
    Raises TypeError, ValueError: an id that fits no header, no JSON, or too long all the same.
    """
    if not SAFE_ID.fullmatch(message.id):
        raise ValueError(f"id {message.id[:40]!r}: want 1 to 256 visible ASCII characters")
    body = dict(message.body)
    content = _json(message, body)
    blame = body.get("blame")
    shares = sorted(blame.items(), key=_share) if isinstance(blame, Mapping) else []
    kept = len(shares)
    while len(content) >= MOST_BYTES and kept:
        kept //= 2
        shown = {"blame": dict(shares[:kept]), "blame_omitted": len(shares) - kept}
        content = _json(message, body | shown)
    if len(content) >= MOST_BYTES:
        raise ValueError(f"has {len(content):,} bytes; want less than {MOST_BYTES:,}")
    return content


def _json(message: Message, body: Mapping[str, Any]) -> bytes:
    place = [quote(str(body[part]), safe="") for part in ("site", "asset") if body.get(part)]
    seconds, rest = divmod(message.time, 1_000_000_000)
    event = {
        "specversion": "1.0",
        "id": message.id,
        "source": "/" + "/".join(place),
        "type": f"watchkeeper.{message.type}.v1",
        "time": f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z",
        "subject": message.subject,
        "datacontenttype": "application/json",
        "data": body,
    }
    return json.dumps(event, ensure_ascii=False, allow_nan=False, default=dict).encode()


def _share(named: tuple[str, Any]) -> tuple[float, str]:
    """The largest first; what is no number, last."""
    name, share = named
    return (-float(share) if isinstance(share, int | float) else 0.0), name


async def _drain(answer: "httpx.Response") -> None:
    """Read the answer's body, if it is short; nothing in it matters."""
    import httpx  # noqa: PLC0415 - as above

    read = 0
    with contextlib.suppress(httpx.HTTPError):
        async for part in answer.aiter_raw():
            read += len(part)
            if read > READ_BYTES:
                return
