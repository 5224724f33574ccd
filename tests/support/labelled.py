"""Small pictures in folders, labelled in every form that labels have."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 24
Pixels = NDArray[np.uint8]


def save(path: Path, pixels: NDArray[Any]) -> Path:
    """A PNG or JPEG of a picture [H, W] or [H, W, C]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def plain(path: Path, *, width: int = SIDE, height: int = SIDE, value: int = 90) -> Path:
    """A grey picture without anything on it."""
    return save(path, np.full((height, width), value, np.uint8))


def folders(root: Path, pictures: Sequence[Pixels], labels: Sequence[str]) -> Path:
    """Pictures [H, W, 1], each in the folder of its class."""
    for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        save(root / label / f"{number:03d}.png", picture[..., 0])
    return root


def coco(
    file: Path,
    images: Mapping[str, tuple[int, int]],
    annotations: Sequence[Mapping[str, Any]],
    categories: Sequence[str] = ("pit", "dent"),
) -> dict[str, Any]:
    """Write COCO: ids are those of the order, from 1; what is given of an annotation stands."""
    content = {
        "images": [
            {"id": number, "file_name": name, "width": size[0], "height": size[1]}
            for number, (name, size) in enumerate(images.items(), start=1)
        ],
        "categories": [
            {"id": number, "name": name} for number, name in enumerate(categories, start=1)
        ],
        "annotations": [
            {"id": number, "image_id": 1, "category_id": 1, **one}
            for number, one in enumerate(annotations, start=1)
        ],
    }
    file.write_text(json.dumps(content), encoding="utf-8")
    return content


def voc(
    file: Path,
    picture: str,
    objects: Sequence[tuple[str, Sequence[object]]],
    size: tuple[int, int] = (SIDE, SIDE),
) -> Path:
    """Write one file of Pascal VOC."""
    root = ET.Element("annotation")
    ET.SubElement(root, "filename").text = picture
    inner = ET.SubElement(root, "size")
    for name, value in zip(("width", "height"), size, strict=True):
        ET.SubElement(inner, name).text = str(value)
    for label, box in objects:
        one = ET.SubElement(root, "object")
        ET.SubElement(one, "name").text = label
        corners = ET.SubElement(one, "bndbox")
        for name, corner in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
            ET.SubElement(corners, name).text = str(corner)
    file.parent.mkdir(parents=True, exist_ok=True)
    ET.ElementTree(root).write(file)
    return file
