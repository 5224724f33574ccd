"""What is wrong with a configuration: file:line:column, what was given, what is wanted.

Turns the findings of YAML, of pydantic and of the cross-references into one kind of ``Problem``.
The value that was given is shown, but never where the key speaks of a secret.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from connectors.hints import meant
from monitor.site.schema import settings_at
from monitor.site.yaml_places import Node, Path, Place

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

CONFIG_VERSION = 1

_GROUP = "a group of settings (lines of `key: value`)"
_WANTED = {  # pydantic's name of an error -> what is wanted
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "model_type": _GROUP,
    "model_attributes_type": _GROUP,
    "dict_type": _GROUP,
    "list_type": "a list",
    "tuple_type": "a list",
    "greater_than": "more than {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "less than {lt}",
    "less_than_equal": "{le} or less",
    "enum": "{expected}",
    "literal_error": "{expected}",
    "too_short": "at least {min_length}",
    "too_long": "at most {max_length}",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "string_pattern_mismatch": "text like {pattern}",
}
_SECRET = re.compile(r"password|passphrase|passwd|secret|token|api_?key|credential", re.IGNORECASE)
_FILE_OR_ENV = re.compile(r"_(file|env)$")
_USER_INFO = re.compile(r"//[^/@\s]*@")  # user:password@ in an address
_KEY_FIRST = re.compile(
    r"([\w.]+): "
)  # a validator's "channel.limits: ..." says which key it means


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to put right. Written as file:line:column: path: message."""

    file: str
    place: Place | None  # None: the file as a whole
    path: str  # kinds.pump.tick_ms
    message: str

    def __str__(self) -> str:
        """One line, as editors understand it."""
        where = self.file
        if self.place is not None:
            where += f":{self.place.line}:{self.place.column}"
        return ": ".join(part for part in (where, self.path, self.message) if part)


class ConfigError(Exception):
    """A configuration that cannot be used. ``problems`` holds everything that is wrong with it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        """All problems, in the order of the file."""
        ordered = sorted(problems, key=lambda problem: problem.place or Place(0, 0))
        self.problems = tuple(dict.fromkeys(ordered))
        super().__init__("\n".join(map(str, self.problems)))


class PlantError(Exception):
    """The configuration is right, but what it names cannot be worked with: a model, a history."""


class MismatchedError(PlantError):
    """What a source holds is not what the configuration says."""


class ModelMissingError(PlantError):
    """The configured model has not been made yet."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong at a path of the tree, not yet with its place."""

    path: Path
    message: str
    at_key: bool = False  # the key is wrong, not its value

    def problem(self, file: str, root: Node) -> Problem:
        """The same, with its place in the file."""
        node, found = root.find(self.path)
        place = node.place
        if self.at_key and found:
            holder, _ = root.find(found[:-1])
            place = holder.keys.get(str(found[-1]), place)
        message = without_user_info(self.message).removesuffix(".")  # whoever wrote it
        return Problem(file, place, dotted(self.path), message)


def may_hold_secret(line: str) -> bool:
    """Whether a line of a configuration is better not repeated."""
    return bool(_SECRET.search(line) or _USER_INFO.search(line))


def without_user_info(text: str) -> str:
    """The same without the name and password that an address in it may hold."""
    return _USER_INFO.sub("//***@", text)


def dotted(path: Path) -> str:
    """``("sources", "rig", 0)`` as ``sources.rig[0]``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """A suggestion, or the choices where they are few: a sentence after a blank, or nothing."""
    known = list(known)
    if (close := meant(given, known)) is not None:
        return f" Did you mean {close!r}?"
    if 0 < len(known) <= 20:
        return f" There is {known[0]}." if len(known) == 1 else f" There are {', '.join(known)}."
    return ""


def findings(error: ValidationError, root: Node, settings: type[BaseModel]) -> list[Finding]:
    """Pydantic's errors in our words. A value that no arm of a choice takes is one finding."""
    found: list[Finding] = []
    wanted: dict[Path, list[str]] = {}
    explained: set[Path] = set()  # missing keys that a misspelt one explains
    missing: dict[Path, Finding] = {}
    for details in error.errors(include_url=False):
        kind, path = details["type"], _without_arms(details["loc"], root)
        node, there = root.find(path)
        if kind == "missing":
            missing[path] = _missing(path, root, settings)
        elif kind == "extra_forbidden":
            unknown, meant = _unknown(path, root, settings)
            found.append(unknown)
            explained.update([(*path[:-1], meant)] if meant else [])
        elif path and path[-1] == "[key]":
            found.append(Finding(path[:-1], _own_words(details), at_key=True))
        elif kind in ("value_error", "assertion_error"):
            found.append(_validators(path, details, root))
        elif kind in ("type_missing", "type_unknown", "union_tag_not_found", "union_tag_invalid"):
            found.append(_type(path, details, node))
        else:
            wanted.setdefault(there, []).append(_want(details))
    found += [finding for path, finding in missing.items() if path not in explained]
    found += [_mismatch(path, root, wants) for path, wants in wanted.items()]
    return found


