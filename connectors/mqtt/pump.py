"""The thread of a link: paho's client on its wire, turn by turn.

Only this thread touches the client; everybody else hands it work with ``call``. While the inbox is
full it does not read the socket, so that the broker keeps what we have no room for; before that
looks like death it says goodbye and lets the session wait.
"""

import contextlib
import logging
import math
import os
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from connectors.contract import ConnectorError, LostError, NotReadyError, RefusedError
from connectors.mqtt.settings import LinkSettings
from connectors.mqtt.wire import Wire

if TYPE_CHECKING:
    from paho.mqtt.client import MQTTMessage
    from paho.mqtt.reasoncodes import ReasonCode

    from connectors.mqtt.client import WiredClient

log = logging.getLogger(__name__)

LOOK_S = 0.5  # how often pings and bounds are looked at when nothing happens
BURST = 256  # packets read before anything else is looked at
TOPICS_AT_ONCE, TOPIC_BYTES = 100, 1 << 16  # in a packet: far below the largest that brokers take
MESSAGE_BYTES = 400  # what a message costs in memory beside its payload
BAD_PROTOCOL, BAD_CLIENT_ID = 0x84, 0x85  # CONNACK (MQTT 5, 3.2.2.2): no time will mend these
NO_SUBSCRIPTION = 0x11  # UNSUBACK (MQTT 5, 3.11.3): there was none to end
NO_ENTRY = (0x86, 0x87, 0x8A, 0x8C)  # CONNACK: bad user name or password, not authorized, banned
BROKEN = select.POLLHUP | select.POLLERR | select.POLLNVAL


