"""`watchkeeper example`: commented settings to start from."""

from typing import Annotated

import typer

from monitor.cli import console


def command(
    name: Annotated[
        str | None, typer.Argument(help="What to show; without it, the list of what there is.")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Print commented settings: of a whole plant (config), or of one connector or model.

    Every setting with its meaning; defaults are commented out.
    `watchkeeper example config > plant.yaml` gives a file to start from.
    """
    from monitor.site import examples  # noqa: PLC0415 - commands import when they run
    from monitor.site.problems import did_you_mean  # noqa: PLC0415 - as above

    if name is None:
        _say_names(examples.names(), as_json=as_json)
        return
    try:
        text = examples.example(name)
    except KeyError:
        message = f"no example {name!r}.{did_you_mean(name, examples.names())}"
        raise console.StopError(message, code=console.Exit.USAGE) from None
    if as_json:
        console.say_json({"name": name, "yaml": text})
        return
    typer.echo(text, nl=False)


def _say_names(names: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        console.say_json(names)
        return
    width = max(map(len, names))
    for name, what in names.items():
        console.say((f"{name:<{width}}", "bold"), f"  {what}")
