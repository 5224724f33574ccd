"""Labels in a table (CSV), and as names of folders.

A table has a line a picture, ``image`` and ``label``; or, with x1, y1, x2 and y2 too, a line a
defect, where a picture without one has a line whose corners are empty. What else it has are columns
that others may ask for: who belongs together, which template.
"""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from connectors.labelled.pictures import (
    Labelled,
    LabelsError,
    Mark,
    others_in,
    pictures_in,
    several,
    size_if_read,
    within,
)

IMAGE, LABEL = "image", "label"
CORNERS = ("x1", "y1", "x2", "y2")


def read(folder: Path, file: Path) -> Labelled:
    """Pictures of a folder with what a table says of them. Raises LabelsError."""
    boxed = f", and {', '.join(CORNERS)} where boxes are marked"
    rows, names = lines_of(file, (IMAGE, LABEL), also=boxed)
    boxes = set(CORNERS) <= set(names)
    lines: dict[str, list[tuple[int, dict[str, str]]]] = {}
    for line, row in rows:
        if not row[IMAGE]:
            raise LabelsError(f"{file}:{line}: no image; want the name of its file.")
        lines.setdefault(row[IMAGE], []).append((line, row))
    if missing := [name for name in lines if not (folder / name).is_file()]:
        raise LabelsError(
            f"{folder}: {len(missing)} of {len(lines)} pictures that {file.name} names are not "
            f"there: {several(missing)}. Give the folder that its names are meant from."
        )
    others = [name for name in names if name not in (IMAGE, LABEL, *CORNERS)]
    columns: dict[str, list[str]] = {name: [] for name in others}
    labels, marks = [], []
    for name, own in lines.items():
        for column in others:
            said = {row[column] for _, row in own}
            if len(said) > 1:
                raise LabelsError(
                    f"{file}:{own[-1][0]}: {name} has several values of {column}: "
                    f"{several(sorted(said))}."
                )
            columns[column].append(said.pop())
        if boxes:
            marks.append(_marks(file, folder / name, own))
        else:
            labels.append(_label(file, name, own))
    paths = [folder / name for name in lines]
    warnings = []
    named = {path.resolve() for path in paths}
    named |= {(folder / value).resolve() for column in columns.values() for value in column}
    if left := [path.name for path in pictures_in(folder) if path.resolve() not in named]:
        warnings.append(f"{folder}: {file.name} does not name {several(left)}: left out")
    return Labelled(
        form=str(file),
        paths=paths,
        labels=None if boxes else labels,
        marks=marks if boxes else None,
        columns=columns,
        warnings=tuple(warnings),
    )


def lines_of(
    file: Path, wanted: Sequence[str], *, also: str = ""
) -> tuple[list[tuple[int, dict[str, str]]], list[str]]:
    """The lines of a table by their numbers, and its columns, of which it must have some.

    ``also`` says what else it may have. Raises LabelsError.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.DictReader(opened, strict=True)
            names = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = names
            rows = [
                (reader.line_num, {name: (row[name] or "").strip() for name in names})
                for row in reader
            ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise LabelsError(f"{file}: cannot be read as a table: {error}.") from error
    except OSError as error:
        raise LabelsError(f"{file}: {error.strerror or error}.") from error
    if missing := [name for name in wanted if name not in names]:
        raise LabelsError(
            f"{file}:1: no column {' and '.join(missing)}; got {several(names) or 'none'}. Want "
            f"{', '.join(wanted[:-1])} and {wanted[-1]}{also}."
        )
    if not rows:
        raise LabelsError(f"{file}: no lines below its head; want one for each picture.")
    return rows, names


def _label(file: Path, name: str, own: list[tuple[int, dict[str, str]]]) -> str:
    line, row = own[0]
    if len(own) > 1:
        raise LabelsError(
            f"{file}:{own[1][0]}: {name} is named again, after line {line}; want one class each."
        )
    if not row[LABEL]:
        raise LabelsError(f"{file}:{line}: {name} has no label.")
    return row[LABEL]


def _marks(file: Path, path: Path, own: list[tuple[int, dict[str, str]]]) -> list[Mark]:
    found: list[Mark] = []
    if (size := size_if_read(path)) is None:
        return found
    for line, row in own:
        where = f"{file}:{line}"
        texts = [row[corner] for corner in CORNERS]
        if not any(texts):  # a good picture, whatever it is called
            if len(own) > 1:
                raise LabelsError(
                    f"{where}: {path.name} has no box here, and one in another line; want one "
                    "or the other."
                )
            continue
        try:
            x1, y1, x2, y2 = map(float, texts)
        except ValueError:
            raise LabelsError(
                f"{where}: got {', '.join(texts)}, want numbers {', '.join(CORNERS)}."
            ) from None
        if not row[LABEL]:
            raise LabelsError(f"{where}: a box without a label.")
        box = within((x1, y1, x2, y2), size, where)
        found.append(Mark(label=row[LABEL], box=box))
    return found


def by_folder(folder: Path) -> Labelled:
    """Pictures whose class is the folder they are in. Raises LabelsError."""
    paths = pictures_in(folder)
    classes = sorted(one for one in folder.iterdir() if one.is_dir() and one.name[0] != ".")
    loose = [path.name for path in paths if path.parent == folder]
    if loose:
        raise LabelsError(
            f"{folder}: {several(loose)} in no folder of a class. Put each into a folder with the "
            "name of its class, or give a file of labels with --labels."
        )
    counts = Counter(path.relative_to(folder).parts[0] for path in paths)
    if empty := [one.name for one in classes if one.name not in counts]:
        others = others_in(folder)
        raise LabelsError(
            f"{folder}: no picture of class {several(empty)}. Put some into its folder, or remove "
            f"the folder.{others and f' There are {others}.'}"
        )
    return Labelled(
        form="the names of folders",
        paths=paths,
        labels=[path.relative_to(folder).parts[0] for path in paths],
    )
