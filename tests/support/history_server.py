"""An OPC UA server with a history that outlives it: ``python history_server.py '{"port": ...}'``.

Told what to do like tests/node/opcua_server.js: a line is a list of {"set", "value", "time"}. A
value is on the disk before the server shows it, and shown before the answer {"done": true}: what
was answered is in the history, whatever becomes of this process.
"""

import asyncio
import json
import logging
import sqlite3
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from asyncua import Server, ua
from asyncua.server.history import HistoryStorageInterface

MOST = 1000  # values in an answer; the rest has to be asked for


class Disk(HistoryStorageInterface):
    """Values of nodes in one SQLite file. Times are whole ms since 1970."""

    def __init__(self, path: str) -> None:
        self._database = sqlite3.connect(path)
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS history (node TEXT, time INT, value REAL,"
            " PRIMARY KEY (node, time)) WITHOUT ROWID"
        )
        self.max_history_data_response_size = MOST

    def write(self, rows: Iterable[tuple[str, int, float]]) -> None:
        """Keep values for good."""
        with self._database:
            self._database.executemany("INSERT OR REPLACE INTO history VALUES (?, ?, ?)", rows)

    def last(self, node: str) -> tuple[int, float] | None:
        """The newest value."""
        asked = "SELECT time, value FROM history WHERE node = ? ORDER BY time DESC LIMIT 1"
        found: tuple[int, float] | None = self._database.execute(asked, (node,)).fetchone()
        return found

    async def read_node_history(
        self, node_id: ua.NodeId, start: datetime | None, end: datetime | None, nb_values: int
    ) -> tuple[list[ua.DataValue], datetime | None]:
        """Values in [start, end], the oldest first, or the newest where only the end is given."""
        since = -1 << 62 if start is None or start.year < 1971 else ms(start)
        until = 1 << 62 if end is None or end.year < 1971 else ms(end)
        order = "ASC" if since <= until and since > -1 << 62 else "DESC"
        least, most = sorted((since, until))
        most_rows = min(nb_values or MOST, MOST)
        # The order is one of two words.
        rows = self._database.execute(
            "SELECT time, value FROM history WHERE node = ? AND time BETWEEN ? AND ?"  # noqa: S608
            f" ORDER BY time {order} LIMIT ?",
            (node_id.Identifier, least, most, most_rows + 1),
        ).fetchall()
        values = [data_value(*row) for row in rows]
        rest = values[most_rows].SourceTimestamp if len(values) > most_rows else None
        return values[:most_rows], rest

    async def init(self) -> None:
        """Nothing."""

    async def new_historized_node(self, *_: Any, **__: Any) -> None:
        """Nothing: all nodes share a table."""

    async def save_node_value(self, *_: Any, **__: Any) -> None:
        """Nothing: it was written before it was shown."""

    async def new_historized_event(self, *_: Any, **__: Any) -> None:
        """There are none."""

    async def save_event(self, *_: Any, **__: Any) -> None:
        """There are none."""

    async def read_event_history(self, *_: Any, **__: Any) -> Any:
        """There are none."""

    async def stop(self) -> None:
        """Nothing is open."""


def ms(when: datetime) -> int:
    """Whole ms since 1970; a time without a zone is UTC."""
    return round(when.replace(tzinfo=when.tzinfo or UTC).timestamp() * 1000)


def data_value(time: int, value: float) -> ua.DataValue:
    """As the device would say it."""
    at = datetime.fromtimestamp(time // 1000, UTC) + timedelta(milliseconds=time % 1000)
    return ua.DataValue(
        ua.Variant(value, ua.VariantType.Double), SourceTimestamp=at, ServerTimestamp=at
    )


async def main(given: dict[str, Any]) -> None:
    """Serve until the process ends; nodes show what they showed last."""
    logging.disable(logging.WARNING)  # clients that were killed are no news here
    disk = Disk(given["history"])
    server = Server()
    server.iserver.history_manager.set_storage(disk)
    await server.init()
    server.set_endpoint(f"opc.tcp://{given.get('host', '127.0.0.1')}:{given['port']}")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    index = await server.register_namespace("urn:test:plant")
    nodes = {}
    for name in given["nodes"]:
        node_id = ua.NodeId(name, index)
        nodes[name] = await server.nodes.objects.add_variable(node_id, name, 0.0)
        if (last := disk.last(name)) is not None:
            await server.write_attribute_value(node_id, data_value(*last))
        await server.historize_node_data_change(nodes[name], period=None, count=0)
    await server.start()
    print(json.dumps({"ready": True}), flush=True)  # noqa: T201 - read by the parent
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        told = json.loads(line)
        disk.write((one["set"], one["time"], one["value"]) for one in told)
        for one in told:
            data = data_value(one["time"], one["value"])
            await server.write_attribute_value(nodes[one["set"]].nodeid, data)
        print(json.dumps({"done": True}), flush=True)  # noqa: T201 - as above


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
