"""`watchkeeper quality`: is the history of a kind fit to learn from?"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monitor.cli import console

if TYPE_CHECKING:
    from monitor.history.quality import Finding, Report

STYLES = {"severe": "bold red", "warning": "yellow", "note": "cyan"}
MOST_NAMED = 3  # machines, or channels; JSON names all


def command(
    file: Annotated[Path, typer.Argument(help="The configuration, a YAML file.")],
    *,
    kind: Annotated[
        str | None, typer.Option(help="The kind to look at; left out: every kind with `training`.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Look for what is odd about the history that a model would learn from, before it does.

    Gaps, constants, counters, switches, twins, what a historian made of a signal, spikes, ends of
    ranges, several modes, clocks, too little history: with what each means for the model and what
    to do about it. Reads what `train` reads, and changes nothing. Ends with 1 where something is
    severe: a model would be no good.
    """
    from monitor.history.quality import ISSUES  # noqa: PLC0415 - commands import when they run
    from monitor.history.signals import Severity  # noqa: PLC0415 - as above
    from monitor.live.clock import SystemClock  # noqa: PLC0415 - as above
    from monitor.site.config import load  # noqa: PLC0415 - as above
    from monitor.site.healthy import healthy  # noqa: PLC0415 - as above

    config = load(file)
    if kind is not None and kind not in config.kinds:
        raise console.StopError(
            f"{file}: no kind {kind!r}; there are: {', '.join(config.kinds)}.",
            code=console.Exit.USAGE,
        )
    names = [kind] if kind is not None else [n for n, k in config.kinds.items() if k.training]
    if not names:
        raise console.StopError(
            f"{file}: no kind has `training`; name one with --kind.", code=console.Exit.USAGE
        )
    reports, printed = [], []
    for name in names:
        read = healthy(config, name, clock=SystemClock())
        found = read.quality()
        reports.append(found)
        findings = [asdict(one) | ISSUES[one.issue]._asdict() for one in found.findings]
        printed.append(asdict(found) | {"findings": findings, "rejections": list(read.rejections)})
        if not as_json:
            say(found)
            for words in read.rejections:
                console.say(("    warning  ", "yellow"), words)
    if as_json:
        console.say_json(printed)
    if any(found.count(Severity.SEVERE) for found in reports):
        raise typer.Exit(console.Exit.FAILED)


def summary(found: "Report") -> str:
    """``1 severe, 2 warnings, no notes``."""
    from monitor.history.signals import Severity  # noqa: PLC0415 - commands import when they run

    severe, warnings, notes = (found.count(severity) for severity in Severity)
    return f"{severe} severe, {console.count(warnings, 'warning')}, {console.count(notes, 'note')}"


def say(found: "Report") -> None:
    """A finding in three lines: what and where, what it means, what to do."""
    from monitor.history.quality import ISSUES  # noqa: PLC0415 - commands import when they run

    console.say(
        ("quality: ", "bold"),
        f"{found.kind}: {console.count(len(found.channels), 'channel')} of "
        f"{console.count(len(found.assets), 'machine')}, {found.days:.3g} days of frames: "
        f"{summary(found)}.",
    )
    alike: dict[Finding, list[str]] = {}  # channels of which the very same is said
    for one in found.findings:
        alike.setdefault(replace(one, channel="", share=0.0), []).append(one.channel or "all")
    rows = [(one, _named(channels)) for one, channels in alike.items()]
    wide = max((len(channels) for _, channels in rows), default=0)
    long = max((len(one.issue) for one, _ in rows), default=0)
    for one, channels in rows:
        console.say(
            (f"    {one.severity:<7}  ", STYLES[one.severity]),
            f"{channels:<{wide}}  {one.issue:<{long}}  {_machines(one, found)}{one.words}",
        )
    for issue in dict.fromkeys(one.issue for one in found.findings):
        console.say("")
        console.say((f"    {issue}", "bold"), f": {ISSUES[issue].means}.")
        console.say(f"        To do: {ISSUES[issue].do}.")


def _machines(one: "Finding", found: "Report") -> str:
    """Where it was found, the worst first; nothing where that is all of them."""
    if len(one.assets) == len(found.assets):
        return ""
    return f"{_named(one.assets)}: "


def _named(names: "Sequence[str]") -> str:
    """The first few, and how many more."""
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
