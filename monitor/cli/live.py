"""A plant while it runs, in a terminal: its sources with their rates, its assets, what stands.

Read from what is stored, by a thread of its own: the service does not know that it is watched.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monitor.cli.console import duration, err, local
from monitor.cli.words import looks_like
from monitor.live.clock import SystemClock

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

LOOK_S = 0.5
BAR = 24  # characters; the threshold stands at two thirds of it
MOST_ASSETS = 20  # of many, those that stand or are nearest to it
SHOWN_ALARMS = 5
RUNNING = {"ok": "scored", "warming": "warming up", "blind": "blind", "off": "not running"}


@contextmanager
def watching(folder: Path, *, zone: str) -> Iterator[None]:
    """Show the plant whose data are in ``folder`` until the block ends; nothing without a terminal.

    Times are shown in ``zone``.
    """
    console = err()
    if not console.is_terminal:
        yield
        return
    from rich.live import Live  # noqa: PLC0415 - only where there is somebody to look

    ended = threading.Event()
    with Live(console=console, transient=True, auto_refresh=False) as live:

        def show() -> None:
            from monitor.site.status import summary  # noqa: PLC0415 - as above
            from monitor.state.database import DatabaseReader  # noqa: PLC0415 - as above

            with DatabaseReader(folder) as database:
                rates = Rates()
                while not ended.wait(LOOK_S):
                    found = summary(database)
                    live.update(view(found, rates.of(found), zone=zone), refresh=True)

        thread = threading.Thread(target=show, name="live view", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


class Rates:
    """Samples a second of each source, from one look to the next."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._before: tuple[float, dict[str, int]] | None = None

    def of(self, found: dict[str, Any]) -> dict[str, float]:
        """What came since the look before; nothing at the first."""
        now = self._now()
        received = {name: source["received"] for name, source in found["sources"].items()}
        before, self._before = self._before, (now, received)
        if before is None:
            return {}
        return {
            name: (count - before[1].get(name, 0)) / (now - before[0])
            for name, count in received.items()
        }


def view(found: dict[str, Any], rates: dict[str, float], *, zone: str) -> "RenderableType":
    """One picture of a plant: ``found`` is its summary, ``rates`` samples a second by source."""
    from rich.console import Group  # noqa: PLC0415 - as in watching()
    from rich.table import Table  # noqa: PLC0415 - as in watching()
    from rich.text import Text  # noqa: PLC0415 - as in watching()

    sources = Table.grid(padding=(0, 2))
    for name, source in found["sources"].items():
        last = source["last_ns"]
        what = "picture" if source["pictures"] else "sample"
        age = f"no {what} yet" if last is None else f"last {what} {_ago(last)}"
        rate = f"{rates.get(name, 0.0):,.0f} {what}s/s"
        sources.add_row(Text(name, "bold"), source["state"], rate, f"{source['received']:,}", age)
    assets = Table.grid(padding=(0, 2))
    ranked = sorted(
        found["assets"],
        key=lambda name: (not found["assets"][name]["active"], -_share(found["assets"][name])),
    )
    shown = set(ranked[:MOST_ASSETS])
    for name, asset in found["assets"].items():  # in their own order: rows must not jump about
        if name not in shown:
            continue
        none = "cameras alone" if asset["cameras_alone"] else "no score yet"
        state = RUNNING.get(asset["state"], none)
        assets.add_row(Text(name, "bold"), state, _bar(asset), _number(asset))
    lines: list[RenderableType] = [sources, Text(""), assets]
    if len(ranked) > MOST_ASSETS:
        lines.append(Text(f"and {len(ranked) - MOST_ASSETS} more assets", "dim"))
    standing = [
        (alarm["raised_ns"], name, f"{alarm['reason']}{looks_like(alarm['diagnosis'])}")
        for name, one in (*found["assets"].items(), *found["sources"].items())
        for alarm in one["active"]
    ]
    lines.append(Text(""))
    for raised, name, reason in sorted(standing, reverse=True)[:SHOWN_ALARMS]:
        alarm = Text(f"ALARM {name} ", "bold red")
        lines.append(alarm.append(f"since {local(raised, zone)}: {reason}", "default"))
    latency = found["score_latency_ms"]
    pictures = [one for one in found["sources"].values() if one["pictures"]]
    came = sum(one["received"] for one in pictures)
    words = [f"{found['samples_received'] - came:,} samples in"]
    words += [f"{found['frames_scored']:,} scored"]
    if pictures:
        waiting = sum(one["waiting"] for one in pictures)
        words += [f"{came:,} pictures in{f', {waiting:,} wait' if waiting else ''}"]
    if latency["p50"] is not None:
        words.append(f"sample to score {latency['p50']:.0f} ms, p99 {latency['p99']:.0f} ms")
    words += [f"{sink}: {n} waiting" for sink, n in found["backlog"].items() if n]
    lines.append(Text(", ".join(words) + ". Ctrl-C stops.", "dim"))
    return Group(*lines)


def _share(asset: dict[str, Any]) -> float:
    """Surprise as a share of its threshold."""
    if asset["surprise"] is None or not asset["threshold"]:
        return 0.0
    return float(asset["surprise"] / asset["threshold"])


def _bar(asset: dict[str, Any]) -> "Text":
    """Surprise against its threshold, which is a mark at two thirds."""
    from rich.text import Text  # noqa: PLC0415 - as in watching()

    share, mark = _share(asset), BAR * 2 // 3
    filled = min(round(share * mark), BAR)
    colour = "red" if asset["active"] or share >= 1 else "green"
    text = Text()
    for place in range(BAR):
        if place == mark and asset["threshold"]:
            text.append("|", "bold")
        text.append("\u2588" if place < filled else "\u00b7", colour if place < filled else "dim")
    return text


def _number(asset: dict[str, Any]) -> str:
    """Surprise and threshold in figures."""
    level = "" if asset["threshold"] is None else f" of {asset['threshold']:.1f}"
    return "" if asset["surprise"] is None else f"surprise {asset['surprise']:.1f}{level}"


def _ago(moment: int) -> str:
    return f"{duration(max(SystemClock().now() - moment, 0) / 1e9)} ago"
