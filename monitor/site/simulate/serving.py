"""Ticks into an OPC UA server of our own, and its history, which is the ledger."""

import asyncio
import math
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from asyncua import Server, ua
from asyncua.server.history import HistoryStorageInterface
from asyncua.server.internal_subscription import InternalSubscription
from numpy.typing import NDArray

from monitor.site.plc import EPOCH, measured, serving
from monitor.site.simulate.ledger import Ledger
from monitor.site.simulate.plan import NAMESPACE, Lane
from monitor.site.simulate.values import Values

MOST_AT_ONCE = 10_000  # values of one answer
WRITES_A_TURN = 100  # then the server may answer somebody
FAR = datetime(2100, 1, 1, tzinfo=UTC)


class Plc:
    """The variables of all lanes that go over OPC UA."""

    def __init__(self, server: Server, nodes: dict[str, ua.NodeId], ledger: Ledger) -> None:
        self._server, self._ledger = server, ledger
        self._nodes = nodes
        self.acknowledged = 0  # samples

    async def send(self, number: int, lane: Lane, tick: int, values: NDArray[Any]) -> None:
        """Write a tick, values [A, C]: what is in the server has been sent."""
        stamp_ms, written = tick * lane.period_ms, 0
        channels = lane.channel_names
        for asset, row in zip(lane.asset_names, values.tolist(), strict=True):
            for channel, value in zip(channels, row, strict=True):
                if math.isnan(value):  # there was no sample
                    continue
                node = self._nodes[f"{asset}.{channel}"]
                await self._server.write_attribute_value(node, measured(value, stamp_ms))
                written += 1
                if written % WRITES_A_TURN == 0:
                    await asyncio.sleep(0)
        self._ledger.acknowledge(number, tick)
        self.acknowledged += written

    @property
    def unfetched(self) -> int:
        """Items and messages that subscribers have not taken, or not acknowledged.

        Somebody who went without a word never will.
        """
        return sum(
            len(one._triggered_datachanges) + len(one._not_acknowledged_results)  # noqa: SLF001
            for one in self._subscriptions
        )

    def ask(self) -> None:
        """Have who has not acknowledged all of it do so soon: that comes with the next request.

        A subscriber sends one for each answer, and there is none where nothing is written any more:
        a sign of life will do.
        """
        for one in self._subscriptions:
            if one._not_acknowledged_results:  # noqa: SLF001
                one._keep_alive_count = one.data.RevisedMaxKeepAliveCount  # noqa: SLF001

    @property
    def _subscriptions(self) -> Collection[InternalSubscription]:
        return self._server.iserver.subscription_service.subscriptions.values()


@asynccontextmanager
async def plc(ledger: Ledger, values: Values) -> AsyncIterator[Plc]:
    """The server, listening, for as long as the block lasts. Raises OSError for a port in use."""
    simulation = ledger.simulation
    lanes = [lane for lane in simulation.lanes if not lane.over_mqtt]
    tags = {asset: lane.channel_names for lane in lanes for asset in lane.asset_names}
    assert simulation.opcua_port is not None  # noqa: S101 - whoever calls has looked
    history = LedgerHistory(ledger, values) if simulation.history else None
    async with serving(tags, port=simulation.opcua_port, namespace=NAMESPACE, history=history) as (
        server,
        nodes,
    ):
        yield Plc(server, nodes, ledger)


class LedgerHistory(HistoryStorageInterface):
    """What every variable was, worked out from the ticks that the ledger has.

    It outlives the process as the ledger does, and costs nothing while values are written.
    """

    def __init__(self, ledger: Ledger, values: Values) -> None:
        super().__init__(MOST_AT_ONCE)
        self._ledger, self._values = ledger, values
        self._places = {
            f"{asset}.{channel}": (number, lane, place, column)
            for number, lane in enumerate(ledger.simulation.lanes)
            if not lane.over_mqtt
            for place, asset in enumerate(lane.asset_names)
            for column, channel in enumerate(lane.channel_names)
        }

    async def init(self) -> None:
        """Nothing to be done."""

    async def stop(self) -> None:
        """Nothing to be done."""

    async def read_node_history(
        self, node_id: ua.NodeId, start: datetime | None, end: datetime | None, nb_values: int
    ) -> tuple[list[ua.DataValue], datetime | None]:
        """Values from ``start`` to ``end``, both included, and where to go on if that is not all.

        Newest first where the start is the later one, or missing.
        """
        known = self._places.get(str(node_id.Identifier))
        if known is None:
            return [], None
        number, lane, place, column = known
        since, until = (None if one == ua.get_win_epoch() else one for one in (start, end))
        backward = since is None or (until is not None and since > until)
        if since is not None and backward:
            since, until = until, since
        first = -(-_us(since or EPOCH) // (lane.period_ms * 1000))
        last = _us(until or FAR) // (lane.period_ms * 1000)
        limit = MOST_AT_ONCE + 1
        if nb_values and not lane.kind:  # a tick of a machine may have no sample
            limit = min(nb_values, limit)
        ticks = self._ledger.ticks(
            number, first=first, last=last, limit=limit, newest_first=backward
        )
        now, later = ticks[:MOST_AT_ONCE], ticks[MOST_AT_ONCE:]
        rows = np.full(len(now), place), np.full(len(now), column), np.array(now, np.int64)
        found = [
            measured(value, tick * lane.period_ms)
            for tick, value in zip(now, self._values.at(number, *rows).tolist(), strict=True)
            if not math.isnan(value)
        ]
        if nb_values and len(found) >= nb_values:
            return found[:nb_values], None
        return found, _moment(later[0] * lane.period_ms) if later else None


def _moment(stamp_ms: int) -> datetime:
    return EPOCH + timedelta(milliseconds=stamp_ms)


def _us(moment: datetime) -> int:
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - EPOCH) // timedelta(microseconds=1)
