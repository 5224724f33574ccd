"""The command line: `watchkeeper`. One file a command; ``COMMANDS`` is the list of them.

A command file has a function ``command``, whose name on the command line is the file's. It imports
what it needs inside that function, so that `watchkeeper --help` does not wait for torch.
"""

import io
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from monitor.cli import (
    adopt,
    alarms,
    backfill,
    budget,
    check,
    console,
    demo,
    example,
    ledger,
    plot,
    quality,
    reload,
    run,
    simulate,
    status,
    train,
    vision,
    vision_made,
)

COMMANDS = (
    demo,
    check,
    example,
    quality,
    train,
    adopt,
    run,
    reload,
    backfill,
    budget,
    status,
    plot,
    simulate,
    ledger,
)
GROUPS = (alarms, vision)

_EXIT_CODES = "\n\n".join(  # blank lines, or the help makes one paragraph of it
    ["Exit codes:", *(f"{code.value:>3}  {code.meaning}" for code in console.Exit)]
)


class _Commands(TyperGroup):
    """Runs a command and says expected errors in plain words."""

    def invoke(self, ctx: Any) -> Any:
        """Run; raises typer.Exit with the code of an expected error."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # the reader has gone, as `head` does: nobody to tell
        except console.expected_errors() as error:
            if ctx.params["debug"]:
                raise
            raise typer.Exit(console.explain(error)) from None


app = typer.Typer(
    rich_markup_mode="markdown",  # else a paragraph is broken where the source breaks it, too
    cls=_Commands,
    help="Anomaly monitor for machines: sensor streams and recordings in, explained alarms out.",
    epilog=_EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer hands an option over so
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - slow, and only for this

        typer.echo(f"watchkeeper {version('watchkeeper')}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug",
            envvar="WATCHKEEPER_DEBUG",
            help="Show where in the program an error came from.",
        ),
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    del debug, version  # read by _Commands and by _version


for _module in COMMANDS:
    app.command(_module.__name__.rpartition(".")[2])(_module.command)
for _function in (vision_made.generate, vision_made.compare):
    vision.app.command(_function.__name__)(_function)
for _module in GROUPS:
    app.add_typer(_module.app, name=_module.__name__.rpartition(".")[2])


def main() -> None:
    """Where the installed `watchkeeper` begins."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files need be no UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    app(prog_name="watchkeeper")
