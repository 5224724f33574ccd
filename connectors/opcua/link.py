"""One session with a server: asyncua's client, without its own loops for subscriptions.

asyncua acknowledges a message when its callback returns and keeps a single publish request on its
way. Here the requests are ours (decision 20), so what ``asyncua.UaSession`` starts by itself when a
subscription is made goes round it. Everything below raises asyncua's errors, OSError and
TimeoutError; ``FAILURES`` names them, and within ``readable`` there is nothing else.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from asyncua import Client, ua
from asyncua.ua.ua_binary import struct_from_binary

from connectors.opcua.progress import Message
from connectors.opcua.settings import Settings
from connectors.opcua.values import nanoseconds

logger = logging.getLogger(__name__)

FAILURES = (ua.UaError, OSError, TimeoutError)
DENIED = (  # what servers answer to a wrong user or password
    ua.uaerrors.BadUserAccessDenied,
    ua.uaerrors.BadIdentityTokenInvalid,
    ua.uaerrors.BadIdentityTokenRejected,
)
CLOSE_S = 0.4  # for a server to hear goodbye; contract: closed within a second
ITEMS_PER_CALL = 1000  # where the server names no limit: some 100 kB a call
_NAMESPACES, _STARTED, _ITEMS_PER_CALL = 2255, 2257, 11714  # node ids: Part 6, annex A


@contextlib.contextmanager
def readable() -> Iterator[None]:
    """Make whatever a malformed answer lets asyncua, or us, trip over one of ``FAILURES``."""
    try:
        yield
    except (*FAILURES, AssertionError):
        raise
    except Exception as error:  # bytes can lead it to any: struct.error, ValueError, TypeError
        raise ua.uaerrors.UaStructParsingError(
            f"an answer that cannot be read ({type(error).__name__})"
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a server says of itself."""

    namespaces: tuple[str, ...]
    started: int  # ns, its own clock; 0: it does not say
    now: int  # ns, its own clock
    items_per_call: int