class Received(NamedTuple):
    """A message, without the rest of what the client made of it: that would be much to keep."""

    topic: str  # empty if it is no UTF-8
    payload: bytes | bytearray
    packet: int  # 0 at QoS 0: nothing to acknowledge
    retained: bool  # the topic's last value, sent because we subscribed
    again: bool  # it may have been here already
    said: Sequence[tuple[str, str]]  # user properties; MQTT 5
    came: int  # ns since 1970 UTC

    @property
    def size(self) -> int:
        """About how much memory it takes, in bytes."""
        size = MESSAGE_BYTES + len(self.topic) + len(self.payload)
        return size + sum(len(key) + len(value) for key, value in self.said) if self.said else size


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a source wants of its link and a sink does not, and the other way round."""

    keeps_session: bool = False
    expects_session: bool = False  # where none was kept, make none: it ends before any topic
    session_expiry_s: int = 0
    receive_maximum: int | None = None
    inbox_bytes: float = math.inf  # what may wait to be taken
    packet_bytes: int | None = None  # no larger packet may be sent to us; MQTT 5
    will: tuple[str, bytes] | None = None  # topic and payload, retained


class Pump:
    """Talks to the broker from ``run`` until ``stop``, or until ``error`` says why not any more.

    ``news`` is called when messages came, once for each ``listen``, ``settled`` when it is open and
    when it is gone; both in the pump's thread.
    """

    def __init__(
        self,
        name: str,
        settings: LinkSettings,
        options: Options,
        wire: Wire,
        *,
        on_publish: Callable[..., None],
        news: Callable[[], None],
        settled: Callable[[], None],
        now: Callable[[], int],
    ) -> None:
        self.error: ConnectorError | None = None
        self.is_open = False
        self.session_present = False
        self.session_is_new = False  # let in, and nothing was kept for us
        self.refused: dict[str, str] = {}  # topics, and why
        self.not_ours: list[str] = []  # given up, and the broker knew no subscription to them
        self.inbox: deque[Received] = deque()
        self._name, self._settings, self._options, self._wire = name, settings, options, wire
        self._on_publish, self._news, self._settled, self._now = on_publish, news, settled, now
        self._bytes_in = self._bytes_out = 0  # each written by one thread only
        self._last = 0  # when the last message came
        self._told = False  # of news, and nobody listens again yet
        self._stopping = False
        self._full_since: float | None = None
        self._work: deque[Callable[[WiredClient], object]] = deque()
        self._awake, self._waker = socket.socketpair()
        for one in (self._awake, self._waker):
            one.setblocking(False)  # noqa: FBT003 - as a socket has it
        self._poll = select.poll()
        self._poll.register(self._awake, select.POLLIN)
        self._client: WiredClient | None = None
        self._connack: tuple[ReasonCode, bool] | None = None
        self._asked: dict[int, Sequence[str]] = {}  # by packet: topics not answered yet
        self._then: dict[int, Callable[[], None]] = {}  # by packet: what to do when it is answered
        self._farewell = ""  # the broker's words, if it had any

    # Called by others.

    @property
    def heard(self) -> float:
        """When the broker's last bytes came, s of ``time.monotonic``; at first its opening."""
        return self._wire.heard

    @property
    def inbox_bytes(self) -> int:
        """What waits to be taken, in bytes."""
        return self._bytes_in - self._bytes_out

    def listen(self) -> None:
        """What comes from now on is news: whoever is about to wait for it says so.

        Not whoever takes from the inbox: what was told of in that moment may be taken already, and
        to find nothing must not be the end of listening.
        """
        self._told = False

    def took(self, size: int) -> None:
        """So many bytes were taken from the inbox."""
        self._bytes_out += size
        if self._full_since is not None:
            self._wake()

    def call(self, work: "Callable[[WiredClient], object]") -> None:
        """Do something with the client, soon; never, once it is gone."""
        self._work.append(work)
        self._wake()

    def stop(self) -> None:
        """End soon, with a goodbye."""
        self._stopping = True
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full: it wakes anyway; closed: it has ended
            self._waker.send(b"!")

    # In the thread.

    def run(self, secret: str | None, topics: Sequence[str]) -> None:
        """Connect, subscribe, and see to everything until it ends."""
        forget = False
        try:
            self._talk(secret, topics)
        except _StoppedError:
            pass
        except _ForgottenError:
            forget = True
        except ConnectorError as error:
            self.error = error
        except OSError as error:
            self.error = self._gone(in_words(error, self._settings))
        except Exception as error:  # noqa: BLE001 - a client may trip over what a broker sends
            self.error = self._gone(f"the client cannot read what came ({type(error).__name__})")
        self.is_open = False
        if self._client is not None:
            with contextlib.suppress(OSError):
                if self.error is None:
                    self._do(self._client)  # what was wanted before the goodbye
                self._client.leave(forget=forget)
        for one in (self._wire, self._awake, self._waker):
            one.close()
        self._settled()

    def _talk(self, secret: str | None, topics: Sequence[str]) -> None:
        deadline = time.monotonic() + self._settings.timeout_s
        while wanted := self._wire.shake_hands():
            self._wait(wanted, _left(deadline))
        self._client = client = self._greeted(secret)
        while self._connack is None:
            self._turn(client, _left(deadline))
        self._check(*self._connack)
        if self._options.expects_session and self.session_is_new:
            raise _ForgottenError
        self._subscribe(client, topics)
        self.is_open = True
        self._settled()
        while True:
            self._turn(client, LOOK_S)

    def _greeted(self, secret: str | None) -> "WiredClient":
        from connectors.mqtt.client import WiredClient  # noqa: PLC0415 - paho, once it is opened

        options = self._options
        client = WiredClient(self._wire, self._settings, keeps_session=options.keeps_session)
        client.on_message = self._on_message
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = self._on_unsubscribe
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        if self._settings.user_name is not None:
            client.username_pw_set(self._settings.user_name, secret)
        if options.will is not None:
            client.will_set(*options.will, qos=1, retain=True)
        client.greet(
            session_expiry_s=options.session_expiry_s,
            receive_maximum=options.receive_maximum,
            packet_bytes=options.packet_bytes,
        )
        return client

    def _on_message(self, _: Any, __: Any, message: "MQTTMessage") -> None:
        # No two at one instant: without a time of their own they would be one.
        self._last = came = max(self._now(), self._last + 1)
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        said = getattr(message.properties, "UserProperty", ())
        one = Received(topic, message.payload, message.mid, message.retain, message.dup, said, came)
        self._bytes_in += one.size
        self.inbox.append(one)

    def _on_connect(self, _: Any, __: Any, flags: Any, reason: Any, ___: Any) -> None:
        self._connack = (reason, flags.session_present)

    def _on_subscribe(self, _: Any, __: Any, number: int, reasons: Any, ___: Any) -> None:
        for topic, reason in zip(self._asked.pop(number), reasons, strict=False):
            if reason.is_failure:
                self.refused[topic] = str(reason)
                log.error("%s: the broker does not let us read %r: %s.", self._name, topic, reason)
        self._then.pop(number, _nothing)()

    def _on_unsubscribe(self, _: Any, __: Any, number: int, reasons: Any, ___: Any) -> None:
        asked = self._asked.pop(number)
        for topic, reason in zip(asked, reasons, strict=False):  # 3.1.1 gives none
            if reason.value == NO_SUBSCRIPTION:
                self.not_ours.append(topic)
        self._then.pop(number, _nothing)()

    def _on_disconnect(self, _: Any, __: Any, flags: Any, reason: Any, ___: Any) -> None:
        if flags.is_disconnect_packet_from_server:
            self._farewell = f"it says: {reason}"

    def _check(self, reason: "ReasonCode", session_present: bool) -> None:  # noqa: FBT001 - as it came
        """Whether the broker lets us in. Raises NotReadyError, RefusedError."""
        self.session_present = session_present
        if not reason.is_failure:
            self.session_is_new = not session_present
            return
        if reason.value in (BAD_PROTOCOL, BAD_CLIENT_ID):
            raise RefusedError(
                f"{self._name}: broker {self._settings.where} refuses us: {reason}. Set `protocol` "
                f"(now {self._settings.protocol}) or `client_id` to what it takes",
                connector=self._name,
            )
        hint = "the broker's log says more"
        if reason.value in NO_ENTRY:
            hint = "check user_name and its password, and whom the broker lets in"
        raise self._not_ready(f"refuses us: {reason}. Trying again; {hint}")

    def _subscribe(self, client: "WiredClient", topics: Sequence[str]) -> None:
        """Ask for all topics; what is refused is noted. Raises NotReadyError if all are."""
        self.change(client, want=topics)
        # A full inbox: what the broker kept for us comes before its answer, and is to be taken.
        asked, deadline = 0, math.inf
        while self._asked and not self._is_full():
            if asked != len(self._asked):  # so many topics may take long, but not one answer
                asked, deadline = len(self._asked), time.monotonic() + self._settings.timeout_s
            self._turn(client, _left(deadline))
        if topics and len(self.refused) == len(topics):
            topic, why = next(iter(self.refused.items()))
            raise self._not_ready(
                f"lets us have none of {len(topics)} topics; {topic!r}: {why}. Trying again; let "
                "us read them, in the broker's access list"
            )

    def change(
        self,
        client: "WiredClient",
        *,
        want: Iterable[str] = (),
        give_up: Iterable[str] = (),
        then: "Callable[[], None] | None" = None,
    ) -> None:
        """Ask for topics, and have others no more; ``then`` when the last of it is answered."""
        number = 0
        for part in _packets(want):
            self._asked[number := client.ask_for(part)] = part
        had = [topic for topic in give_up if self.refused.pop(topic, None) is None]
        for part in _packets(had):
            self._asked[number := client.give_up(part)] = part
        if then is not None and number:
            self._then[number] = then
        elif then is not None:
            then()

    def _turn(self, client: "WiredClient", most_s: float) -> None:
        """Wait until something happens, and see to it. Raises ConnectorError, OSError."""
        wire, full = self._wire, self._is_full()
        wanted = (0 if full else select.POLLIN) | (select.POLLOUT if wire.unsent else 0)
        happened = self._wait(wanted, 0 if wire.waiting and not full else min(most_s, LOOK_S))
        self._do(client)
        if not full and (wire.waiting or happened & ~select.POLLOUT):
            self._read(client)
        elif happened & BROKEN:
            raise self._gone("the connection broke off")
        client.loop_misc()
        if client.socket() is not None:
            wire.flush()
        elif not (self._connack and self._connack[0].is_failure):
            raise self._gone(self._farewell or in_words(wire.error, self._settings))

    def _is_full(self) -> bool:
        """Whether the inbox can take no more. Raises LostError when that lasts too long."""
        if self.inbox_bytes < self._options.inbox_bytes:
            self._full_since = None
            return False
        now = time.monotonic()
        if self._full_since is None:
            self._full_since = now
        elif now - self._full_since > self._settings.keepalive_s / 2:
            raise self._gone("left in good order: no room for more here. It keeps the rest for us")
        return True

    def _wait(self, wanted: int, most_s: float) -> int:
        """Wait for the wire, or to be woken; what the wire is ready for. Raises _StoppedError."""
        wire = self._wire.fileno()
        if wire >= 0:
            self._poll.register(wire, wanted)
        happened = dict(self._poll.poll(most_s * 1000))
        if self._awake.fileno() in happened:
            with contextlib.suppress(BlockingIOError):
                self._awake.recv(4096)
        if self._stopping:
            raise _StoppedError
        return happened.get(wire, 0)

    def _do(self, client: "WiredClient") -> None:
        """What others wanted done."""
        while self._work:
            self._work.popleft()(client)

    def _read(self, client: "WiredClient") -> None:
        """Read what came, and tell of it once."""
        for _ in range(BURST):
            if (
                client.loop_read()
                or not self._wire.waiting
                or self.inbox_bytes >= self._options.inbox_bytes
            ):
                break
        if self.inbox and not self._told:
            self._told = True
            self._news()

    def _gone(self, why: str) -> ConnectorError:
        if self.is_open:
            return LostError(
                f"{self._name}: broker {self._settings.where}: {why}", connector=self._name
            )
        hint = "if it is older than MQTT 5, set protocol: 3.1.1"
        if self._settings.protocol != "5":
            hint = "its log says more"
        return self._not_ready(f"does not let us in: {why}. Trying again; {hint}")

    def _not_ready(self, what: str) -> NotReadyError:
        return NotReadyError(
            f"{self._name}: broker {self._settings.where} {what}", connector=self._name
        )


