"""One session with a server: asyncua's client, without its own loops for subscriptions.

asyncua acknowledges a message when its callback returns and keeps a single publish request on its
way. Here the requests are ours (decision 24), so what ``asyncua.UaSession`` starts by itself when a
subscription is made goes round it. Everything below raises asyncua's errors, OSError and
TimeoutError; ``FAILURES`` names them, and within ``readable`` there is nothing else.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from asyncua import Client, ua
from asyncua.ua.ua_binary import struct_from_binary

from connectors.opcua.progress import Message
from connectors.opcua.settings import Settings
from connectors.opcua.values import nanoseconds
from connectors.stamps import OLDEST_NS

Result = TypeVar("Result")

logger = logging.getLogger(__name__)

FAILURES = (ua.UaError, OSError, TimeoutError)
DENIED = (  # what servers answer to a wrong user or password
    ua.uaerrors.BadUserAccessDenied,
    ua.uaerrors.BadIdentityTokenInvalid,
    ua.uaerrors.BadIdentityTokenRejected,
)
ENDS = (  # what is said of the link, not of what was asked
    ua.uaerrors.UaStructParsingError,
    ua.uaerrors.BadConnectionClosed,
    ua.uaerrors.BadCommunicationError,
    ua.uaerrors.BadSecureChannelClosed,
    ua.uaerrors.BadSecureChannelIdInvalid,
    ua.uaerrors.BadServerHalted,
    ua.uaerrors.BadServerNotConnected,
    ua.uaerrors.BadSessionClosed,
    ua.uaerrors.BadSessionIdInvalid,
    ua.uaerrors.BadShutdown,
)
CLOSE_S = 0.4  # for a server to hear goodbye; contract: closed within a second
ITEMS_PER_CALL = 1000  # where the server names no limit: some 100 kB a call
HISTORIES_PER_CALL = 20  # the same for HistoryRead, whose answers are longer
PATIENCE = 4  # times timeout_s: history lies on disks
# Node ids: Part 6, annex A
_NAMESPACES, STARTED, _ITEMS_PER_CALL = 2255, 2257, 11714
_READS_PER_CALL, _PATHS_PER_CALL, _HISTORIES_PER_CALL = 11705, 11712, 12165
_SERVER, _GET_MONITORED_ITEMS, _HAS_PROPERTY = 2253, 11492, 46


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
    skew_s: float  # of its clock, ahead of ours
    items_per_call: int
    reads_per_call: int
    paths_per_call: int
    histories_per_call: int


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
        """Connect and log in.

        A server may answer on this connection what an earlier one of ours had asked (asyncua's
        does, for subscriptions that were handed over). asyncua would take that for the answer to
        the request of ours that has the same number, or close the connection. So our numbers begin
        somewhere else each time, and an answer to no request of ours is passed over.
        """
        await self._client.connect()
        protocol: Any = self._client.uaclient.protocol
        if protocol is None:
            raise ConnectionError("the connection is closed")
        protocol._request_id += random.randrange(1 << 30)  # noqa: S311, SLF001
        waiting, pass_on = protocol._callbackmap, protocol._call_callback  # noqa: SLF001

        def answered(number: int, body: Any) -> None:
            if number in waiting:
                pass_on(number, body)
            else:
                logger.debug("An answer to request %d, which is none of ours.", number)

        protocol._call_callback = answered  # noqa: SLF001

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
        limits = (_ITEMS_PER_CALL, _READS_PER_CALL, _PATHS_PER_CALL, _HISTORIES_PER_CALL)
        request = ua.ReadRequest()
        for number in (_NAMESPACES, STARTED, *limits):
            wanted = ua.ReadValueId(ua.NodeId(ua.Int32(number)), ua.AttributeIds.Value)
            request.Parameters.NodesToRead.append(wanted)
        asked = time.time_ns()
        response = await self._call(request, ua.ReadResponse)
        answered = time.time_ns()
        namespaces, started, items, reads, paths, histories = (
            one.Value.Value if one.Value is not None else None for one in response.Results
        )
        now = nanoseconds(response.ResponseHeader.Timestamp) or answered
        return Facts(
            namespaces=tuple(namespaces or ()),
            started=nanoseconds(started) or 0,
            now=now if now >= OLDEST_NS else answered,
            skew_s=(now - (asked + answered) // 2) / 1e9,
            items_per_call=min(items or ITEMS_PER_CALL, ITEMS_PER_CALL),
            reads_per_call=min(reads or ITEMS_PER_CALL, ITEMS_PER_CALL),
            paths_per_call=min(paths or ITEMS_PER_CALL, ITEMS_PER_CALL),
            histories_per_call=min(histories or HISTORIES_PER_CALL, HISTORIES_PER_CALL),
        )

    async def read(
        self, nodes: Sequence[ua.NodeId], attribute: ua.AttributeIds = ua.AttributeIds.Value
    ) -> list[Any]:
        """One attribute of nodes, in one call; None for what cannot be had."""
        request = ua.ReadRequest()
        request.Parameters.NodesToRead = [ua.ReadValueId(node, attribute) for node in nodes]
        response = await self._call(request, ua.ReadResponse)
        return [one.Value.Value if one.Value is not None else None for one in response.Results]

    async def properties(self, paths: Sequence[tuple[ua.NodeId, str]]) -> list[ua.NodeId | None]:
        """The nodes of properties by their names, in one call; None: there is no such."""
        wanted = []
        for node, name in paths:
            step: Any = ua.RelativePathElement()
            step.ReferenceTypeId = ua.NodeId(ua.Int32(_HAS_PROPERTY))
            step.IsInverse, step.IncludeSubtypes = False, True
            step.TargetName = ua.QualifiedName(name, ua.UInt16(0))
            path = ua.BrowsePath(StartingNode=node)
            path.RelativePath.Elements = [step]
            wanted.append(path)
        results = await self._client.uaclient.translate_browsepaths_to_nodeids(wanted)
        return [
            one.Targets[0].TargetId if one.StatusCode.is_good() and one.Targets else None
            for one in results
        ]

    async def history(
        self,
        nodes: Sequence[tuple[ua.NodeId, bytes | None]],
        *,
        since: datetime,
        until: datetime,
        most: int,
    ) -> list[ua.HistoryReadResult]:
        """Raw history of nodes, each from its continuation point on, in one call."""
        request = ua.HistoryReadRequest()
        parameters = request.Parameters
        parameters.HistoryReadDetails = ua.ReadRawModifiedDetails(
            IsReadModified=False,
            StartTime=since,
            EndTime=until,
            NumValuesPerNode=ua.Counter(most),
            ReturnBounds=False,
        )
        parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
        parameters.ReleaseContinuationPoints = False
        parameters.NodesToRead = [
            ua.HistoryReadValueId(NodeId=node, ContinuationPoint=point) for node, point in nodes
        ]
        response = await self._call(request, ua.HistoryReadResponse, patience=PATIENCE)
        results: list[ua.HistoryReadResult] = response.Results
        return results

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

    async def delete_subscription(self, subscription: int) -> None:
        """Let go of a subscription; one that is gone already does not matter."""
        parameters = ua.DeleteSubscriptionsParameters()
        parameters.SubscriptionIds = [ua.IntegerId(subscription)]
        request = ua.DeleteSubscriptionsRequest()
        request.Parameters = parameters
        await self._call(request, ua.DeleteSubscriptionsResponse)

    async def items(self, subscription: int) -> dict[int, int] | None:
        """The items that a subscription has, by our handles; None: the server does not tell."""
        request = ua.CallMethodRequest()
        request.ObjectId = ua.NodeId(ua.Int32(_SERVER))
        request.MethodId = ua.NodeId(ua.Int32(_GET_MONITORED_ITEMS))
        request.InputArguments = [ua.Variant(subscription, ua.VariantType.UInt32)]
        try:
            (result,) = await self._client.uaclient.call([request])
        except ua.UaError:
            return None
        if not result.StatusCode.is_good() or len(result.OutputArguments) != 2:
            return None
        theirs, ours = (one.Value or () for one in result.OutputArguments)
        return {int(handle): int(item) for handle, item in zip(ours, theirs, strict=True)}

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
        return self.task(self._client.uaclient.publish(acknowledgements))

    def task(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Work that ends when the link is closed."""
        task = asyncio.create_task(work)
        self._requests.add(task)
        task.add_done_callback(self._answered)
        return task

    def _answered(self, request: asyncio.Task[Any]) -> None:
        self._requests.discard(request)
        if not request.cancelled():
            request.exception()  # looked at, or asyncio says that nobody did

    async def _call(self, request: Any, response_type: type[Any], *, patience: float = 1) -> Any:
        """A service that asyncua's session would add something to.

        ``patience``: how many times ``timeout_s`` it may take.
        """
        protocol = self._client.uaclient.protocol
        if protocol is None:
            raise ConnectionError("the connection is closed")
        answer = await protocol.send_request(request, timeout=patience * protocol.timeout)
        response = struct_from_binary(response_type, answer)
        response.ResponseHeader.ServiceResult.check()
        return response

    async def _on_lost(self, error: Exception) -> None:
        """The socket is gone, or the server no longer answers the client's own question."""
        if not self.lost.done():
            self.lost.set_result(error)
