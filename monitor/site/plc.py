"""An OPC UA server with a variable a tag, for plants that are played: the demo's, the simulator's.

The other side of our connector, and made without it. Whoever imports this starts a server.
"""

import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from asyncua import Server, ua
from asyncua.server.history import HistoryStorageInterface

WAITING_FOR_DATA = 0x8032_0000  # Bad_WaitingForInitialData, OPC UA Part 6, A.2
HOST = "127.0.0.1"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@asynccontextmanager
async def serving(
    tags: Mapping[str, Sequence[str]],
    *,
    port: int,
    namespace: str,
    history: HistoryStorageInterface | None = None,
) -> AsyncIterator[tuple[Server, dict[str, ua.NodeId]]]:
    """A server with a folder an asset and a variable a tag, and their node ids by "asset.tag".

    Nothing was measured yet. With a history, it answers for what was. Raises OSError, with the
    port for its file name, where that cannot be listened on.
    """
    try:  # first of all: asyncua logs where it failed, and names no port
        socket.create_server((HOST, port)).close()
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"port {port}") from error
    server = Server()
    if history is not None:
        server.iserver.history_manager.set_storage(history)
    await server.init()
    server.set_endpoint(f"opc.tcp://{HOST}:{port}")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    index = ua.Int16(await server.register_namespace(namespace))
    nodes = {}
    for asset, names in tags.items():
        folder = await server.nodes.objects.add_folder(ua.NodeId(ua.String(asset), index), asset)
        for tag in names:
            name = f"{asset}.{tag}"
            variable = await folder.add_variable(
                ua.NodeId(ua.String(name), index), tag, ua.Variant(0.0, ua.VariantType.Double)
            )
            nothing_yet = ua.DataValue(
                StatusCode=ua.StatusCode(ua.UInt32(WAITING_FOR_DATA)),
                SourceTimestamp=datetime.now(UTC),  # type: ignore[arg-type]  # it takes any
            )
            await server.write_attribute_value(variable.nodeid, nothing_yet)
            if history is not None:
                for attribute in (ua.AttributeIds.AccessLevel, ua.AttributeIds.UserAccessLevel):
                    await variable.set_attr_bit(attribute, ua.AccessLevel.HistoryRead)
            nodes[name] = variable.nodeid
    async with server:
        yield server, nodes


def measured(value: float, stamp_ms: int) -> ua.DataValue:
    """A value with the instant it stands for, ms since 1970."""
    moment = EPOCH + timedelta(milliseconds=stamp_ms)
    return ua.DataValue(
        ua.Variant(value, ua.VariantType.Double),
        SourceTimestamp=moment,  # type: ignore[arg-type]  # it takes any
        ServerTimestamp=moment,  # type: ignore[arg-type]  # as above
    )
