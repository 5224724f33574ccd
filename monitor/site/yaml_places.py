"""YAML to plain data that remembers where everything stands, for errors that name line and column.

The first stop of a configuration. Built from the parser's events instead of yaml.load, for four
reasons: places are kept, a key given twice is an error, nesting and anchors cannot blow up, and
scalars follow the YAML 1.2 core schema (10.3). There ``no``, ``on``, ``12:30`` and ``2026-01-01``
are text, where YAML 1.1 makes them a boolean, a count of seconds and a date. Keys are always text.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_DEPTH = 64  # levels; a configuration has about 10
MAX_SIZE = 500_000  # nodes with every anchor written out; a plant of 1000 machines has about 50 000
LONGEST_NUMBER = 300  # digits: no setting is that large

_PARSER = getattr(
    yaml, "CSafeLoader", yaml.SafeLoader
)  # libyaml where PyYAML came with it: 7x faster
_NULL = re.compile(r"|~|null|Null|NULL")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_TEXT_TAGS = ("!", "tag:yaml.org,2002:str")
_HINTS = {  # what libyaml says -> what usually is the matter
    "mapping values are not allowed": "Does the line above want a blank after its colon, or this "
    "value quotes around a colon?",
    "did not find expected key": "Is this line indented as its neighbours are?",
    "could not find expected ':'": "Is a colon missing, or a closing quote further up?",
    "did not find expected ',' or": "Is a comma or a closing bracket missing?",
    "cannot start any token": "A value that begins with a sign such as %, @ or ` wants quotes.",
}


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where something stands in a file; both count from 1."""

    line: int
    column: int


class YamlError(Exception):
    """What keeps a text from being read: ``found`` holds every (place, message)."""

    def __init__(self, found: list[tuple[Place, str]]) -> None:
        """The first finding makes the message."""
        super().__init__(found[0][1])
        self.found = found


Path = tuple[str | int, ...]  # keys and list positions from the top down


@dataclass(frozen=True, slots=True)
class Node:
    """A value: its plain data, where it stands, and, for mappings and lists, the nodes below."""

    place: Place
    data: Any  # what json.loads would give
    text: str = ""  # of a scalar, as it stands in the file
    below: Mapping[str | int, "Node"] = field(default_factory=dict)
    keys: Mapping[str, Place] = field(default_factory=dict)  # where each key of a mapping stands
    size: int = 1  # nodes from here down
    height: int = 0  # levels below

    def find(self, path: Path) -> "tuple[Node, Path]":
        """The deepest node on the way along ``path``, and the part of the path that was there."""
        node = self
        for depth, step in enumerate(path):
            if step not in node.below:
                return node, path[:depth]
            node = node.below[step]
        return node, path


def read(text: str) -> Node:
    """The one document of a YAML text. Raises YamlError."""
    unprintable = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if unprintable:
        raise YamlError(
            [
                (
                    place_at(text, unprintable.start()),
                    f"the character {unprintable.group()!a} cannot stand in YAML",
                )
            ]
        )
    events = yaml.parse(text, Loader=_PARSER)
    try:
        return _Builder(events).document()
    except yaml.MarkedYAMLError as error:
        raise YamlError([_syntax(error, text)]) from None


def place_at(text: str, offset: int) -> Place:
    """The place of the character at ``offset``."""
    before = text[:offset]
    return Place(before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1)


def _syntax(error: yaml.MarkedYAMLError, text: str) -> tuple[Place, str]:
    """What the parser could not read, in words that help."""
    mark = error.problem_mark or error.context_mark
    if error.context_mark and re.search("quoted|flow", error.context or ""):
        mark = error.context_mark  # where it was opened, not where the file ended
    place = Place(1, 1) if mark is None else Place(mark.line + 1, mark.column + 1)
    lines = text.split("\n")
    if place.line > len(lines):  # libyaml adds a line at the end
        place = Place(len(lines), len(lines[-1]) + 1)
    line = lines[place.line - 1]
    margin = line[: len(line) - len(line.lstrip())]
    if "\t" in margin:
        tab = Place(place.line, margin.index("\t") + 1)
        return tab, "a tab; want spaces: YAML does not indent with tabs"
    problem = error.problem or "not YAML"
    hint = next((hint for words, hint in _HINTS.items() if words in problem), "")
    context = f" {error.context}" if error.context else ""
    return place, f"not YAML: {problem}{context}. {hint}".rstrip()