class _StoppedError(Exception):
    """Somebody wants it to end."""


class _ForgottenError(Exception):
    """The broker kept no session for us, and one was expected."""


def _packets(topics: Iterable[str]) -> Iterator[list[str]]:
    """Topics in their order, so many as go together."""
    part: list[str] = []
    size = 0
    for topic in topics:
        if len(part) == TOPICS_AT_ONCE or (part and size + len(topic) > TOPIC_BYTES):
            yield part
            part, size = [], 0
        part.append(topic)
        size += len(topic)
    if part:
        yield part


def _nothing() -> None:
    """Nobody waits for it."""


def _left(deadline: float) -> float:
    """Seconds until then. Raises TimeoutError when there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def in_words(error: Exception | None, settings: LinkSettings) -> str:
    """An error for people, without what was sent. None: nothing but silence was noticed."""
    why = "it is silent"
    match error:
        case ssl.SSLCertVerificationError():
            why = f"its certificate is not trusted: {error.verify_message} (tls.ca_file)"
        case ssl.SSLError():
            why = f"TLS failed: {error.reason or error} (tls)"
        case TimeoutError(errno=None):
            why = f"no answer in {settings.timeout_s:g} s"
        case OSError(errno=int(number)) if number > 0:  # not those of a name that has no address
            why = os.strerror(number)
        case Exception():
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return why
