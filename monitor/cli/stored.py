"""What commands share: the stored state of a service or a backfill, and a service that runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

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
        scored = not backfill and (folder / FOLDER / "state.db").exists()
        there = " What the last backfill found is shown with --backfill." if scored else ""
        raise console.StopError(
            f"{folder}: nothing is stored there yet; `{how}` makes it.{there}",
            code=console.Exit.NOT_READY,
        )
    with DatabaseReader(folder) as database:
        yield database


def running(config: "Config") -> dict[str, Any] | None:
    """How the service stands, as it says itself; None where none runs. Raises StopError."""
    from monitor.live.control import NotRunningError  # noqa: PLC0415 - commands import when they run

    try:
        found: dict[str, Any] = _ask(config, "status")
    except NotRunningError:
        return None
    return found


def asked(config: "Config", request: str, **given: Any) -> Any:
    """What the running service answers; ``given`` as for ``control.ask``.

    Raises StopError where none runs, or it will not.
    """
    from monitor.live.control import NotRunningError  # noqa: PLC0415 - as above

    try:
        return _ask(config, request, **given)
    except NotRunningError as error:
        raise console.StopError(str(error), code=console.Exit.NOT_READY) from None


def _ask(config: "Config", request: str, **given: Any) -> Any:
    from monitor.live.control import RequestError, ask  # noqa: PLC0415 - as above

    try:
        return ask(config.data_dir, request, **given)
    except RequestError as error:
        raise console.StopError(f"{error}.", code=console.Exit.REFUSED) from None
