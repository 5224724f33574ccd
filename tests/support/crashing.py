"""A small service to be killed: ``python crashing.py FOLDER COUNT`` takes in records up to COUNT.

It resumes its one source at the journal's position, steps each record, stores the results, and
takes a snapshot now and then, as the service does. Record n carries the value n; the step adds up
what it saw. It prints each record's number once the writer said that it is stored.
"""

import sys
from collections import deque
from functools import partial
from pathlib import Path

import numpy as np
from support.keeping import batch, message, scores

from connectors.points import Message
from monitor.core.records import Results
from monitor.state.database import Database
from monitor.state.journal import Journal, encode
from monitor.state.names import Names
from monitor.state.outbox import Outbox
from monitor.state.snapshot import Snapshots, save
from monitor.state.store import Store
from monitor.state.writer import Writer

IN_FLIGHT = 12
SNAPSHOT_EACH = 25  # records


class Service:
    """The parts of a service that must survive its death."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(folder)
        self.journal = Journal(self.database)
        self.store = Store(self.database)
        self.outbox = Outbox(self.database)
        self.snapshots = Snapshots(self.database)
        self.total = np.zeros(1)
        self.stepped = 0
        with self.database.atomic() as tx:
            Names(self.database).asset_ids(tx, ["p1"])
            self.outbox.register(tx, {"hook": (Message,)})
        snapshot = self.snapshots.latest()
        if snapshot is not None:
            self.total = snapshot.tree["total"]
            self.stepped = snapshot.record
        self.writer = Writer(self.database, group_s=0.001)

    def catch_up(self) -> None:
        """Step what is in the journal and was not stepped; store what is not stored."""
        for number, record in self.journal.read(self.stepped):
            self.total += record.body.value.sum()
            self.stepped = number
            results = Results(scores=(scores([number], surprise=float(self.total[0])),))
            self.writer.submit(partial(self._store, results, number), size=500)
            if number % SNAPSHOT_EACH == 0:
                self._snapshot(number)

    def take_in(self, count: int) -> None:
        """Append records up to ``count``, several in flight; print what is stored."""
        waiting = deque()
        for number in range(int(self.journal.positions().get("press", "0")) + 1, count + 1):
            row = encode(batch(number, size=20))
            waiting.append(
                self.writer.submit(lambda tx, row=row: self.journal.append(tx, row), size=500)
            )
            if len(waiting) == IN_FLIGHT:
                print(waiting.popleft().result(), flush=True)  # noqa: T201 - the parent reads it
                self.catch_up()
        for future in waiting:
            print(future.result(), flush=True)  # noqa: T201 - the parent reads it
        self.catch_up()

    def close(self) -> None:
        self.writer.close()
        self.database.close()

    def _store(self, results: Results, number: int, tx) -> None:
        if self.store.write(tx, results, done=number):
            self.outbox.put(tx, [message(f"m{number}")])

    def _snapshot(self, number: int) -> None:
        self.writer.submit(lambda _: None, size=1).result()  # all results before it are stored
        save(self.database, self.snapshots, {"total": self.total}, record=number)
        with self.database.atomic() as tx:
            self.journal.forget(tx, self.snapshots.oldest() + 1)


if __name__ == "__main__":
    service = Service(Path(sys.argv[1]))
    service.catch_up()
    service.take_in(int(sys.argv[2]))
    service.close()
