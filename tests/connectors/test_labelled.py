"""Pictures with labels in every form people have them; and what is wrong with them, in words."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.labelled import SIDE, coco, plain, voc

from connectors.labelled import Files, LabelsError, pictures_in, read
from connectors.labelled.masks import polygon, run_lengths

SIZE = (SIDE, SIDE)
THIN = [1.6, 1.6, 1.9, 1.6, 1.9, 1.9]  # no pixel's middle
SQUARE = [4.0, 6.0, 10.0, 6.0, 10.0, 14.0, 4.0, 14.0]  # x 4 to 10, y 6 to 14


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A folder with two pictures."""
    for name in ("a.png", "b.png"):
        plain(tmp_path / name)
    return tmp_path


def one_annotation(folder: Path, *annotations: dict[str, Any], **more: Any) -> Path:
    file = folder / "labels.json"
    coco(file, {"a.png": SIZE, "b.png": SIZE}, annotations, **more)
    return file


# ---- masks


def test_a_pixel_belongs_to_a_polygon_if_its_middle_does() -> None:
    found = polygon(SQUARE, SIZE)
    assert found.sum() == 6 * 8
    assert found[6:14, 4:10].all()

    assert polygon([0.0, 0.0, 4.0, 0.0, 0.0, 4.0], (4, 4)).sum() == 6  # middles on its side: out
    beyond = polygon([-5.0, -5.0, 50.0, -5.0, 50.0, 50.0, -5.0, 50.0], (4, 3))
    assert beyond.shape == (3, 4)
    assert beyond.all()


def test_run_lengths_go_down_the_columns_as_numbers_or_as_text() -> None:
    wanted = np.zeros((3, 4), np.bool_)
    wanted[1:, 1] = wanted[:2, 2] = True  # 4 zeros, 4 ones, 4 zeros, column by column
    np.testing.assert_array_equal(run_lengths([4, 4, 4], (4, 3)), wanted)
    np.testing.assert_array_equal(run_lengths("444", (4, 3)), wanted)  # as pycocotools packs it


def test_packed_run_lengths_hold_differences_and_large_numbers() -> None:
    # packed by hand after the definition: 6 = "6", 1 = "1", 40 = 8 + 32 x 1 = "X1", then
    # 1 more than the 1 before the last one = "0", and 12 - 40 = -28 = "TO"
    counts = [6, 1, 40, 1, 12]
    np.testing.assert_array_equal(run_lengths("61X10TO", (6, 10)), run_lengths(counts, (6, 10)))


@pytest.mark.parametrize("counts", [[4, 4], [4, -4, 12], "4", "4X", "\x01"])
def test_run_lengths_that_are_not_those_of_the_picture_are_refused(counts: list[int] | str) -> None:
    with pytest.raises(ValueError, match="run lengths"):
        run_lengths(counts, (4, 3))


# ---- COCO


def test_coco_gives_boxes_names_masks_and_good_pictures(two: Path) -> None:
    rle = {"size": [SIDE, SIDE], "counts": [0, 2, SIDE * SIDE - 2]}
    one_annotation(
        two,
        {"bbox": [4, 6, 6, 8], "segmentation": [SQUARE]},
        {"category_id": 2, "bbox": [1, 2, 3, 4]},
        {"segmentation": rle},
    )
    found = read(two)

    assert [path.name for path in found.paths] == ["a.png", "b.png"]
    assert found.labels is None
    assert found.marks is not None
    pit, dent, third = found.marks[0]
    assert found.marks[1] == []
    assert (pit.label, pit.box) == ("pit", (4, 6, 10, 14))
    assert pit.mask is not None
    assert pit.mask.shape == (8, 6)
    assert pit.mask.all()
    assert (dent.label, dent.box, dent.mask) == ("dent", (1, 2, 4, 6), None)
    assert third.box == (0, 0, 1, 2)  # two pixels down the first column
    assert found.warnings == ()


def test_a_mask_may_be_of_several_polygons_and_its_box_holds_all_of_it(two: Path) -> None:
    other = [x + 8 for x in SQUARE]
    one_annotation(two, {"bbox": [5, 6, 4, 4], "segmentation": [SQUARE, other]})
    ((mark,), _) = read(two).marks or ()
    assert mark.box == (4, 6, 18, 22)
    assert mark.mask is not None
    assert mark.mask.sum() == 2 * 6 * 8
    assert mark.mask.shape == (16, 14)


def test_a_box_may_reach_beyond_its_picture_by_a_pixel_and_is_cut(two: Path) -> None:
    one_annotation(two, {"bbox": [-0.6, 20, 5, 4.9]})
    ((mark,), _) = read(two).marks or ()
    assert mark.box == (0, 20, 4.4, SIDE)


