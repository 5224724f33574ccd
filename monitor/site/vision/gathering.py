"""Pictures of a folder with all that is asked about them: labels, who belongs together, templates.

What does not decode is left out and named; everything else that is wrong is refused.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import numpy as np

from connectors.labelled import Files, Labelled, LabelsError, Mark, others_in, read
from models.vision.bundle import Task
from models.vision.stock import Examples, Marked, Region

Told = Callable[[int, int], None]  # how many of how many


def silent(_done: int, _of: int) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """Labelled pictures that decode, of one kind."""

    labelled: Labelled
    pictures: Files
    groups: Sequence[str] | None
    templates: Files | None
    unreadable: tuple[str, ...]  # why, with their names
    made: "Gathered | None" = None  # pictures by a generator, that teach and are never held out

    @property
    def task(self) -> Task:
        """What can be learnt from these labels: masks, where every mark has one."""
        if self.labelled.marks is None:
            return "classes"
        known = [one.mask is not None for own in self.labelled.marks for one in own]
        return "masks" if known and all(known) else "boxes"

    @property
    def marked(self) -> list[list[Marked]]:
        """What is marked on each."""
        marks = self.labelled.marks or ()
        return [[Marked(label=one.label, box=one.box) for one in own] for own in marks]

    @property
    def regions(self) -> "Regions":
        """What is painted over on each, where the task is masks."""
        return Regions(self.labelled.marks or (), self.pictures)

    def examples(self, task: Task) -> Examples:
        """To be learnt from, as this task; what was made behind what is real."""
        if self.made is not None:
            real, made = self.pictures, self.made.pictures
            groups = None if self.groups is None else list(self.groups)
            return Examples(
                pictures=Files([*real.paths, *made.paths]),
                labels=[*(self.labelled.labels or ()), *(self.made.labelled.labels or ())],
                groups=None if groups is None else [*groups, *map(str, made.paths)],
                made=[False] * len(real) + [True] * len(made),
            )
        return Examples(
            pictures=self.pictures,
            labels=self.labelled.labels,
            boxes=self.marked if task == "boxes" else None,
            masks=self.regions if task == "masks" else None,
            templates=self.templates,
            groups=self.groups,
        )

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width of each."""
        return [one.shape[:2] for one in self.pictures]

    @property
    def counts(self) -> dict[str, int]:
        """Of each class how many pictures, or how many marks; the most first."""
        if self.labelled.marks is None:
            return dict(Counter(self.labelled.labels or ()).most_common())
        return dict(Counter(one.label for own in self.marked for one in own).most_common())


class Regions(Sequence[Sequence[Region]]):
    """The masks of pictures, whole, each made when it is asked for."""

    def __init__(self, marks: Sequence[Sequence[Mark]], pictures: Files) -> None:
        self._marks, self._pictures = marks, pictures

    def __len__(self) -> int:
        """How many pictures."""
        return len(self._pictures)

    @overload
    def __getitem__(self, number: int) -> Sequence[Region]: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Sequence[Region]]: ...
    def __getitem__(self, number: int | slice) -> Sequence[Region] | Sequence[Sequence[Region]]:
        """What is painted over on a picture, or on some."""
        if isinstance(number, slice):
            return [self[n] for n in range(*number.indices(len(self)))]
        if not self._marks[number]:
            return []
        shape = self._pictures[number].shape[:2]
        return [_whole(mark, shape) for mark in self._marks[number]]


def _whole(mark: Mark, shape: tuple[int, ...]) -> Region:
    assert mark.mask is not None  # noqa: S101 - the task is masks
    whole = np.zeros(shape, np.bool_)
    x, y = round(mark.box[0]), round(mark.box[1])
    height, width = mark.mask.shape
    whole[y : y + height, x : x + width] = mark.mask
    return Region(label=mark.label, mask=whole)


def gather(
    folder: Path,
    labels: Path | None = None,
    *,
    groups: str | None = None,
    templates: str | None = None,
    told: Told = silent,
) -> Gathered:
    """All that is asked about the pictures of a folder.

    ``groups`` and ``templates`` as ``groups_of`` and ``templates_of`` take them; ``told`` how many
    pictures were unpacked. Raises LabelsError.
    """
    labelled = read(folder, labels)
    if others := others_in(folder):
        warnings = (*labelled.warnings, f"{folder}: {others}")
        labelled = replace(labelled, warnings=warnings)
    files = Files(labelled.paths)
    why = files.unreadable(lambda done: told(done, len(files)))
    if len(why) == len(files):
        raise LabelsError(f"{folder}: none of {len(files)} pictures can be read: {why[0]}.")
    sound = [number for number in range(len(files)) if number not in why]
    labelled, files = labelled.some(sound), files.some(sound)
    _check_kinds(files)
    shown = None
    if templates is not None:
        shown = Files(templates_of(folder, labelled.paths, templates, labelled=labelled))
        _check_templates(files, shown)
    return Gathered(
        labelled=labelled,
        pictures=files,
        groups=None if groups is None else groups_of(folder, labelled, groups),
        templates=shown,
        unreadable=tuple(why.values()),
    )


