"""What is asked of the pictures of a folder: groups, templates, settings; how they are shown."""

from pathlib import Path

import pytest
from support.labelled import plain

from connectors.labelled import LabelsError, read
from monitor.site.problems import ConfigError
from monitor.site.vision.gathering import gather, groups_of, templates_of
from monitor.site.vision.settings import learning_settings, size_for


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    for name in ("good/part1_a.png", "good/part2_a.png", "dent/part1_b.png"):
        plain(folder / name)
    return folder


def test_groups_are_what_a_pattern_finds_in_the_path(pictures: Path) -> None:
    assert groups_of(pictures, read(pictures), "(part[0-9]+)_") == ["part1", "part1", "part2"]
    assert groups_of(pictures, read(pictures), "^([^/]+)/.*_([ab])") == [
        "dent b",
        "good a",
        "good a",
    ]


def test_groups_may_be_a_column(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        plain(tmp_path / name)
    text = "image,label,part\na.png,good,7\nb.png,dent,7\n"
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    assert groups_of(tmp_path, read(tmp_path), "part") == ["7", "7"]
    with pytest.raises(LabelsError, match="There are the columns part"):
        groups_of(tmp_path, read(tmp_path), "batch")


def test_a_template_is_one_for_all_or_one_each_by_its_name(pictures: Path, tmp_path: Path) -> None:
    paths = read(pictures).paths
    one = plain(tmp_path / "golden.png")
    assert templates_of(pictures, paths, str(one)) == [one] * 3

    folder = tmp_path / "golden"
    for name in ("dent/part1_b.png", "part1_a.png"):  # below the same folder, or beside it
        plain(folder / name)
    with pytest.raises(LabelsError, match=r"1 of 3 are not there, the first .*part2_a\.png"):
        templates_of(pictures, paths, str(folder))
    plain(folder / "part2_a.png")
    found = templates_of(pictures, paths, str(folder))
    assert [path.relative_to(folder).as_posix() for path in found] == [
        "dent/part1_b.png",
        "part1_a.png",
        "part2_a.png",
    ]


def test_a_template_of_another_size_is_named(pictures: Path, tmp_path: Path) -> None:
    golden = plain(tmp_path / "golden.png", width=30)
    with pytest.raises(LabelsError, match=r"golden\.png is uint8 \[24, 30, 1\], and its picture"):
        gather(pictures, templates=str(golden))


def test_a_file_of_settings_need_only_hold_what_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("preprocess: {grey: true}\nfit: {augment: {noise: 0.3}}\n", encoding="utf-8")
    found = learning_settings(file, size=(40, 24))
    assert (found.preprocess.height, found.preprocess.width, found.preprocess.grey) == (
        40,
        24,
        True,
    )
    assert found.fit.augment.noise == 0.3
    assert found.fit.augment.shift == learning_settings(None, size=(8, 8)).fit.augment.shift > 0
    assert found.inspection.preprocess == found.preprocess
    file.write_text("- 1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="no settings; want lines of"):
        learning_settings(file, size=(8, 8))


def test_pictures_are_brought_to_the_usual_size_or_less() -> None:
    assert size_for([(128, 128)] * 3 + [(130, 128)], places=False) == (128, 128)
    assert size_for([(1000, 2000)], places=False) == (128, 256)
    assert size_for([(1000, 2000)], places=True) == (320, 640)
    assert size_for([(24, 3)], places=False) == (24, 8)
