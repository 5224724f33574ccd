"""`watchkeeper check`: is this configuration right? Opens no connection and changes nothing."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monitor.cli import console

if TYPE_CHECKING:
    from monitor.site.config import Config
    from monitor.site.problems import Problem


def command(
    file: Annotated[Path, typer.Argument(help="The configuration, a YAML file.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Check a configuration: every problem at once, with its line.

    Ends with 0 where it can be used, with 2 where it cannot. Connects to nothing, changes nothing.
    Models that are there are read: one that `run` will refuse is said. So are the beginnings of
    recordings, and tables of labels: columns, units and stamps must be as configured. Recordings
    that are not there yet are a warning.
    """
    from monitor.site.advice import advice  # noqa: PLC0415 - commands import when they run
    from monitor.site.config import load  # noqa: PLC0415 - as above
    from monitor.site.named_files import inspect  # noqa: PLC0415 - as above
    from monitor.site.problems import ConfigError  # noqa: PLC0415 - as above

    try:
        config = load(file)
        missing = inspect(config, file)
    except ConfigError as error:
        _say_wrong(file, error.problems, as_json=as_json)
        raise typer.Exit(console.Exit.USAGE) from None
    warnings = (*advice(config), *missing, *_models(config))
    if as_json:
        console.say_json(
            {"ok": True, "hash": config.hash, **_summary(config), "warnings": list(warnings)}
        )
        return
    _say_right(file, config, warnings)


def _models(config: "Config") -> tuple[str, ...]:
    """What is wrong with the models that are there; where there is none, torch is not needed."""
    of_kinds = [kind.model.bundle for kind in config.kinds.values() if kind.model]
    of_cameras = [camera.model for camera in config.cameras.values() if camera.model]
    if not any(Path(one).exists() for one in (*of_kinds, *of_cameras)):
        return ()
    from monitor.site import cameras, plant  # noqa: PLC0415 - torch takes seconds

    return *plant.unfit(config), *cameras.unfit(config)


def _say_wrong(file: Path, problems: "tuple[Problem, ...]", *, as_json: bool) -> None:
    if as_json:
        found = [
            {
                "file": problem.file,
                "line": problem.place.line if problem.place else None,
                "column": problem.place.column if problem.place else None,
                "path": problem.path,
                "message": problem.message,
            }
            for problem in problems
        ]
        console.say_json({"ok": False, "problems": found})
        return
    console.say_problems(problems)
    console.say("")
    console.say(("not usable: ", "bold red"), f"{file}: {console.count(len(problems), 'problem')}.")


def _say_right(file: Path, config: "Config", warnings: tuple[str, ...]) -> None:
    summary = _summary(config)
    nouns = ["source", "kind", "asset", "tag", "channel", "sink"]
    nouns += ["camera"] if config.cameras else []
    counts = [console.count(summary[f"{noun}s"], noun) for noun in nouns]
    console.say(("ok: ", "bold green"), f"{file}: {', '.join(counts)}.")
    console.say(f"    site {config.site.name}, data in {config.data_dir}")
    for warning in warnings:
        console.say(("warning: ", "yellow"), warning)


def _summary(config: "Config") -> dict[str, Any]:
    return {
        "site": config.site.name,
        "sources": len(config.sources),
        "kinds": len(config.kinds),
        "assets": len(config.assets),
        "tags": len(config.tag_names()),
        "channels": sum(len(kind.channels) for kind in config.kinds.values()),
        "sinks": len(config.sinks),
        "cameras": len(config.cameras),
    }