def groups_of(folder: Path, labelled: Labelled, given: str) -> list[str]:
    """Who belongs together: by a column of the table, or by what a pattern finds in a file's path.

    The pattern is a regular expression with a group; it is searched for in the path below the
    folder. Raises LabelsError.
    """
    if given in labelled.columns:
        return list(labelled.columns[given])
    columns = f" There are the columns {', '.join(labelled.columns)}." if labelled.columns else ""
    try:
        pattern = re.compile(given)
    except re.error as error:
        raise LabelsError(f"--groups: {given!r} is no pattern: {error}.{columns}") from None
    if not pattern.groups:
        raise LabelsError(
            f"--groups: want a column of a table of labels, or a pattern with a group, as "
            f"'(part[0-9]+)_'; got {given!r}.{columns}"
        )
    found = []
    for path in labelled.paths:
        name = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name
        match = pattern.search(name)
        if match is None:
            raise LabelsError(f"--groups: {given!r} is not found in {name}.{columns}")
        found.append(" ".join(one or "" for one in match.groups()))
    return found


def templates_of(
    folder: Path, paths: Sequence[Path], given: str, *, labelled: Labelled | None = None
) -> list[Path]:
    """The golden template of each picture.

    One file for all, the file of the same name in another folder, or a column of the table. Raises
    LabelsError.
    """
    where = Path(given)
    if labelled is not None and given in labelled.columns:
        found = [folder / name for name in labelled.columns[given]]
    elif where.is_file():
        return [where] * len(paths)
    elif where.is_dir():
        found = []
        for path in paths:
            below = path.relative_to(folder) if path.is_relative_to(folder) else Path(path.name)
            found.append(where / below if (where / below).is_file() else where / path.name)
    else:
        columns = ", ".join(labelled.columns) if labelled is not None else ""
        raise LabelsError(
            f"--templates: {given}: no such file or folder"
            + (f", and no such column; there are {columns}." if columns else ".")
        )
    if missing := [one for one in found if not one.is_file()]:
        raise LabelsError(
            f"--templates: {len(missing)} of {len(found)} are not there, the first {missing[0]}. "
            "Want one for each picture, by the picture's own name."
        )
    return found


def _check_kinds(files: Files) -> None:
    """Raises LabelsError for pictures of several depths or colours."""
    examples: dict[str, Path] = {}
    counts: Counter[str] = Counter()
    for path, picture in zip(files.paths, files, strict=True):
        kind = f"{picture.dtype.itemsize * 8} bits {'grey' if picture.shape[2] == 1 else 'RGB'}"
        examples.setdefault(kind, path)
        counts[kind] += 1
    if len(counts) > 1:
        kinds = ", ".join(
            f"{count} of {kind} (as {examples[kind]})" for kind, count in counts.most_common()
        )
        raise LabelsError(
            f"pictures of several kinds: {kinds}. Want pictures as the camera gives them, all of "
            "one kind: convert the fewer ones, or leave them out."
        )


def _check_templates(files: Files, templates: Files) -> None:
    if why := templates.unreadable():
        raise LabelsError(f"--templates: {len(why)} cannot be read: {next(iter(why.values()))}.")
    for number, (picture, template) in enumerate(zip(files, templates, strict=True)):
        if picture.shape != template.shape or picture.dtype != template.dtype:
            raise LabelsError(
                f"--templates: {templates.paths[number]} is {template.dtype} "
                f"{list(template.shape)}, and its picture {files.paths[number]} "
                f"{picture.dtype} {list(picture.shape)}. Want both alike."
            )


def check_classes(gathered: Gathered, classes: Sequence[str], good: str | None) -> None:
    """Raises LabelsError for labels that are no classes of an inspection."""
    known = [name for name in classes if gathered.task == "classes" or name != good]
    if strange := [name for name in gathered.counts if name not in known]:
        raise LabelsError(
            f"{gathered.labelled.form}: {', '.join(map(repr, strange))}: no class of this "
            f"inspection; its classes are {', '.join(known)}."
        )
