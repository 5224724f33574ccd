"""An OPC UA server as a source: opens, hands on what is heard, acknowledges, closes.

``settings`` and ``nodes`` say what is wanted, ``link`` is the session, ``subscription`` one rate
class on the server, ``listening`` asks and listens, ``order`` says what is handed on when,
``waves`` makes batches of what comes, ``values`` columns of a wave, ``history`` reads what was
missed, ``units`` judges what values mean, ``progress`` is where to go on.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel

from connectors.contract import Batch, NotReadyError, RefusedError, TagRef
from connectors.opcua.nodes import Address, parse
from connectors.opcua.progress import Position
from connectors.opcua.settings import RateClass
from connectors.opcua.settings import Settings as OpcUaSettings
from connectors.secrets import read_secret

if TYPE_CHECKING:
    from connectors.opcua.link import Link
    from connectors.opcua.listening import Listening
    from connectors.opcua.units import Meanings

logger = logging.getLogger(__name__)

MOST_NAMED = 20  # tags with a wrong unit in a status text
RETRY_LOGIN_S = 60.0  # servers lock accounts after some wrong passwords
TOTALS = (
    "reconnects_total",
    "in_vain_total",
    "gaps_total",
    "filled_total",
    "replayed_total",
    "overflow_total",
    "restamped_total",
    "rejected_total",
    "unit_changed_total",
    "da_quality_total",
)


class Source:
    """Watches nodes of one server. Whatever it asks for, the server may revise: see ``status``."""

    Settings: ClassVar[type[BaseModel]] = OpcUaSettings

    def __init__(self, name: str, settings: OpcUaSettings, tags: Sequence[TagRef]) -> None:
        self.name = name
        self._settings, self._tags = settings, tags
        self._totals: Counter[str] = Counter()
        self._opened = 0
        self._in_vain = 0  # the start of a run of the server: see Listening.in_vain
        self._meanings: Meanings | None = None
        self._link: Link | None = None
        self._listening: Listening | None = None

    async def open(self, *, resume: str | None) -> None:
        """See Source of the contract.

        RefusedError for what must be changed here: a malformed node id, a server that does not do
        without security. A wrong password is NotReadyError, a minute apart: the password's file or
        the account on the server can be mended while we run.
        """
        await self.close()
        rates = self._rates()
        position = self._position(resume)
        password = await asyncio.to_thread(self._password)
        from connectors.opcua.link import (  # noqa: PLC0415 (asyncua, see above)
            DENIED,
            FAILURES,
            Link,
            readable,
        )
        from connectors.opcua.listening import Listening  # noqa: PLC0415
        from connectors.opcua.units import Meanings  # noqa: PLC0415

        settings = self._settings
        self._link = link = Link(settings, password)
        if self._meanings is None:
            self._meanings = Meanings(self.name, {} if position is None else position.units)
        listening = Listening(
            self.name, settings, link, rates, meanings=self._meanings, totals=self._totals
        )
        try:
            with readable():
                await link.connect()
                await listening.start(position, in_vain=self._in_vain)
        except DENIED as error:
            raise NotReadyError(
                f"source {self.name}: {settings.url} does not let "
                f"{settings.user_name or 'anonymous'} in: {error}. Check user_name, the password, "
                f"and the account on the server. Trying again in {RETRY_LOGIN_S:g} s.",
                connector=self.name,
                retry_after_s=RETRY_LOGIN_S,
            ) from error
        except FAILURES as error:
            if "No matching endpoints" in str(error):
                raise RefusedError(
                    f"source {self.name}: {settings.url} has no endpoint without security, and "
                    f"security policies are not there yet. Allow None on the server, or wait.",
                    connector=self.name,
                ) from error
            raise NotReadyError(
                f"source {self.name}: {settings.url} cannot be reached: "
                f"{str(error) or f'no answer in {settings.timeout_s:g} s'}. If the server is up, "
                f"check its port from this host.",
                connector=self.name,
            ) from error
        if not self._opened:
            logger.warning(
                "Source %s: %s is read without encryption and signatures (insecure: true).",
                *(self.name, settings.url),
            )
        self._totals["reconnects_total"] += self._opened > 0
        self._opened += 1
        self._listening = listening

    async def batches(self) -> AsyncIterator[Batch]:
        """See Source of the contract."""
        assert self._listening is not None, "open() first"  # noqa: S101 (the caller's own mistake)
        async for batch in self._listening.batches():
            yield batch

    async def accepted(self, position: str) -> None:
        """See Source of the contract: goes out with the next publish request."""
        if self._listening is not None:
            self._listening.order.unacknowledged.accepted(position)

    async def retune(self, tags: Sequence[TagRef]) -> None:
        """See Retunable of the contract."""
        before, self._tags = self._tags, tags
        try:
            rates = self._rates()
        except RefusedError:
            self._tags = before
            raise
        if self._listening is not None:
            await self._listening.retune(rates)

    @property
    def watchdog_s(self) -> float:
        """See Watched of the contract: its sign of life as revised, and an answer's time."""
        listening = self._listening
        return self._settings.lifetime_s if listening is None else listening.patience_s

    @property
    def heard(self) -> float:
        """See Watched of the contract."""
        return time.monotonic() if self._listening is None else self._listening.heard

    def status(self) -> Mapping[str, int | float | str]:
        """How it stands. Of each rate class, by number: what the server made of the request."""
        listening, meanings = self._listening, self._meanings
        made = listening.subscriptions if listening is not None else ()
        bad = sum(len(one.bad) for one in made)
        status: dict[str, int | float | str] = {
            "connected": int(listening is not None and not listening.ended),
            "insecure": 1,
            "items_wanted": len(self._tags),
            "items_created": sum(len(one.tags) for one in made) - bad,
            "items_bad": bad,
            "last_publish_ns": listening.waves.last_publish if listening is not None else 0,
            "publish_lag_s": time.monotonic() - listening.heard if listening is not None else 0.0,
            "clock_skew_s": listening.skew_s if listening is not None else 0.0,
            "fills_pending": len(listening.order.history.missed) if listening is not None else 0,
            "units_converted": meanings.converted if meanings is not None else 0,
            "units_bad": len(meanings.bad) if meanings is not None else 0,
            **{name: self._totals[name] for name in TOTALS},
        }
        if meanings is not None and meanings.bad:
            status["bad_units"] = ", ".join(list(meanings.bad.values())[:MOST_NAMED])
        if bad:
            status["bad_items"] = ", ".join(one.bad_text() for one in made if one.bad)
        for number, one in enumerate(made, 1):
            status |= {f"rate_{number}_{name}": value for name, value in one.status().items()}
        return status

    async def close(self) -> None:
        """See Source of the contract. The server keeps the subscriptions for their lifetime."""
        if self._listening is not None:
            self._in_vain = self._listening.in_vain or self._in_vain
        self._listening = None
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    # ---- what is wanted -------------------------------------------------------------------------

    def _rates(self) -> dict[RateClass, dict[int, tuple[TagRef, Address]]]:
        """The tags by rate class. Raises RefusedError for a malformed address."""
        rates: dict[RateClass, dict[int, tuple[TagRef, Address]]] = {}
        for tag in self._tags:
            try:
                address = parse(tag.address)
            except ValueError as error:
                raise RefusedError(
                    f"source {self.name}: {tag.address!r} is no node id: {error}",
                    connector=self.name,
                ) from error
            rates.setdefault(self._settings.rate_of(tag.address), {})[tag.id] = (tag, address)
        return rates

    def _position(self, resume: str | None) -> Position | None:
        if resume is None:
            return None
        try:
            return Position.read(resume)
        except ValueError as error:
            raise RefusedError(f"source {self.name}: {error}", connector=self.name) from error

    def _password(self) -> str | None:
        """Read anew at each opening. Raises NotReadyError where it is not there."""
        secret = read_secret(
            "password",
            file=self._settings.password_file,
            env=self._settings.password_env,
            connector=self.name,
        )
        return None if secret is None else secret.get_secret_value()
