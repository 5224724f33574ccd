"""What became of each picture, kept longer than the picture itself."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from models.vision.acceptance import Grade
from monitor.core.records import Outlook, PictureResult, SeenDefect
from monitor.state.database import EARLIEST, LATEST, DatabaseReader, Transaction


@dataclass(frozen=True, slots=True)
class PictureResults:
    """The results of one database. Times are event time, ns since 1970 UTC."""

    database: DatabaseReader

    def add(self, tx: Transaction, results: Iterable[PictureResult]) -> None:
        """Keep results without their features; one that is there already changes nothing."""
        tx.executemany(
            "INSERT INTO picture_result (camera, time, hash, body) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            [(one.camera, one.time, one.hash, _body(one)) for one in results],
        )

    def read(
        self,
        camera: int | None = None,
        since: int | None = None,
        until: int | None = None,
        *,
        limit: int = -1,
    ) -> list[PictureResult]:
        """Those in (since, until], the newest first; at most ``limit``, -1: all."""
        rows = self.database.query(
            "SELECT body FROM picture_result WHERE time > :since AND time <= :until"  # noqa: S608
            f"{'' if camera is None else ' AND camera = :camera'}"  # by the key: fast for a few
            " ORDER BY time DESC, camera, hash LIMIT :limit",
            {
                "camera": camera,
                "since": EARLIEST if since is None else since,
                "until": LATEST if until is None else until,
                "limit": limit,
            },
        )
        return [_result(json.loads(body)) for (body,) in rows]

    def newest(self) -> int:
        """The time of the newest, ns; 0: there is none."""
        ((time,),) = self.database.query("SELECT MAX(time) FROM picture_result")
        return int(time or 0)

    def forget(self, tx: Transaction, *, before: int, limit: int) -> int:
        """Delete those of ``before`` or earlier; how many, ``limit`` at most."""
        return tx.execute(
            "DELETE FROM picture_result WHERE (camera, time, hash) IN"
            " (SELECT camera, time, hash FROM picture_result WHERE time <= ?"
            " ORDER BY time LIMIT ?)",
            (before, limit),
        ).rowcount


def _body(one: PictureResult) -> str:
    given = asdict(one)
    del given["features"]  # the journal has them, for the step
    return json.dumps(given)


def _result(given: dict[str, Any]) -> PictureResult:
    made: dict[str, Any] = {
        "defects": tuple(SeenDefect.from_json(one) for one in given["defects"]),
        "grade": Grade(given["grade"]),
    }
    if given.get("outlook"):
        made["outlook"] = Outlook(**given["outlook"])
    return PictureResult(**(given | made))