@pytest.mark.parametrize(
    ("annotation", "says"),
    [
        ({"bbox": [20, 2, 8, 4]}, r"annotation 1: the box \[20, 2, 28, 6\] is not within its pict"),
        ({"bbox": [2, 2, 0, 4]}, r"annotation 1: got a box \[2, 2, 2, 6\], want x1 < x2"),
        ({"bbox": [2, 2, 4]}, r"annotation 1: bbox is \[2, 2, 4\], want \[x, y, width, height\]"),
        ({"bbox": [1, 1, 2, float("nan")]}, "annotation 1: bbox is"),
        ({}, "annotation 1: has neither bbox nor segmentation"),
        ({"bbox": [1, 1, 2, 2], "image_id": 9}, "annotation 1: image_id 9, and no image"),
        ({"bbox": [1, 1, 2, 2], "image_id": [1]}, r"annotation 1: image_id \[1\], and no image"),
        ({"bbox": [1, 1, 2, 2], "category_id": 9}, "annotation 1: category_id 9, and no category"),
        ({"segmentation": [[1, 2, 3]]}, "annotation 1: segmentation is neither polygons"),
        ({"segmentation": "mask"}, "annotation 1: segmentation is neither polygons"),
        ({"segmentation": {"size": [2, 2], "counts": [4]}}, r"annotation 1: run lengths of size"),
        ({"segmentation": {"size": [SIDE, SIDE], "counts": [4]}}, "annotation 1: run lengths of 4"),
        (
            {"segmentation": {"size": [SIDE, SIDE], "counts": [10**30]}},
            "annotation 1: run lengths of 1000000000000000000000000000000 pixels",
        ),
        ({"bbox": [10**400, 0, 1, 1]}, "annotation 1: bbox is"),
        ({"segmentation": [THIN]}, "annotation 1: has no bbox, and no pixel's middle in its seg"),
        ({"segmentation": {"size": [SIDE, SIDE]}}, "annotation 1: run lengths without counts"),
    ],
)
def test_an_annotation_that_cannot_be_is_named(
    two: Path, annotation: dict[str, Any], says: str
) -> None:
    one_annotation(two, annotation)
    with pytest.raises(LabelsError, match=says):
        read(two)


