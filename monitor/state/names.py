"""The numbers that tags, assets and cameras carry in arrays: given once, never to another.

Stored batches and scores mean by number what they meant when they were written, whatever the
configuration became.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from monitor.state.database import DatabaseReader, Transaction


class Family(StrEnum):
    """What is numbered; each family counts from 0."""

    TAG = "tag"
    ASSET = "asset"
    CAMERA = "camera"


@dataclass(frozen=True, slots=True)
class Names:
    """The registry of one database."""

    database: DatabaseReader

    def tag_ids(self, tx: Transaction, names: Iterable[str]) -> dict[str, int]:
        """The number of each tag, new ones given now."""
        return _ids(tx, Family.TAG, names)

    def asset_ids(self, tx: Transaction, names: Iterable[str]) -> dict[str, int]:
        """The number of each asset, new ones given now."""
        return _ids(tx, Family.ASSET, names)

    def camera_ids(self, tx: Transaction, names: Iterable[str]) -> dict[str, int]:
        """The number of each camera, new ones given now."""
        return _ids(tx, Family.CAMERA, names)

    def take_over(self, tx: Transaction, family: Family, numbers: Mapping[int, str]) -> None:
        """Give a family the numbers it has elsewhere, as of() tells them; it must have none yet."""
        tx.executemany(
            "INSERT INTO name (family, id, name) VALUES (?, ?, ?)",
            [(family, number, name) for number, name in numbers.items()],
        )

    def of(self, family: Family) -> dict[int, str]:
        """Every name ever numbered, by number."""
        rows = self.database.query("SELECT id, name FROM name WHERE family = ?", (family,))
        return dict(rows)


def _ids(tx: Transaction, family: Family, names: Iterable[str]) -> dict[str, int]:
    """Known numbers of one family, and the next free ones for names that have none."""
    known = {
        name: number
        for number, name in tx.execute("SELECT id, name FROM name WHERE family = ?", (family,))
    }
    wanted = dict.fromkeys(names)
    new = {
        name: number
        for number, name in enumerate((n for n in wanted if n not in known), start=len(known))
    }
    tx.executemany(
        "INSERT INTO name (family, id, name) VALUES (?, ?, ?)",
        [(family, number, name) for name, number in new.items()],
    )
    return {name: (known | new)[name] for name in wanted}