class Link:
    """A session, from connecting to closing; not used twice."""

    def __init__(self, settings: Settings, password: str | None) -> None:
        """Only makes it; ``connect`` connects."""
        client = Client(
            settings.url, timeout=settings.timeout_s, watchdog_intervall=settings.timeout_s
        )
        client.name = client.description = "Watchkeeper"
        client.application_uri = client.product_uri = "urn:watchkeeper"
        client.session_timeout = round(settings.lifetime_s * 1000)
        client.connection_lost_callback = self._on_lost
        if settings.user_name is not None:
            client.set_user(settings.user_name)
            client.set_password(password or "")
        self._client = client
        self._requests: set[asyncio.Task[Any]] = set()
        self.lost: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    async def connect(self) -> None:
        """Connect and log in."""
        await self._client.connect()

    async def close(self) -> None:
        """Leave, within a second even where nobody answers; subscriptions stay as they are."""
        for request in self._requests:
            request.cancel()
        await asyncio.gather(*self._requests, return_exceptions=True)
        self.lost.cancel()
        client, protocol = self._client, self._client.uaclient.protocol
        alive = protocol is not None and not protocol.is_closed
        with contextlib.suppress(*FAILURES):
            async with asyncio.timeout(CLOSE_S):
                if alive:
                    await client.uaclient.close_session(delete_subscriptions=False)
        with contextlib.suppress(*FAILURES):
            async with asyncio.timeout(CLOSE_S):
                await client.close_session()  # is closed: this ends the client's own tasks
                if alive:
                    await client.close_secure_channel()
        client.disconnect_socket()
        if protocol is not None and protocol.transport is not None:
            protocol.transport.abort()  # close() would wait for a peer that does not read
        await asyncio.sleep(0)  # the transport tells its protocol in the next round

    async def facts(self) -> Facts:
        """Read what we need to know of the server, in one call.

        Its time is that of its answer: some servers write their CurrentTime once a second only.
        """
        request = ua.ReadRequest()
        for number in (_NAMESPACES, _STARTED, _ITEMS_PER_CALL):
            wanted = ua.ReadValueId(ua.NodeId(ua.Int32(number)), ua.AttributeIds.Value)
            request.Parameters.NodesToRead.append(wanted)
        response = await self._call(request, ua.ReadResponse)
        namespaces, started, limit = (
            one.Value.Value if one.Value is not None else None for one in response.Results
        )
        return Facts(
            namespaces=tuple(namespaces or ()),
            started=nanoseconds(started) or 0,
            now=nanoseconds(response.ResponseHeader.Timestamp) or time.time_ns(),
            items_per_call=min(limit or ITEMS_PER_CALL, ITEMS_PER_CALL),
        )

    # ---- subscriptions --------------------------------------------------------------------------

    async def create_subscription(
        self, parameters: ua.CreateSubscriptionParameters
    ) -> ua.CreateSubscriptionResult:
        """Make a subscription; what the server made of the request comes back."""
        request = ua.CreateSubscriptionRequest()
        request.Parameters = parameters
        response = await self._call(request, ua.CreateSubscriptionResponse)
        revised: ua.CreateSubscriptionResult = response.Parameters
        return revised

    async def modify_subscription(
        self, parameters: ua.ModifySubscriptionParameters
    ) -> ua.ModifySubscriptionResult:
        """Ask for other intervals."""
        return await self._client.uaclient.update_subscription(parameters)

    async def transfer(self, ids: Sequence[int]) -> list[set[int] | None]:
        """Take subscriptions over: what each still holds, by sequence number; None: it is gone."""
        parameters = ua.TransferSubscriptionsParameters()
        parameters.SubscriptionIds = [ua.IntegerId(one) for one in ids]
        parameters.SendInitialValues = False
        results = await self._client.uaclient.transfer_subscriptions(parameters)
        return [
            {int(one) for one in result.AvailableSequenceNumbers or ()}
            if result.StatusCode.is_good()
            else None
            for result in results
        ]

    async def republish(self, subscription: int, sequence: int) -> ua.NotificationMessage | None:
        """A message once more; None: the server has it no longer, or we cannot read it."""
        try:
            message = await self._client.uaclient.session.republish(subscription, sequence)
        except ua.UaError:
            return None
        return message if message.NotificationData else None

    async def create_items(
        self, subscription: int, items: Sequence[ua.MonitoredItemCreateRequest]
    ) -> list[ua.MonitoredItemCreateResult]:
        """Make items in one call."""
        parameters = ua.CreateMonitoredItemsParameters()
        parameters.SubscriptionId = ua.IntegerId(subscription)
        parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
        parameters.ItemsToCreate = list(items)
        return await self._client.uaclient.create_monitored_items(parameters)

    async def delete_items(self, subscription: int, items: Iterable[int]) -> None:
        """Let go of items; those that are gone already do not matter."""
        parameters = ua.DeleteMonitoredItemsParameters()
        parameters.SubscriptionId = ua.IntegerId(subscription)
        parameters.MonitoredItemIds = [ua.IntegerId(one) for one in items]
        if parameters.MonitoredItemIds:
            await self._client.uaclient.delete_monitored_items(parameters)

    def publish(self, acknowledged: Sequence[Message]) -> asyncio.Task[ua.PublishResponse]:
        """Have the server send the next message; it forgets those that are acknowledged."""
        acknowledgements = [
            ua.SubscriptionAcknowledgement(SubscriptionId=one, SequenceNumber=sequence)
            for one, sequence in acknowledged
        ]
        task = asyncio.create_task(self._client.uaclient.publish(acknowledgements))
        self._requests.add(task)
        task.add_done_callback(self._answered)
        return task

    def _answered(self, request: asyncio.Task[Any]) -> None:
        self._requests.discard(request)
        if not request.cancelled():
            request.exception()  # looked at, or asyncio says that nobody did

    async def _call(self, request: Any, response_type: type[Any]) -> Any:
        """A service that asyncua's session would add something to."""
        protocol = self._client.uaclient.protocol
        if protocol is None:
            raise ConnectionError("the connection is closed")
        response = struct_from_binary(response_type, await protocol.send_request(request))
        response.ResponseHeader.ServiceResult.check()
        return response

    async def _on_lost(self, error: Exception) -> None:
        """The socket is gone, or the server no longer answers the client's own question."""
        if not self.lost.done():
            self.lost.set_result(error)