def twice(what: str) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content[what][1]["id"] = content[what][0]["id"]

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (twice("images"), "two of images have the id 1"),
        (twice("annotations"), "two of annotations have the id 1"),
        (twice("categories"), "two of categories have the id 1"),
        (lambda c: c["categories"][1].update(name="pit"), "two categories are called 'pit'"),
        (lambda c: c["categories"][1].update(name=" "), "category 2 has the name ' '"),
        (lambda c: c["images"][1].pop("id"), r"images\[1\] has no id"),
        (lambda c: c["images"][1].update(file_name="a.png"), "two images have the file_name"),
        (lambda c: c["images"][1].update(file_name="/n/c.png"), "1 of 2 .* there: /n/c.png"),
        (lambda c: c["images"][1].update(file_name="../c.png"), r"1 of 2 .* there: \.\./c\.png"),
        (lambda c: c["images"][1].update(file_name=""), "image 2 has the file_name ''"),
        (lambda c: c["images"][1].update(file_name="c.png"), "1 of 2 pictures .* there: c.png"),
        (lambda c: c["images"][0].update(width=99), "says a.png has 99 x 24 pixels, and it has 24"),
        (lambda c: c.pop("categories"), "want COCO with lists images, annotations, categories"),
    ],
)
def test_a_coco_file_that_is_not_right_is_named(
    two: Path, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    file = two / "labels.json"
    box = {"bbox": [1, 1, 2, 2]}
    content = coco(file, {"a.png": SIZE, "b.png": SIZE}, [box, box])
    change(content)
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(LabelsError, match=says):
        read(two)


def test_what_coco_says_for_nothing_is_a_warning(two: Path) -> None:
    plain(two / "c.png")
    one_annotation(two, {"bbox": [1, 1, 2, 2]}, {"bbox": [1, 1, 2, 2], "iscrowd": 1})
    said = " | ".join(read(two).warnings)
    assert "1 crowds are passed over" in said
    assert "nothing is marked as dent" in said
    assert "does not name 1 picture, c.png: left out" in said


def test_a_mask_without_a_pixel_is_a_warning_for_its_set_is_learnt_as_boxes(two: Path) -> None:
    thin = {"bbox": [1.6, 1.6, 0.3, 0.3], "segmentation": [THIN]}
    one_annotation(two, {"segmentation": [SQUARE]}, thin)
    said = " | ".join(read(two).warnings)
    assert "the segmentation of annotation 2 holds the middle of no pixel" in said


def test_pictures_outside_of_the_folder_are_said(two: Path) -> None:
    inner = two / "inner"
    plain(inner / "c.png")
    coco(inner / "labels.json", {"c.png": SIZE, "../a.png": SIZE}, [])
    assert f"names 1 picture, a.png, outside of {inner}" in " | ".join(read(inner).warnings)


# ---- Pascal VOC


def test_voc_gives_boxes_that_count_from_one_and_hold_their_last_pixel(two: Path) -> None:
    voc(two / "a.xml", "a.png", [("pit", (1, 1, 10, 24)), ("dent", (3, 4, 5, 6))])
    voc(two / "b.xml", "b.png", [])
    found = read(two)
    assert found.marks is not None
    assert [(one.label, one.box) for one in found.marks[0]] == [
        ("pit", (0, 0, 10, 24)),
        ("dent", (2, 3, 5, 6)),
    ]
    assert found.marks[1] == []


def test_voc_may_lie_in_a_folder_of_its_own(tmp_path: Path) -> None:
    plain(tmp_path / "JPEGImages" / "a.png")
    voc(tmp_path / "Annotations" / "a.xml", "a.png", [("pit", (1, 1, 4, 4))])
    assert [path.name for path in read(tmp_path).paths] == ["a.png"]
    assert len(read(tmp_path / "JPEGImages", tmp_path / "Annotations").paths) == 1


@pytest.mark.parametrize(
    ("box", "says"),
    [
        ((1, 1, 40, 4), r"object 1 \(pit\): the box \[0, 0, 40, 4\] is not within"),
        ((9, 1, 4, 4), r"object 1 \(pit\): got a box"),
        (("x", 1, 4, 4), r"object 1 \(pit\): bndbox is"),
    ],
)
def test_a_box_of_voc_that_cannot_be_is_named(
    two: Path, box: tuple[object, ...], says: str
) -> None:
    voc(two / "a.xml", "a.png", [("pit", box)])
    with pytest.raises(LabelsError, match=says):
        read(two)


def test_voc_of_other_pictures_is_refused(two: Path) -> None:
    voc(two / "a.xml", "a.png", [], size=(99, 24))
    with pytest.raises(LabelsError, match=r"says a\.png has 99 x 24 pixels, and it has 24 x 24"):
        read(two)
    voc(two / "a.xml", "c.png", [])
    assert [path.name for path in read(two).paths] == ["a.png"]  # by the file's own name
    voc(two / "c.xml", "d.png", [])
    with pytest.raises(LabelsError, match=r"1 of 2 pictures are not there: d\.png of c\.xml"):
        read(two)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<annotation>", "no XML"),
        ("<kml/>", "want <annotation>"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "declares a document type"),
        ("<annotation><object/></annotation>", "object 1: has no name"),
    ],
)
def test_xml_that_is_no_voc_is_refused(two: Path, text: str, says: str) -> None:
    (two / "a.xml").write_text(text, encoding="utf-8")
    with pytest.raises(LabelsError, match=says):
        read(two)


# ---- a table, and the names of folders


def table(folder: Path, text: str) -> Path:
    file = folder / "labels.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_table_gives_labels_and_what_else_it_says(two: Path) -> None:
    table(two, "image,label,part\na.png,good,7\nb.png,dent,8\n")
    found = read(two)
    assert found.labels == ["good", "dent"]
    assert found.columns == {"part": ["7", "8"]}


