"""COCO JSON (cocodataset.org/#format-data): boxes, and masks as polygons or run lengths.

An annotation without a box has that of its mask. A crowd (``iscrowd: 1``) is no single defect and
is passed over. Pictures without an annotation are good ones.
"""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from connectors.labelled.masks import box_of, part, polygon, run_lengths
from connectors.labelled.pictures import (
    Bool,
    Box,
    Labelled,
    LabelsError,
    Mark,
    as_labelled,
    pictures_in,
    several,
    size_if_read,
    within,
)

WANTED = ("images", "annotations", "categories")
LEAST_CORNERS = 3
BEYOND = 1e100  # no number of pixels: what is not below has no float, or no square of one


def read(folder: Path, file: Path) -> Labelled:
    """Pictures of a folder with what a file says of them. Raises LabelsError."""
    content = _content(file)
    images = _by_id(file, content, "images")
    names = _names(file, _by_id(file, content, "categories"))
    _by_id(file, content, "annotations")
    paths = _paths(folder, file, images)
    sizes = {number: _size(file, images[number], path) for number, path in paths.items()}
    marks: dict[object, list[Mark]] = {number: [] for number in images}
    crowds, thin = 0, []
    for annotation in content["annotations"]:
        where = f"{file}: annotation {annotation['id']!r}"
        image, category = annotation.get("image_id"), annotation.get("category_id")
        if not _known(image, images):
            raise LabelsError(f"{where}: image_id {image!r}, and no image has that id.")
        if not _known(category, names):
            raise LabelsError(f"{where}: category_id {category!r}, and no category has that id.")
        if annotation.get("iscrowd") == 1:
            crowds += 1
            continue
        if (size := sizes[image]) is not None:
            mark = _mark(where, annotation, names[category], size)
            marks[image].append(mark)
            if mark.mask is None and annotation.get("segmentation"):
                thin.append(annotation["id"])
    warnings = _warnings(file, marks, names, crowds=crowds, thin=thin)
    if outside := [one for one in paths.values() if os.path.relpath(one, folder).startswith("..")]:
        warnings.append(f"{file}: names {_names_of(outside)}, outside of {folder}")
    there = {path.resolve() for path in paths.values()}
    if others := [one for one in pictures_in(folder) if one.resolve() not in there]:
        warnings.append(f"{folder}: {file.name} does not name {_names_of(others)}: left out")
    return Labelled(
        form=f"{file} (COCO)",
        paths=list(paths.values()),
        marks=[marks[number] for number in paths],
        warnings=tuple(warnings),
    )


def _warnings(
    file: Path,
    marks: Mapping[object, Sequence[Mark]],
    names: Mapping[object, str],
    *,
    crowds: int,
    thin: Sequence[object],
) -> list[str]:
    """What is passed over, or will be learnt otherwise than it was meant."""
    used = Counter(one.label for own in marks.values() for one in own)
    warnings = []
    if crowds:
        warnings.append(f"{file}: {crowds} crowds are passed over: they are no single defects")
    if thin:
        warnings.append(
            f"{file}: the segmentation of annotation {several(thin)} holds the middle of no pixel: "
            "only its box is known, and masks are learnt only where every annotation has one. "
            "Draw it wider, or take it out"
        )
    if empty := [name for name in names.values() if name not in used]:
        warnings.append(
            f"{file}: nothing is marked as {several(sorted(empty))}: it will not be learnt"
        )
    return warnings


