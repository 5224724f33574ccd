"""One connection to a broker, as the event loop sees it: opened once, closed once.

Behind it a thread of its own does the talking (``pump``). It never reconnects.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from connectors.contract import ConnectorError, LostError, NotReadyError
from connectors.mqtt.publishing import Answer, Publication, Publisher
from connectors.mqtt.pump import Options, Pump, Received, in_words
from connectors.mqtt.settings import LinkSettings
from connectors.mqtt.tls import tls_context
from connectors.mqtt.wire import Wire
from connectors.secrets import read_secret

log = logging.getLogger(__name__)

MOST_GIVEN_UP = 1000  # topics on one link: more come of a subscription with wildcards
GOODBYE_S = 0.8  # how long closing waits for the thread, which needs a hundredth of it


class Link:
    """A connection, from ``open`` until ``close`` or until ``error`` says why it is gone.

    ``changed`` is called in the event loop when messages came, once for all that came together,
    and when the link is gone.
    """

    def __init__(
        self,
        name: str,
        settings: LinkSettings,
        options: Options,
        *,
        changed: Callable[[], None],
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self._name, self._settings, self._options = name, settings, options
        self._changed, self._now = changed, now
        self._publisher = Publisher(self._tell)
        self._pump: Pump | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opened: asyncio.Future[None] | None = None
        self._topics: set[str] = set()
        self._given_up: set[str] = set()
        self._changing: asyncio.Future[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the broker answers, as far as is known."""
        return self._pump is not None and self._pump.is_open

    @property
    def error(self) -> ConnectorError | None:
        """Why the link is gone."""
        return None if self._pump is None else self._pump.error

    @property
    def session_present(self) -> bool:
        """Whether the broker had kept our session."""
        return self._pump is not None and self._pump.session_present

    @property
    def session_is_new(self) -> bool:
        """Whether the broker let us in and made one; that stays so where opening fails later."""
        return self._pump is not None and self._pump.session_is_new

    @property
    def refused(self) -> Mapping[str, str]:
        """The topics that the broker would not let us have, and why."""
        return {} if self._pump is None else self._pump.refused

    @property
    def not_ours(self) -> Sequence[str]:
        """Topics given up to which there was no subscription: one with wildcards brings them."""
        return () if self._pump is None else self._pump.not_ours

    @property
    def inbox(self) -> int:
        """How many messages wait to be taken."""
        return 0 if self._pump is None else len(self._pump.inbox)

    @property
    def inbox_bytes(self) -> int:
        """About how much memory they take."""
        return 0 if self._pump is None else self._pump.inbox_bytes

    @property
    def heard(self) -> float:
        """When the broker's last bytes came, s of ``time.monotonic``; 0 before there is a link."""
        return 0.0 if self._pump is None else self._pump.heard

    async def open(self, topics: Sequence[str] = ()) -> None:
        """Connect and subscribe. Raises NotReadyError and RefusedError.

        Where a session was expected and none is kept, it makes none, and is closed again.
        """
        self._loop = asyncio.get_running_loop()
        self._topics = set(topics)
        secret, context = await asyncio.to_thread(self._credentials)
        wire = await self._connected(context)
        self._opened = self._loop.create_future()
        self._pump = Pump(
            self._name,
            self._settings,
            self._options,
            wire,
            on_publish=self._publisher.on_publish,
            news=lambda: self._tell(self._changed),
            settled=lambda: self._tell(self._settled),
            now=self._now,
        )
        self._thread = threading.Thread(
            target=self._pump.run, args=(secret, topics), name=f"mqtt {self._name}", daemon=True
        )
        self._thread.start()
        await self._opened
        if self._pump.error is not None:
            raise self._pump.error

    async def want(self, topics: Sequence[str]) -> None:
        """Have these topics and no others from now on; until the broker has answered.

        Those that stay are not touched. Nothing, once the link is gone.
        """
        wanted, before = set(topics), self._topics
        pump = self._pump
        if pump is None or not self.is_open or wanted == before:
            return
        self._topics = wanted
        self._given_up -= wanted
        new = [topic for topic in topics if topic not in before]
        old = before - wanted
        self._given_up |= old
        self._changing = done = asyncio.get_running_loop().create_future()
        then = partial(self._tell, partial(_settle, done))
        pump.call(lambda client: pump.change(client, want=new, give_up=old, then=then))
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                await done
        except TimeoutError:  # what waits for us in its queue comes before its answer
            log.warning("%s: the broker has yet to answer to changed topics.", self._name)

    def give_up(self, topics: Iterable[str]) -> int:
        """Have the broker send no more of topics that a kept session still holds; how many.

        Each is asked for once a link, and no more than ``MOST_GIVEN_UP``: more than that come of a
        subscription with wildcards.
        """
        some = [*set(topics) - self._given_up][: max(0, MOST_GIVEN_UP - len(self._given_up))]
        pump = self._pump
        if pump is not None and some:
            self._given_up.update(some)
            pump.call(lambda client: pump.change(client, give_up=some))
        return len(some)

    def acknowledge(self, packets: Sequence[int]) -> None:
        """Tell the broker that it may forget these; nothing, once the link is gone."""
        if packets and self._pump is not None:
            self._pump.call(lambda client: [client.ack(packet, 1) for packet in packets])

    def publish(self, what: Sequence[Publication]) -> "asyncio.Future[list[Answer]]":
        """Publish; the future has the answers, or LostError."""
        assert self._loop is not None  # noqa: S101 - open() first
        future: asyncio.Future[list[Answer]] = self._loop.create_future()
        if self._pump is None or not self._pump.is_open:  # also where there is nothing to say
            future.set_exception(self._lost())
        elif not what:
            future.set_result([])
        else:
            self._pump.call(self._publisher.work(what, future))
        return future

    def listen(self) -> None:
        """Have ``changed`` called for what comes from now on.

        To be said by whoever is about to wait, and before the last look at the inbox.
        """
        if self._pump is not None:
            self._pump.listen()

    def take(self, most: int, most_bytes: int) -> list[Received]:
        """What waits, up to a count and about so many bytes."""
        pump = self._pump
        assert pump is not None  # noqa: S101 - open() first
        taken: list[Received] = []
        size = 0
        while pump.inbox and len(taken) < most and size < most_bytes:
            one = pump.inbox.popleft()
            size += one.size
            taken.append(one)
        pump.took(size)
        return taken

    async def close(self) -> None:
        """Say goodbye and let go, within a second whatever the broker does. May come twice."""
        if self._pump is not None and self._thread is not None:
            self._pump.stop()
            await asyncio.to_thread(self._thread.join, GOODBYE_S)

    def _credentials(self) -> tuple[str | None, ssl.SSLContext | None]:
        settings, tls = self._settings, self._settings.tls
        secret = read_secret(
            "password",
            file=settings.password_file,
            env=settings.password_env,
            connector=self._name,
        )
        return (
            None if secret is None else secret.get_secret_value(),
            None if tls is None else tls_context(tls, connector=self._name),
        )

    async def _connected(self, context: ssl.SSLContext | None) -> Wire:
        """A TCP connection; TLS, if any, is still to shake hands."""
        settings = self._settings
        try:
            async with asyncio.timeout(settings.timeout_s):
                return Wire(
                    await _tcp(settings.host, settings.resolved_port), context, settings.host
                )
        except (OSError, ValueError) as error:  # ValueError: what can be no host name
            raise NotReadyError(
                f"{self._name}: broker {settings.where} cannot be reached: "
                f"{in_words(error, settings)}. Trying again; check host and port, and that the "
                "broker runs and lets this machine in",
                connector=self._name,
            ) from error

    def _tell(self, what: Callable[[], None]) -> None:
        """From the thread: have the loop call something."""
        assert self._loop is not None  # noqa: S101 - open() first
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody wants to know
            self._loop.call_soon_threadsafe(what)

    def _settled(self) -> None:
        """The link is open, or gone."""
        if self._opened is not None:
            _settle(self._opened)
        if not self.is_open:
            self._publisher.fail(self._lost())
            if self._changing is not None:
                _settle(self._changing)  # the next link asks for what is wanted then
        self._changed()

    def _lost(self) -> LostError:
        """For those who wait for an answer."""
        why = self.error or f"{self._name}: broker {self._settings.where}: the link is closed"
        return LostError(str(why), connector=self._name)


def _settle(future: "asyncio.Future[None]") -> None:
    """In the loop: whoever waits goes on."""
    if not future.done():
        future.set_result(None)


async def _tcp(host: str, port: int) -> socket.socket:
    """A connected socket that does not block. Raises OSError of the last address tried."""
    loop = asyncio.get_running_loop()
    failed: OSError | None = None
    for family, kind, protocol, _, address in await loop.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)  # noqa: FBT003 - as a socket has it
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            failed = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failed or OSError(f"no address of {host}")