def _without_arms(loc: Path, root: Node) -> Path:
    """A location without the names pydantic gives to the arm of a union it was in."""
    path: Path = ()
    for index, step in enumerate(loc):
        node, _ = root.find(path)
        arm = isinstance(node.data, dict) and node.data.get("type") == step
        if step in node.below and not arm:
            path = (*path, step)
        elif index == len(loc) - 1 and not arm:
            return (*path, step)
    return path


def _missing(path: Path, root: Node, settings: type[BaseModel]) -> Finding:
    if path == ("config_version",):
        return Finding((), f"config_version is missing; want `config_version: {CONFIG_VERSION}`")
    parent, name = path[:-1], str(path[-1])
    holder = settings_at(settings, root.data, parent)
    field = holder.model_fields.get(name) if holder else None
    meaning = f": {field.description}" if field and field.description else ""
    return Finding(parent, f"{name!r} is missing{meaning}", at_key=bool(parent))


def _unknown(path: Path, root: Node, settings: type[BaseModel]) -> tuple[Finding, str | None]:
    """An unknown key, and the key that was probably meant."""
    name = str(path[-1])
    holder = settings_at(settings, root.data, path[:-1])
    known = list(holder.model_fields) if holder else []
    safe = [key for key in known if _FILE_OR_ENV.sub("", key) == name and key != name]
    if safe:
        message = (
            f"secrets do not stand in the configuration; want {' or '.join(safe)}, which says "
            f"where to find it"
        )
        return Finding(path, message, at_key=True), safe[0]
    hint = did_you_mean(name, known)
    meant = re.search("Did you mean '(.*)'", hint)
    finding = Finding(path, f"no such setting.{hint}", at_key=True)
    return finding, meant.group(1) if meant else None


def _type(path: Path, details: "ErrorDetails", node: Node) -> Finding:
    ctx = details["ctx"]  # ours, or pydantic's own of a union told apart by type
    known = ctx.get("known") or re.findall("'(.*?)'", ctx.get("expected_tags", ""))
    if "type" not in node.below:
        wanted = f"; want one of {', '.join(known)}" if known else ""
        return Finding(path, f"'type' is missing{wanted}", at_key=True)
    given = node.below["type"]
    who = f"no {ctx['what']}" if "what" in ctx else f"none of the {path[-2]}"
    message = f"{who} has the type {_shown('type', given)}."
    hint = did_you_mean(given.text, known)
    if "Did you mean" in hint:
        hint += f" There are {', '.join(known)}."
    return Finding((*path, "type"), message + hint)


def _validators(path: Path, details: "ErrorDetails", root: Node) -> Finding:
    """What a validator said; placed at the key that its message begins with, where there is one."""
    message = _own_words(details)
    named = _KEY_FIRST.match(message)
    if named:
        below: Path = tuple(named.group(1).split("."))
        node, there = root.find(path)
        if there == path and node.find(below)[1] == below:
            return Finding((*path, *below), message[named.end() :])
    return Finding(path, message)


def _own_words(details: "ErrorDetails") -> str:
    said = details.get("ctx", {}).get("error")
    return str(said) if said is not None else details["msg"]


def _want(details: "ErrorDetails") -> str:
    kind, said = details["type"], details["msg"]
    if kind.startswith(("datetime", "timezone", "date_")):
        return "a time with its zone, as 2026-03-01T06:00:00Z"
    if kind in _WANTED:
        return _WANTED[kind].format(**details.get("ctx", {}))
    return said.removeprefix("Input should be ").removeprefix("Value should be ")


def _mismatch(path: Path, root: Node, wants: list[str]) -> Finding:
    """A value that is not what is wanted, with the usual reason where there is one."""
    node, _ = root.find(path)
    want = " or ".join(dict.fromkeys(wants))
    message = f"got {_shown(dotted(path), node)}, want {want}."
    scalar = not isinstance(node.data, dict | list | str)
    if "text" in wants and scalar and node.text:
        quoted = "it in quotes" if _SECRET.search(dotted(path)) else f"'{node.text}'"
        message += f" Without quotes it is no text: write {quoted}."
    elif _GROUP in wants and node.data is None:
        message += " Are the lines below it indented?"
    elif _GROUP in wants and re.search(r"\w:\w", node.text):
        message += " Is a blank missing after the colon?"
    elif isinstance(node.data, str):
        choices = re.findall("'([^']+)'", want)
        hint = did_you_mean(node.data, choices)
        message += hint if "Did you mean" in hint else ""
    return Finding(path, message)


def _shown(key: str, node: Node) -> str:
    """A value as an error may show it: short, and never a secret."""
    data: Any = node.data
    if data is None:
        return "nothing"
    if isinstance(data, dict):
        return "a group of settings"
    if isinstance(data, list):
        return "a list"
    if _SECRET.search(key):
        return "a value that is not shown"
    text = without_user_info(node.text)
    text = text if len(text) <= 60 else text[:57] + "..."
    return repr(text) if isinstance(data, str) else text
