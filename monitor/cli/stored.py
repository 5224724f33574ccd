"""What commands that only look share: the stored state of the service, or of a backfill."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from monitor.cli import console
from monitor.cli.backfill import FOLDER
from monitor.state.database import DatabaseReader

if TYPE_CHECKING:
    from monitor.site.config import Config


@contextmanager
def stored(config: "Config", *, backfill: bool) -> Iterator[DatabaseReader]:
    """The state of the service, or of the last backfill. Raises StopError where there is none."""
    folder = config.data_dir / FOLDER if backfill else config.data_dir
    if not (folder / "state.db").exists():
        how = "watchkeeper backfill" if backfill else "watchkeeper run"
        raise console.StopError(
            f"{folder}: nothing is stored there yet; `{how}` makes it.", code=console.Exit.NOT_READY
        )
    with DatabaseReader(folder) as database:
        yield database
