"""Scores, alarms and a heartbeat to a broker, as JSON; delivered once the broker has said so."""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel

from connectors.contract import LostError, NotReadyError, RefusedError
from connectors.mqtt.link import Link
from connectors.mqtt.publishing import Answer, Publication
from connectors.mqtt.pump import Options
from connectors.mqtt.settings import WritingSettings, level_or_error
from connectors.points import Message, Outgoing, Points

log = logging.getLogger(__name__)

MEASUREMENT = "asset_score"  # the points that are shown; others are for databases
STATES: Mapping[float, str] = dict(
    enumerate(("ok", "warming", "blind", "off"))
)  # as the field `state` counts them
FAILURE = 0x80  # reason codes from here on say no; MQTT 5, 2.4
NEVER = (0x90, 0x99)  # PUBACK (MQTT 5, 3.4.2.1): topic name invalid, payload format invalid


class Sink:
    """Writes ``<asset>/state`` (retained), ``<asset>/alarm`` and ``status`` below the site.

    The status is retained, and the broker itself turns it to offline when we are gone.
    """

    Settings: ClassVar[type[BaseModel]] = WritingSettings
    accepts: ClassVar[tuple[type[Outgoing], ...]] = (Points, Message)

    def __init__(
        self,
        name: str,
        settings: WritingSettings,
        *,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self.name = name
        self._settings = settings
        self._now = now
        self._root = f"{settings.prefix}/{settings.site}"
        self._link: Link | None = None
        self._beating: asyncio.Task[None] | None = None
        self._newest: dict[str, int] = {}  # of each topic of a state, ns

    async def open(self) -> None:
        """Connect, and say that we are here. Raises NotReadyError, RefusedError."""
        await self.close()
        self._link = link = Link(
            self.name,
            self._settings,
            Options(will=(f"{self._root}/status", _json({"online": False}))),
            changed=lambda: None,
        )
        await link.open()
        await self._publish([self._status(online=True)])
        self._beating = asyncio.create_task(self._beat(), name=f"heartbeat of {self.name}")

    async def deliver(self, items: Sequence[Outgoing]) -> None:
        """See Sink of the contract. Of an asset's states only the newest is published."""
        refused: dict[int, str] = {}
        what: list[Publication] = []
        of: list[int] = []  # which item each publication is
        newest: dict[str, tuple[int, int, Publication]] = {}  # by topic: when, item
        for index, item in enumerate(items):
            try:
                if isinstance(item, Message):
                    what.append(self._alarm(item))
                    of.append(index)
                elif item.measurement == MEASUREMENT and len(item):
                    moment, state = self._state(item)
                    known = self._newest.get(state.topic, moment)
                    if moment >= max(known, newest.get(state.topic, (moment,))[0]):
                        newest[state.topic] = (moment, index, state)
            except (KeyError, TypeError, ValueError) as error:
                refused[index] = f"{type(error).__name__}: {error}"
        for _, index, state in newest.values():
            what.append(state)
            of.append(index)
        answers = await self._publish(what)
        refused |= {index: why for index, why in zip(of, answers, strict=True) if why}
        self._newest |= {topic: moment for topic, (moment, _, _) in newest.items()}
        if refused:
            reasons = "; ".join(f"item {index}: {why}" for index, why in sorted(refused.items()))
            raise RefusedError(
                f"{self.name}: {len(refused)} of {len(items)} cannot be published: {reasons}",
                connector=self.name,
                items=tuple(sorted(refused)),
            )

    async def close(self) -> None:
        """Say that we go, and let go. May be called twice."""
        beating, self._beating = self._beating, None
        link, self._link = self._link, None
        if beating is not None:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
        if link is not None:
            if link.is_open:
                goodbye = link.publish([self._status(online=False)])
                goodbye.add_done_callback(_unheard)
            await link.close()

    async def _beat(self) -> None:
        """Say that we are here, until the link is gone: the next delivery finds that out too."""
        while True:
            await asyncio.sleep(self._settings.heartbeat_s)
            try:
                await self._publish([self._status(online=True)])
            except NotReadyError as error:
                log.warning("%s", error)
                return

    async def _publish(self, what: Sequence[Publication]) -> list[str]:
        """Publish all; for each why it can never be taken, or nothing. Raises NotReadyError."""
        link = self._link
        assert link is not None, "open() first"  # noqa: S101 (the caller's own mistake)
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                answers = await link.publish(what)
        except TimeoutError as error:
            raise NotReadyError(
                f"{self.name}: broker {self._settings.where} did not confirm in "
                f"{self._settings.timeout_s:g} s. Trying again",
                connector=self.name,
            ) from error
        except LostError as error:
            raise NotReadyError(str(error), connector=self.name) from error
        for one, answer in zip(what, answers, strict=True):
            if answer.code >= FAILURE and answer.code not in NEVER:
                raise NotReadyError(
                    f"{self.name}: broker {self._settings.where} does not take {one.topic!r}: "
                    f"{answer.words}. Trying again; let us write it, in the broker's access list",
                    connector=self.name,
                )
        return [answer.words if answer.code >= FAILURE else "" for answer in answers]

    def _status(self, *, online: bool) -> Publication:
        document = {"online": online, **_instant(self._now())}
        return Publication(f"{self._root}/status", _json(document), retain=True)

    def _alarm(self, message: Message) -> Publication:
        """Raises KeyError, TypeError, ValueError for what cannot be one."""
        document = {
            "id": message.id,
            "subject": message.subject,
            "type": message.type,
            **_instant(message.time),
            "body": message.body,
        }
        asset = level_or_error(message.body["asset"])
        return Publication(f"{self._root}/{asset}/alarm", _json(document), retain=False)

    def _state(self, points: Points) -> tuple[int, Publication]:
        """The newest row, and when it was. Raises KeyError, TypeError, ValueError as above."""
        row = int(points.time.argmax())
        moment = int(points.time[row])
        fields = {name: float(column[row]) for name, column in points.fields.items()}
        valid = bool(fields["valid"])
        document = {
            "asset": points.tags["asset"],
            **_instant(moment),
            "state": STATES[fields["state"]],
            "valid": valid,
            "surprise": fields["surprise"] if valid else None,
            "threshold": fields["threshold"] or None,  # 0: nothing judges the asset
            "coverage": fields["coverage"],
        }
        topic = f"{self._root}/{level_or_error(points.tags['asset'])}/state"
        return moment, Publication(topic, _json(document), retain=True)


def _unheard(answer: "asyncio.Future[list[Answer]]") -> None:
    """Nobody waits for it; asyncio need not speak of an error in it."""
    if not answer.cancelled():
        answer.exception()


def _instant(ns: int) -> dict[str, str | int]:
    return {"time": f"{np.datetime64(ns // 1_000_000, 'ms')}Z", "time_ms": ns // 1_000_000}


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, allow_nan=False, default=dict).encode()