class _Builder:
    """Turns the parser's events into one tree; collects what is wrong with it."""

    def __init__(self, events: Iterator[yaml.Event]) -> None:
        self._events = events
        self._anchors: dict[str, Node] = {}
        self._found: list[tuple[Place, str]] = []

    def document(self) -> Node:
        """The tree of the only document. Raises YamlError."""
        root: Node | None = None
        for event in self._events:
            if not isinstance(event, yaml.DocumentStartEvent):
                continue
            if root is not None:
                place = _place(event)
                raise YamlError([(place, "a second document begins here; want one in a file")])
            root = self._node(next(self._events), 0)
        if self._found:
            raise YamlError(sorted(self._found))
        return Node(Place(1, 1), None) if root is None else root

    def _node(self, event: yaml.Event, depth: int) -> Node:
        """The node that begins with this event."""
        place = _place(event)
        if depth > MAX_DEPTH:
            raise _too_deep(place)
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise YamlError(
                    [(place, f"*{event.anchor}: no &{event.anchor} is complete before this line")]
                )
            node = self._anchors[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event, place)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(place, depth)
        else:
            node = self._mapping(place, depth)
        if node.size > MAX_SIZE:
            raise YamlError(
                [(place, f"more than {MAX_SIZE} values once its anchors are written out")]
            )
        if depth + node.height > MAX_DEPTH:
            raise _too_deep(place)
        anchor = getattr(event, "anchor", None)
        if anchor:
            self._anchors[anchor] = node
        return node

    def _scalar(self, event: yaml.ScalarEvent, place: Place) -> Node:
        text = event.value
        if event.tag is not None and event.tag not in _TEXT_TAGS:
            self._found.append((place, f"the YAML tag {event.tag} is not used here; leave it out"))
        plain = event.implicit[0] and event.tag is None
        return Node(place, resolved(text) if plain else text, text)

    def _sequence(self, place: Place, depth: int) -> Node:
        below: dict[str | int, Node] = {}
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            below[len(below)] = self._node(event, depth + 1)
        data = [node.data for node in below.values()]
        return _branch(place, data, below, {})

    def _mapping(self, place: Place, depth: int) -> Node:
        own: dict[str | int, Node] = {}
        merged: dict[str | int, Node] = {}
        keys: dict[str, Place] = {}
        merged_keys: dict[str, Place] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            at = _place(event)
            if not isinstance(event, yaml.ScalarEvent):
                raise YamlError([(at, "a key must be plain text")])
            key = event.value
            value = self._node(next(self._events), depth + 1)
            if key == "<<" and event.implicit[0]:
                for base in self._bases(value, at):
                    merged = {**base.below, **merged}
                    merged_keys = {**base.keys, **merged_keys}
            elif key in own:
                self._found.append(
                    (at, f"{key!r} is given twice; the first is in line {keys[key].line}")
                )
            else:
                own[key], keys[key] = value, at
        below = {**merged, **own}
        data = {key: node.data for key, node in below.items()}
        return _branch(place, data, below, {**merged_keys, **keys})

    def _bases(self, value: Node, at: Place) -> list[Node]:
        """The mappings that a merge key takes in; the first wins."""
        bases = list(value.below.values()) if isinstance(value.data, list) else [value]
        if not all(isinstance(base.data, dict) for base in bases):
            self._found.append((at, "<<: want an alias of a group of settings, as <<: *pump"))
            return []
        return bases


def resolved(text: str) -> str | int | float | bool | None:
    """A plain scalar by the YAML 1.2 core schema."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if len(text) > LONGEST_NUMBER:
        return text
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def _place(event: yaml.Event) -> Place:
    mark = event.start_mark
    assert mark is not None, "the parser marks every event"  # noqa: S101 - never input
    return Place(mark.line + 1, mark.column + 1)


def _branch(
    place: Place, data: Any, below: Mapping[str | int, Node], keys: Mapping[str, Place]
) -> Node:
    nodes = below.values()
    size = 1 + sum(node.size for node in nodes)
    height = 1 + max((node.height for node in nodes), default=0)
    return Node(place, data, below=below, keys=keys, size=size, height=height)


def _too_deep(place: Place) -> YamlError:
    return YamlError([(place, f"nested deeper than {MAX_DEPTH} levels")])