def _content(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise LabelsError(f"{file}: no JSON: {error}.") from error
    if not isinstance(content, dict) or any(
        not isinstance(content.get(name), list) for name in WANTED
    ):
        got = f"keys {several(sorted(content))}" if isinstance(content, dict) else "no object"
        raise LabelsError(
            f"{file}: want COCO with lists {', '.join(WANTED)}; got {got or 'nothing'}."
        )
    return content


def _by_id(file: Path, content: Mapping[str, Any], what: str) -> dict[object, dict[str, Any]]:
    """Entries by their id. Raises LabelsError for one without, or two that have the same."""
    found: dict[object, dict[str, Any]] = {}
    for number, entry in enumerate(content[what]):
        key = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(key, int | str):
            raise LabelsError(f"{file}: {what}[{number}] has no id.")
        if key in found:
            raise LabelsError(
                f"{file}: two of {what} have the id {key!r}. Give each its own: it is not known "
                "which one is meant."
            )
        found[key] = entry
    return found


def _names(file: Path, categories: Mapping[object, Mapping[str, Any]]) -> dict[object, str]:
    names = {key: entry.get("name") for key, entry in categories.items()}
    for key, name in names.items():
        if not isinstance(name, str) or not name.strip():
            raise LabelsError(f"{file}: category {key!r} has the name {name!r}; want a text.")
    if twice := [name for name, count in Counter(names.values()).items() if count > 1]:
        raise LabelsError(f"{file}: two categories are called {twice[0]!r}. Make them one.")
    return {key: str(name) for key, name in names.items()}


def _paths(
    folder: Path, file: Path, images: Mapping[object, Mapping[str, Any]]
) -> dict[object, Path]:
    paths: dict[object, Path] = {}
    for key, entry in images.items():
        name = entry.get("file_name")
        if not isinstance(name, str) or not name:
            raise LabelsError(f"{file}: image {key!r} has the file_name {name!r}; want a name.")
        paths[key] = folder / name
    if twice := [path for path, count in Counter(paths.values()).items() if count > 1]:
        raise LabelsError(f"{file}: two images have the file_name {twice[0].name!r}.")
    named = {key: str(entry["file_name"]) for key, entry in images.items()}
    if missing := [named[key] for key, path in paths.items() if not path.is_file()]:
        raise LabelsError(
            f"{folder}: {len(missing)} of {len(paths)} pictures that {file.name} names are not "
            f"there: {several(missing)}. Give the folder that file_name is meant from."
        )
    return paths


def _size(file: Path, entry: Mapping[str, Any], path: Path) -> tuple[int, int] | None:
    """Width and height of a picture. Raises LabelsError where it is not the one labelled."""
    size, said = size_if_read(path), (entry.get("width"), entry.get("height"))
    if size is not None and None not in said:
        as_labelled(str(file), path, (str(said[0]), str(said[1])), size)
    return size


def _known(key: object, known: Mapping[object, object]) -> bool:
    return isinstance(key, int | str) and key in known


def _mark(where: str, annotation: Mapping[str, Any], label: str, size: tuple[int, int]) -> Mark:
    mask = _mask(where, annotation.get("segmentation"), size)
    own = None if mask is None else box_of(mask)
    given = annotation.get("bbox")
    if given is None and own is None:
        has = (
            "no bbox, and no pixel's middle in its"
            if annotation.get("segmentation")
            else "neither bbox nor"
        )
        raise LabelsError(f"{where}: has {has} segmentation.")
    if given is None:
        assert own is not None  # noqa: S101 - looked at above
        box = own
    else:
        box = within(_box(where, given), size, where)
        if own is not None:  # the mask counts: a box that tools rounded holds all of it
            low = min(box[0], own[0]), min(box[1], own[1])
            box = (*low, max(box[2], own[2]), max(box[3], own[3]))
    return Mark(label=label, box=box, mask=None if mask is None or own is None else part(mask, box))


def _box(where: str, given: object) -> Box:
    if not isinstance(given, list) or len(given) != 4 or not _numbers(given):
        raise LabelsError(f"{where}: bbox is {given!r}, want [x, y, width, height].")
    x, y, width, height = given
    return x, y, x + width, y + height


def _mask(where: str, given: object, size: tuple[int, int]) -> Bool | None:
    """The pixels [H, W] of a segmentation; None where there is none."""
    if given is None or given == []:
        return None
    if isinstance(given, dict):
        width, height = size
        if given.get("size") != [height, width]:
            raise LabelsError(
                f"{where}: run lengths of size {given.get('size')!r}, and its picture has "
                f"[{height}, {width}] (height, width)."
            )
        counts = given.get("counts")
        if not isinstance(counts, str) and not (isinstance(counts, list) and _numbers(counts)):
            raise LabelsError(f"{where}: run lengths without counts.")
        try:
            return run_lengths(counts, size)
        except ValueError as error:
            raise LabelsError(f"{where}: {error}.") from error
    parts = given if isinstance(given, list) else [None]
    found: Bool | None = None
    for one in parts:
        if (
            not isinstance(one, list)
            or len(one) % 2
            or len(one) < 2 * LEAST_CORNERS
            or not _numbers(one)
        ):
            raise LabelsError(
                f"{where}: segmentation is neither polygons [[x, y, x, y, x, y, ...], ...] nor "
                "run lengths."
            )
        pixels = polygon(one, size)
        found = pixels if found is None else found | pixels
    return found


def _numbers(given: list[Any]) -> bool:
    return all(
        isinstance(x, int | float) and not isinstance(x, bool) and abs(x) < BEYOND for x in given
    )


def _names_of(paths: list[Path]) -> str:
    noun = "picture" if len(paths) == 1 else "pictures"
    return f"{len(paths)} {noun}, {several([path.name for path in paths])}"