def test_a_table_with_corners_gives_boxes_a_line_each(two: Path) -> None:
    table(two, "image,x1,y1,x2,y2,label\na.png,1,2,3,4,pit\na.png,5,6,7,8,dent\nb.png,,,,,\n")
    found = read(two)
    assert found.labels is None
    assert found.marks is not None
    assert [(one.label, one.box) for one in found.marks[0]] == [
        ("pit", (1, 2, 3, 4)),
        ("dent", (5, 6, 7, 8)),
    ]
    assert found.marks[1] == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("file,label\na.png,good\n", "labels.csv:1: no column image; got file, label"),
        ("image,label\n", "labels.csv: no lines"),
        ("image,label\na.png,\n", "labels.csv:2: a.png has no label"),
        ("image,label\n,good\n", "labels.csv:2: no image"),
        ("image,label\na.png,x\na.png,y\n", "labels.csv:3: a.png is named again, after line 2"),
        ("image,label\nc.png,x\nb.png,y\n", "1 of 2 pictures that labels.csv names .* c.png"),
        ("image,label,x1,y1,x2,y2\na.png,x,1,2,30,4\n", "labels.csv:2: the box .* not within"),
        ("image,label,x1,y1,x2,y2\na.png,x,1,2,a,4\n", "labels.csv:2: got 1, 2, a, 4, want numb"),
        ("image,label,x1,y1,x2,y2\na.png,,1,2,3,4\n", "labels.csv:2: a box without a label"),
        ("image,label,x1,y1,x2,y2\na.png,x,1,2,3,4\na.png,,,,,\n", "labels.csv:3: .* has no box"),
        ("image,label,part,x1,y1,x2,y2\na.png,x,7,1,2,3,4\na.png,x,8,1,2,3,4\n", "values of part"),
    ],
)
def test_a_table_that_is_not_right_is_named_with_its_line(two: Path, text: str, says: str) -> None:
    table(two, text)
    with pytest.raises(LabelsError, match=says):
        read(two)


def test_a_class_is_the_folder_that_a_picture_is_in(tmp_path: Path) -> None:
    for name in ("good/b.png", "good/more/a.JPG", "dent/c.png", ".hidden/d.png"):
        plain(tmp_path / name)
    found = read(tmp_path)
    assert found.labels == ["dent", "good", "good"]


def test_a_class_whose_folder_is_no_utf8_has_a_name_that_is_text(tmp_path: Path) -> None:
    plain(tmp_path / os.fsdecode(b"d\xff") / "1.png")
    plain(tmp_path / "good" / "2.png")
    assert read(tmp_path).labels == ["d\\udcff", "good"]


def test_a_folder_of_a_class_without_pictures_is_named(tmp_path: Path) -> None:
    plain(tmp_path / "good" / "b.png")
    (tmp_path / "dent").mkdir()
    with pytest.raises(LabelsError, match="no picture of class dent"):
        read(tmp_path)


def test_pictures_without_any_label_are_named(two: Path) -> None:
    with pytest.raises(LabelsError, match=r"a\.png, b\.png in no folder of a class"):
        read(two)


# ---- which form


def test_several_labels_in_one_folder_want_to_be_chosen_from(two: Path) -> None:
    file = one_annotation(two, {"bbox": [1, 1, 2, 2]})
    other = table(two, "image,label\na.png,good\nb.png,dent\n")
    with pytest.raises(LabelsError, match=r"labels\.csv, labels\.json\. Say which with --labels"):
        read(two)
    assert read(two, file).marks is not None
    assert read(two, other).labels is not None


def test_labels_that_are_not_there_or_of_no_form_are_refused(two: Path) -> None:
    (two / "labels.txt").touch()
    (two / "empty").mkdir()
    for name, says in (
        ("none.csv", "no such file or folder"),
        ("labels.txt", r"want labels as \.csv"),
        ("empty", r"no \.xml in it"),
    ):
        with pytest.raises(LabelsError, match=says):
            read(two, two / name)
    with pytest.raises(LabelsError, match="no such folder"):
        read(two / "elsewhere")
    (two / "labels.json").write_text("{", encoding="utf-8")
    with pytest.raises(LabelsError, match="no JSON"):
        read(two)


# ---- the pictures


def test_what_is_no_sound_picture_is_named_and_the_others_read(two: Path) -> None:
    (two / "b.png").write_bytes((two / "a.png").read_bytes()[:-9])
    (two / "c.jpg").write_bytes(b"text")
    files = Files(pictures_in(two))
    assert files[0].shape == (SIDE, SIDE, 1)
    why = files.unreadable()
    assert list(why) == [1, 2]
    assert why[1].startswith(str(two / "b.png"))
    assert "ends too early" in why[1]
    assert len(files.some([0])) == 1


def test_a_folder_that_is_left_out_is_not_looked_into(two: Path) -> None:
    plain(two / "inspection" / "overlay.png")
    assert len(pictures_in(two)) == 3
    assert len(pictures_in(two, without=two / "inspection")) == 2
    for name in ("a.png", "b.png"):
        (two / name).unlink()
    with pytest.raises(LabelsError, match="no picture in it"):
        pictures_in(two, without=two / "inspection")


def test_a_folder_with_pictures_of_other_kinds_alone_names_them(two: Path) -> None:
    for path in two.glob("*.png"):
        path.rename(path.with_suffix(".TIFF"))
    with pytest.raises(LabelsError, match=r"There are 2 \.tiff passed over: JPEG and PNG are read"):
        pictures_in(two)
