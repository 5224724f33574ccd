"""`watchkeeper reload`: a changed configuration for the running service, without a stop."""

from pathlib import Path
from typing import Annotated, Any

import typer

from monitor.cli import console


def command(
    file: Annotated[Path, typer.Argument(help="The configuration, a YAML file.")],
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would change, and whether it can.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Let the running service take up what the file says now; SIGHUP does the same.

    Everything is checked as at a start, and made, before anything is touched. Then assets, kinds,
    limits, models, sources, sinks and `state` change at once; what did not change goes on without a
    break. A model or template that was made anew under its path counts as a change.

    Ends with 0 where it is in force, or nothing has changed. Else all is as before: with 2 where
    the file is wrong, with 3 where a model is missing or no service runs, with 4 where it will not
    do so: a restart is wanted, or a source refused.
    """
    from monitor.cli.stored import asked  # noqa: PLC0415 - commands import when they run
    from monitor.live.reload import ANSWER_S  # noqa: PLC0415 - as above
    from monitor.site.config import load  # noqa: PLC0415 - as above

    config = load(file)
    answer: dict[str, Any] = asked(
        config, "reload", within_s=ANSWER_S, file=str(file.absolute()), dry_run=dry_run
    )
    if as_json:
        console.say_json(answer)
    else:
        _say(answer, dry_run=dry_run)
    if answer["error"]:
        raise console.StopError(
            f"{answer['error']}.",
            code=console.Exit.NOT_READY if answer["again"] else console.Exit.REFUSED,
        )


def _say(answer: dict[str, Any], *, dry_run: bool) -> None:
    changes = answer["changes"]
    for change in changes:
        console.say(change)
    if answer["error"]:
        return
    if not changes:
        console.say(("ok: ", "bold green"), "nothing changed.")
        return
    verb = "would be" if dry_run else "is" if len(changes) == 1 else "are"
    count, untouched = console.count(len(changes), "change"), answer["untouched"]
    console.say(
        ("ok: ", "bold green"),
        f"{count} {verb} in force; {console.count(untouched, 'asset')} not touched.",
    )
