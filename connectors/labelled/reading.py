"""Which form labels have: a table, COCO, Pascal VOC, or the names of folders."""

from pathlib import Path

from connectors.labelled import coco, tables, voc
from connectors.labelled.pictures import Labelled, LabelsError, several

TABLE = "labels.csv"  # taken without being asked for


def read(folder: Path, labels: Path | None = None) -> Labelled:
    """Pictures of a folder, with labels as they are given or else as they lie in it.

    Given: a ``.csv``, a ``.json`` (COCO), an ``.xml`` or a folder of them (Pascal VOC). Not given:
    the one of these that lies in the folder, the table by the name ``labels.csv``; none of them:
    the names of the folders that pictures are in. Raises LabelsError.
    """
    if labels is not None:
        return _given(folder, labels)
    if not folder.is_dir():
        raise LabelsError(
            f"{folder}: {'is a file' if folder.exists() else 'no such folder'}. Give the folder "
            "that the pictures are in."
        )
    tables_ = [folder / TABLE] if (folder / TABLE).is_file() else []
    jsons, xmls = sorted(folder.glob("*.json")), sorted(folder.rglob("*.xml"))
    kinds = [kind for kind in (tables_, jsons, xmls) if kind]
    if len(kinds) > 1 or len(jsons) > 1:
        found = [one.name for kind in kinds for one in kind[:2]]
        raise LabelsError(
            f"{folder}: several may be its labels: {several(found)}. Say which with --labels."
        )
    if not kinds:
        return tables.by_folder(folder)
    return voc.read(folder, xmls) if xmls else _given(folder, kinds[0][0])


def _given(folder: Path, labels: Path) -> Labelled:
    if labels.is_dir():
        if not (files := sorted(labels.rglob("*.xml"))):
            raise LabelsError(f"{labels}: no .xml in it or below it.")
        return voc.read(folder, files)
    if not labels.is_file():
        raise LabelsError(f"{labels}: no such file or folder of labels.")
    suffix = labels.suffix.lower()
    if suffix == ".csv":
        return tables.read(folder, labels)
    if suffix == ".json":
        return coco.read(folder, labels)
    if suffix == ".xml":
        return voc.read(folder, [labels])
    raise LabelsError(
        f"{labels}: want labels as .csv, .json (COCO), or a folder of .xml (Pascal VOC)."
    )
