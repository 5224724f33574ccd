"""Commented examples of settings, made from the settings classes themselves: never out of date.

A # with a blank behind it begins prose. A # right before a setting switches off a line that says
what is so anyway: the default. ``uncommented`` switches all on; the result must still be right.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from textwrap import wrap
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from connectors import discover
from monitor.site.config import Config
from monitor.site.schema import annotation_of, item_annotation, settings_class, type_names
from monitor.site.settings import model_types
from monitor.site.vision.settings import DEFAULTS, LearningSettings
from monitor.site.yaml_places import resolved

_WIDTH = 96
_PLANT: dict[str, Any] = {  # what a small plant says; everything else is printed as its default
    "config_version": 1,
    "site": {"name": "plant", "timezone": "Europe/Berlin"},
    "sources": {
        "pump_1_files": {"type": "files", "path": "recordings/pump_1*.csv", "layout": "wide"},
        "pump_2_files": {"type": "files", "path": "recordings/pump_2*.csv", "layout": "wide"},
    },
    "kinds": {
        "pump": {
            "channels": {
                "flow": {
                    "unit": "m3/h",
                    "limits": {
                        "low": 2.0,
                        "deadband": 0.1,
                        "on_delay_s": 10.0,
                        "only_running": True,
                    },
                },
                "temperature": {"unit": "degC", "aggregate": "mean"},
                "current": {"unit": "A", "aggregate": "max"},
            },
            "running": {"channel": "current", "above": 0.5, "startup_s": 60.0},
            "alarm": {"on_delay_s": 30.0, "off_delay_s": 30.0},
            "model": {"bundle": "models/pump"},
            "training": {"until": "2026-03-01T06:00:00Z", "model": {"type": "gru"}},
        }
    },
    "assets": {
        pump: {
            "kind": "pump",
            "source": f"{pump}_files",
            "tags": {"flow": "Flow", "current": "Motor current"},  # temperature: its own name
        }
        for pump in ("pump_1", "pump_2")
    },
    "sinks": {"inbox": {"type": "files", "folder": "alarms"}},
}


_HEADER = """\
# A setting behind a # has this value anyway; take the # away to change it.
"""
_SHARED = """\
# `&name` marks settings and `<<: *name` takes them over: what holds for the first holds for others.
"""
_PLAIN = re.compile(r"[\w./][\w./*@+-]*([: ]?[\w./*@+-]+)*")  # text that wants no quotes in YAML


def names() -> dict[str, str]:
    """Everything there is an example of, with what it is."""
    found = {"config": "a complete small plant"}
    for connector in discover().values():
        roles = {"source": connector.source, "history": connector.history, "sink": connector.sink}
        there = [role for role, made in roles.items() if made is not None]
        found[connector.name] = f"connector: {', '.join(there)}"
    for model, settings in model_types().items():
        found[model] = f"model: {_summary(settings)}"
    found["vision"] = "inspection of pictures: settings of `watchkeeper vision train`"
    return found


def example(name: str) -> str:
    """A commented example in YAML. Raises KeyError for a name that is not in ``names()``."""
    if name == "config":
        sections = "\n\n".join("\n".join(lines) for lines in _fields(Config, _PLANT))
        return f"{_HEADER}{_SHARED}\n{sections}\n"
    if name == "vision":
        given = {"preprocess": {"height": 128, "width": 128}, **DEFAULTS}
        sections = "\n\n".join("\n".join(lines) for lines in _fields(LearningSettings, given))
        return f"{_HEADER}\n{sections}\n"
    connector = discover().get(name)
    if connector is None:
        lines = ["# Below a kind.", "training:", "  model:"]
        lines += _indented(_flat(_fields(model_types()[name], {"type": name})), 4)
        return _HEADER + "\n" + "\n".join(lines) + "\n"
    sections = ""
    for section, role in (
        ("sources", connector.source or connector.history),
        ("sinks", connector.sink),
    ):
        if role is not None:
            lines = [*_prose(_summary(role.Settings)), f"{section}:", f"  {name}:"]
            lines += _indented(_flat(_fields(role.Settings, _shown(role.Settings, name))), 4)
            sections += "\n" + "\n".join(lines) + "\n"
    return _HEADER + sections


def _shown(settings: type[BaseModel], name: str) -> dict[str, Any]:
    """What an example says: the type, and what the class's own example adds to it.

    Settings of which one among several must be given have such an example in ``model_config``.
    """
    extra = settings.model_config.get("json_schema_extra")
    own = extra.get("example", {}) if isinstance(extra, dict) else {}
    return {"type": name, **(own if isinstance(own, dict) else {})}


def uncommented(text: str) -> str:
    """An example with every default switched on."""
    return re.sub(r"^( *)#(?=[^ ]|  )", r"\1", text, flags=re.MULTILINE)


def _fields(
    settings: type[BaseModel], given: Mapping[str, Any], *, off: str = "#"
) -> Iterator[list[str]]:
    """The lines of each field: prose, then its value; ``off`` stands before what was not given."""
    for name, field in settings.model_fields.items():
        annotation = annotation_of(settings, name)
        shown = [str(one) for one in field.examples or () if not isinstance(one, dict)]
        hint = f" For example {shown[0]}." if shown and name not in given else ""
        prose = _prose((field.description or "") + hint)
        if name in given or field.is_required():
            value = given[name] if name in given else _plausible(settings, name)
            yield prose + _entry(name, annotation, value)
            continue
        default = to_jsonable_python(field.get_default(call_default_factory=True))
        yield prose + [off + line for line in _entry(name, annotation, default, off="")]


def _entry(name: str, annotation: Any, value: Any, *, off: str = "#") -> list[str]:
    """A field with its value: settings over several lines, everything else in one."""
    nested = settings_class(annotation, value)
    if nested and isinstance(value, dict):
        return [f"{name}:", *_indented(_flat(_fields(nested, value, off=off)), 2)]
    item = item_annotation(annotation)
    if isinstance(value, dict) and value and settings_class(item, next(iter(value.values()))):
        (first, model), *others = value.items()  # the first explains, the others repeat
        alike = [key for key, one in others if _is_like(one, model)]
        shown = _entry(first, item, model) if isinstance(model, dict) else [f"{first}: {model}"]
        if alike:  # and take over what is set there
            shown[0] += f" &{first}"
        lines = [f"{name}:", *_indented(shown, 2)]
        for key, one in others:
            own = {k: v for k, v in one.items() if v != model[k]} if key in alike else one
            words = _flow(own)
            lines.append(f"  {key}: " + (f"{{<<: *{first}, {words[1:]}" if key in alike else words))
        return lines
    if isinstance(value, list):
        value = [_short(settings_class(item, one), one) for one in value]
    return [f"{name}: {_flow(value)}"]


def _short(settings: type[BaseModel] | None, value: Any) -> Any:
    """An entry of a list without what it has anyway, but for its type."""
    if settings is None or not isinstance(value, dict):
        return value
    fields = settings.model_fields
    return {
        key: one
        for key, one in value.items()
        if key == "type"
        or fields[key].is_required()
        or one != to_jsonable_python(fields[key].get_default(call_default_factory=True))
    }


def _is_like(one: Any, model: Any) -> bool:
    """Whether an entry says the same things as the first, and something else of them."""
    return (
        isinstance(one, dict)
        and isinstance(model, dict)
        and one.keys() == model.keys()
        and one != model
        and any(one[key] == model[key] for key in one)
    )


def _plausible(settings: type[BaseModel], name: str) -> Any:
    """A value for a setting that has no default."""
    field = settings.model_fields[name]
    choices = (*(field.examples or ()), *(type_names(settings) if name == "type" else ()))
    if not choices:
        raise LookupError(f"{settings.__name__}.{name}: has no default; want examples=[...] for it")
    return choices[0]


def _summary(settings: type[BaseModel]) -> str:
    return (settings.__doc__ or "").strip().partition("\n")[0]


def _prose(text: str) -> list[str]:
    return wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# ")


def _indented(lines: Iterable[str], blanks: int) -> list[str]:
    return [" " * blanks + line for line in lines]


def _flat(groups: Iterable[list[str]]) -> list[str]:
    return [line for group in groups for line in group]


def _flow(value: Any) -> str:
    """A value in one line of YAML: JSON, with quotes only where they are wanted."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and resolved(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)
