"""What a configuration names on this machine: recordings, and tables of labels.

`check` looks at them before a training, a backfill or a run stumbles over them. No peer is asked.
"""

from pathlib import Path

from connectors import discover
from connectors.contract import Inspectable, NotReadyError, RefusedError
from monitor.site.config import Config, placed
from monitor.site.problems import ConfigError, Finding, PlantError


def inspect(config: Config, file: str | Path) -> tuple[str, ...]:
    """Look at the recordings of all sources, and at the labels of all kinds.

    Gives a sentence for each source without recordings: they may yet come. Raises ConfigError with
    all else that is wrong; ``file`` is where ``config`` was read from.
    """
    wrong: list[Finding] = []
    missing: list[str] = []
    tag_ids = {name: number for number, name in enumerate(config.tag_names())}
    used = {bound.source for asset in config.assets for bound in config.tags_of(asset)}
    for name, settings in config.sources.items():
        if name not in used or discover()[getattr(settings, "type", "")].history is None:
            continue
        history = config.make_history(name, tag_ids)
        if not isinstance(history, Inspectable):
            continue
        path = ("sources", name, "path")
        try:
            history.inspect()
        except NotReadyError as error:
            missing.append(f"sources.{name}: {str(error).removeprefix(f'{name}: ')}")
        except RefusedError as error:
            wrong.append(Finding(path, str(error).removeprefix(f"{name}: ")))
    for name, kind in config.kinds.items():
        if kind.diagnosis is None:
            continue
        from monitor.site.labels import read  # noqa: PLC0415 - torch takes seconds

        try:
            read(Path(kind.diagnosis.labels), config, name)
        except PlantError as error:
            wrong.append(Finding(("kinds", name, "diagnosis", "labels"), str(error)))
    if wrong:
        raise ConfigError(placed(file, wrong))
    return tuple(missing)
