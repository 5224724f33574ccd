"""Write docs/configuration.md and docs/commands.md from the settings and the commands themselves.

``python scripts/make_reference.py`` writes them; a test fails where they are something else.
"""

import inspect
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from monitor.cli import app
from monitor.site.config import Config
from monitor.site.schema import ByType, annotation_of
from monitor.site.vision.settings import LearningSettings

DOCS = Path(__file__).parent.parent / "docs"
DO_NOT_EDIT = "<!-- Made by scripts/make_reference.py out of the settings and the commands. -->"
INTRODUCTION = """\
One YAML file. `watchkeeper example config` prints one to start from, `watchkeeper check` says
every error at once, each with its line. A relative path is meant from the file's own folder. `NAME`
stands for a name of your own. What begins with `vision` is no part of it: that is the file of
`watchkeeper vision train --settings`, without the word."""
WORDS: Mapping[object, str] = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
}
BOUNDS = {Gt: (">", "gt"), Ge: (">=", "ge"), Lt: ("<", "lt"), Le: ("<=", "le")}


def configuration() -> str:
    """The page of all settings: a section a settings class, a row a setting."""
    text = [
        "# Configuration",
        DO_NOT_EDIT,
        INTRODUCTION,
    ]
    for path, settings in [*sections("", Config), *sections("vision", LearningSettings)]:
        text.append(f"## {path or 'The file'}")
        text.append(first_sentence(inspect.cleandoc(settings.__doc__ or "")))
        rows = [setting(settings, name) for name in settings.model_fields]
        text.append("\n".join(["| setting | value | if left out | |", "|---|---|---|---|", *rows]))
    return "\n\n".join(text) + "\n"


def first_sentence(text: str) -> str:
    """Up to the first full stop that ends one: that of a number, as in 1.0, does not."""
    return re.split(r"(?<=\.)\s", text, maxsplit=1)[0]


def sections(path: str, settings: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """A settings class and all below it, each with where it stands."""
    yield path, settings
    for name in settings.model_fields:
        for below, nested in classes(annotation_of(settings, name)):
            inner = f"{path}.{name}{below}" if path else f"{name}{below}"
            yield from sections(inner, nested)


def classes(annotation: Any) -> Iterator[tuple[str, type[BaseModel]]]:
    """The settings classes that an annotation leads to, each with what its path goes on with."""
    origin, args = get_origin(annotation), get_args(annotation)
    mark = next((mark for mark in args[1:] if isinstance(mark, ByType)), None)
    if mark is not None:
        for name, settings in sorted(mark.known().items()):
            yield f" (type: {name})", settings
    elif origin is Annotated:
        yield from classes(args[0])
    elif origin in (Union, UnionType):
        found = [one for arm in args for one in classes(arm)]
        for below, settings in found:
            kind = settings.model_fields.get("type")
            named = f" (type: {words(kind.annotation)})" if kind is not None else ""
            yield (below or named if len(found) > 1 else below), settings
    elif origin in (dict, Mapping):
        yield from ((f".NAME{below}", settings) for below, settings in classes(args[1]))
    elif origin in (list, tuple):
        yield from ((f"[]{below}", settings) for below, settings in classes(args[0]))
    elif inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield "", annotation


def setting(settings: type[BaseModel], name: str) -> str:
    """One row of a table."""
    field = settings.model_fields[name]
    value = plain(words(annotation_of(settings, name)))
    return f"| `{name}` | {value} | {left_out(field)} | {plain(field.description or '')} |"


def plain(text: str) -> str:
    """Text for a cell of a table: its marks are not Markdown's."""
    return re.sub(r"([|*<])", r"\\\1", text)


def words(annotation: Any) -> str:
    """What may be written there."""
    origin, args = get_origin(annotation), get_args(annotation)
    said = "a time" if "date" in str(annotation).lower() else "text"  # pydantic's own types
    if annotation in WORDS:
        said = WORDS[annotation]
    elif origin is Annotated:
        bounds = [(*BOUNDS[type(mark)], mark) for mark in args[1:] if type(mark) in BOUNDS]
        limits = [f"{sign} {getattr(mark, name):,}" for sign, name, mark in bounds]
        said = " ".join([words(args[0]), *limits])
    elif origin in (dict, Mapping):
        said = f"{words(args[1])} by name"
    elif origin in (list, tuple):
        said = f"list of {words(args[0])}"
    elif origin in (Union, UnionType):
        said = " or ".join(dict.fromkeys(words(arm) for arm in args if arm is not NoneType))
    elif origin is Literal:
        said = ", ".join(f"`{value}`" for value in args)
    elif inspect.isclass(annotation) and issubclass(annotation, Enum):
        said = ", ".join(f"`{member.value}`" for member in annotation)
    elif inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        said = "settings"
    return said


def left_out(field: FieldInfo) -> str:
    """What holds when a setting is not given."""
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        return "must be given"
    if isinstance(default, BaseModel):
        return "its own defaults"
    if default is None or default in ({}, [], ()):
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    text = default.isoformat() if isinstance(default, datetime) else default
    return f"`{text.value if isinstance(text, Enum) else text}`"


def commands() -> str:
    """The page of all commands."""
    text = [
        "# Commands",
        DO_NOT_EDIT,
        "`watchkeeper COMMAND --help` says the same.",
        *described(("watchkeeper",), typer.main.get_command(app)),
    ]
    return "\n\n".join(text) + "\n"


def described(name: tuple[str, ...], command: Any) -> Iterator[str]:
    """A command's section, and those of the commands below it."""
    below = getattr(command, "commands", {})
    parameters = [one for one in command.params if one.name != "help"]
    if not below or len(name) == 1:
        arguments = [written(one) for one in parameters if one.param_type_name == "argument"]
        yield f"## {' '.join([*name, *arguments])}"
        yield inspect.cleandoc(command.help or "")
        rows = [f"| `{written(one)}` | {plain(one.help or '')} |" for one in parameters]
        if rows:
            yield "\n".join(["| option or argument | |", "|---|---|", *rows])
        if command.epilog:
            yield command.epilog
    for word, inner in below.items():
        yield from described((*name, word), inner)


def written(parameter: Any) -> str:
    """An option or an argument as it is typed."""
    if parameter.param_type_name == "option":
        return ", ".join(parameter.opts)
    return str(parameter.metavar or parameter.name.upper())


def pages() -> dict[Path, str]:
    """Both pages as they should be."""
    return {DOCS / "configuration.md": configuration(), DOCS / "commands.md": commands()}


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
