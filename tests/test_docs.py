"""The documentation says what the program is: each command, setting, link and example."""

import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from support import standings
from support.keeping import event, judgements, scores

from monitor.cli import app
from monitor.core.plan import Asset, Camera, ChannelSettings, KindSettings, Plan
from monitor.core.records import PictureResult, Results, Transition
from monitor.live.health import judge
from monitor.live.points import PointMaker, health_points
from monitor.site.config import load

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "configs").rglob("*.md")]
)
PLANTS = sorted(
    set((ROOT / "configs").rglob("*.yaml")) - set((ROOT / "configs/grafana").rglob("*"))
)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def code_blocks(page: Path) -> Iterator[str]:
    """Indented blocks, without their indentation."""
    for block in re.findall(r"(?:^    .*\n?)+", page.read_text(encoding="utf-8"), re.MULTILINE):
        yield re.sub(r"^    ", "", block, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def reference() -> dict[Path, str]:
    """The generated pages as they should be."""
    made: dict[Path, str] = runpy.run_path(str(ROOT / "scripts" / "make_reference.py"))["pages"]()
    return made


def test_the_reference_pages_are_what_the_settings_and_commands_say(
    reference: dict[Path, str],
) -> None:
    stale = [
        named(path)
        for path, text in reference.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]

    assert stale == [], "run: .venv/bin/python scripts/make_reference.py"


def test_each_plant_that_is_shipped_can_be_read() -> None:
    assert PLANTS
    for plant in PLANTS:
        load(plant)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))

    assert [link for link in links if not (page.parent / link).exists()] == []


def commands_in(page: Path) -> Iterator[list[str]]:
    """Each line of a code block that calls watchkeeper, as its words; also those in a sentence."""
    lines = [line for block in code_blocks(page) for line in block.splitlines()]
    lines += re.findall(r"`(watchkeeper [^`]+)`", page.read_text(encoding="utf-8"))
    for line in lines:
        if line.startswith("watchkeeper "):
            yield shlex.split(line.partition(">")[0], comments=True)[1:]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_command_that_a_page_shows_exists_with_its_options(page: Path) -> None:
    for words in commands_in(page):
        known: Any = typer.main.get_command(app)
        options = {option for one in known.params for option in one.opts} | {"--help"}
        for word in words:
            if word in getattr(known, "commands", {}):
                known = known.commands[word]
                options |= {option for one in known.params for option in one.opts}
            elif getattr(known, "commands", {}) and not word.startswith("-") and word != "COMMAND":
                pytest.fail(f"{named(page)}: watchkeeper {' '.join(words)}: no command {word}")
            elif word.startswith("--"):
                assert word.partition("=")[0] in options, f"{named(page)}: {' '.join(words)}"


def test_each_target_of_make_that_a_page_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z.]+):", makefile, re.MULTILINE))
    for page in PAGES:
        for block in [*code_blocks(page), *re.findall(r"`[^`]+`", page.read_text("utf-8"))]:
            asked = re.findall(r"(?:^|`)make ([a-z]+)\b", block, re.MULTILINE)
            assert set(asked) <= targets, named(page)


TABLE = re.compile(
    r"^\| `(\w+)` \| (`site`[^|]*)\|([^|]*)\|([^|]*)\|[^|]*\|$", re.MULTILINE
)  # measurement, tags, fields, texts, when


def test_the_table_of_what_databases_get_is_what_is_written() -> None:
    page = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
    table = [
        (row[0], *(frozenset(re.findall(r"`(\w+)`", cell)) for cell in row[1:]))
        for row in TABLE.findall(page)
    ]
    asset = Asset(name="p1", id=0, kind="pump", tags={}, area="hall_2")
    kind = KindSettings(channels={"flow": ChannelSettings(), "heat": ChannelSettings()})
    camera = Camera(name="top", id=0, asset="p1", source="eyes")
    plan = Plan(site="works", kinds={"pump": kind}, assets=(asset,), cameras=(camera,))
    maker = PointMaker(plan, {}, channel_s=0)
    picture = PictureResult(camera=0, time=0, part=None, label="good", probability=1.0)
    results = Results(
        scores=(scores([0]),),
        alarms=(event(Transition.RAISED, 0),),
        pictures=(picture,),
        judgements=(judgements([0]),),
    )
    standing = standings.standing()
    written = {
        (points.measurement, *map(frozenset, (points.tags, points.fields, points.texts)))
        for points in [
            *maker.of(results),
            *health_points(standing, site="works", ready=judge(standing).ready),
        ]
    }

    assert len(table) == 8
    assert set(table) == written
