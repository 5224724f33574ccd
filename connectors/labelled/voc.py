"""Pascal VOC XML, one file a picture: boxes.

Pixels count from 1 and a box holds its last ones (VOC2012 devkit, 3.3), so a box from 1 to 10 is
ten pixels wide here: 0 to 10. A tool that counts from 0 is off by a pixel at its upper left.
"""

from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

from connectors.labelled.pictures import (
    Labelled,
    LabelsError,
    Mark,
    as_labelled,
    pictures_in,
    several,
    size_if_read,
    within,
)

MOST_BYTES = 10_000_000  # of one file; one of a thousand boxes has some 300 kB
CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read(folder: Path, files: list[Path]) -> Labelled:
    """Pictures of a folder with what their files say of them. Raises LabelsError."""
    pictures = pictures_in(folder)
    by_name: dict[str, list[Path]] = {}
    for one in pictures:
        by_name.setdefault(one.stem, []).append(one)
    paths: list[Path] = []
    marks: list[list[Mark]] = []
    missing: list[str] = []
    for file in files:
        root = _parsed(file)
        if (path := _picture(folder, file, root, by_name)) is None:
            missing.append(f"{root.findtext('filename') or file.stem} of {file.name}")
            continue
        paths.append(path)
        marks.append(_marks(file, root, _size(file, root, path)))
    if missing:
        raise LabelsError(
            f"{folder}: {len(missing)} of {len(files)} pictures are not there: {several(missing)}. "
            "Give the folder that they are in or below."
        )
    if twice := [one for one, count in Counter(paths).items() if count > 1]:
        raise LabelsError(
            f"{folder}: {twice[0].name} is labelled by two XML files. Give it one, or the pictures "
            "names of their own."
        )
    warnings = []
    if others := sorted({one.name for one in pictures} - {one.name for one in paths}):
        warnings.append(
            f"{folder}: no XML for {several(others)}: left out; a good picture wants one without "
            "an object"
        )
    return Labelled(form="XML (Pascal VOC)", paths=paths, marks=marks, warnings=tuple(warnings))


def _parsed(file: Path) -> ET.Element:
    content = file.read_bytes()
    if len(content) > MOST_BYTES:
        raise LabelsError(f"{file}: {len(content):,} bytes, want {MOST_BYTES:,} at the most.")
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:  # entities can unfold without end
        raise LabelsError(f"{file}: declares a document type; want the XML of a labelling tool.")
    try:
        root = ET.fromstring(content)  # noqa: S314 - bounded, and no entities
    except ET.ParseError as error:
        raise LabelsError(f"{file}: no XML: {error}.") from error
    if root.tag != "annotation":
        raise LabelsError(f"{file}: want <annotation> (Pascal VOC), got <{root.tag}>.")
    return root


def _picture(
    folder: Path, file: Path, root: ET.Element, by_name: dict[str, list[Path]]
) -> Path | None:
    """The picture that a file speaks of: as it names it, or with its own name."""
    name = (root.findtext("filename") or "").replace("\\", "/").rpartition("/")[2]
    if name and (beside := file.parent / name).is_file():
        return folder / beside.relative_to(folder) if beside.is_relative_to(folder) else beside
    found = [path for path in by_name.get(Path(name).stem, []) if path.name == name]
    found = found or by_name.get(file.stem, [])
    if len(found) > 1:
        raise LabelsError(
            f"{file}: several pictures have its name: {several(found)}. Put it beside its own."
        )
    return found[0] if found else None


def _size(file: Path, root: ET.Element, path: Path) -> tuple[int, int] | None:
    """Width and height of the picture. Raises LabelsError where it is not the one labelled."""
    size, said = size_if_read(path), (root.findtext("size/width"), root.findtext("size/height"))
    if size is not None and said[0] is not None and said[1] is not None and said != ("0", "0"):
        as_labelled(str(file), path, (said[0].strip(), said[1].strip()), size)
    return size


def _marks(file: Path, root: ET.Element, size: tuple[int, int] | None) -> list[Mark]:
    found: list[Mark] = []
    if size is None:
        return found
    for number, one in enumerate(root.findall("object"), start=1):
        where = f"{file}: object {number}"
        label = (one.findtext("name") or "").strip()
        if not label:
            raise LabelsError(f"{where}: has no name.")
        texts = [one.findtext(f"bndbox/{corner}") for corner in CORNERS]
        try:
            x1, y1, x2, y2 = (float(text or "") for text in texts)
        except ValueError:
            raise LabelsError(
                f"{where} ({label}): bndbox is {texts}, want numbers {', '.join(CORNERS)}."
            ) from None
        box = within((x1 - 1, y1 - 1, x2, y2), size, f"{where} ({label})")
        found.append(Mark(label=label, box=box))
    return found
