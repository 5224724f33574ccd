"""Printed examples: right as they are, right with every default switched on."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field

from monitor.site import examples
from monitor.site.config import parse
from monitor.site.vision.settings import learning_settings
from monitor.site.yaml_places import read

SECTIONS = {"config", "sources", "sinks", "training"}


def whole(name: str, text: str) -> str:
    """A configuration around an example."""
    plant = read(examples.example("config")).data
    part = read(text).data
    if name == "config":
        return text
    if "training" in part:
        plant["kinds"]["pump"]["training"] = part["training"]
        part = {}
    plant["assets"] = {"pump_1": plant["assets"]["pump_1"]}
    if name == "camera":  # it gives pictures of the machine, whose samples come from elsewhere
        plant["sources"] |= part["sources"]
        plant["cameras"] = {"top": {"source": name, "asset": "pump_1"}}
        part = {}
    plant["assets"]["pump_1"]["source"] = next(iter(part.get("sources", plant["sources"])))
    plant.update(part)
    return examples._flow(plant)


@pytest.mark.parametrize("name", [name for name in examples.names() if name != "vision"])
def test_every_example_can_be_read_as_it_is_and_with_its_defaults_on(name: str) -> None:
    text = examples.example(name)

    printed = parse(whole(name, text), file=name, base=Path("/plants"))
    switched_on = parse(whole(name, examples.uncommented(text)), file=name, base=Path("/plants"))

    assert switched_on.hash == printed.hash  # a default switched on changes nothing


def test_the_example_of_a_training_of_pictures_is_what_holds_without_one(tmp_path: Path) -> None:
    text = examples.example("vision")
    wanted = learning_settings(None, size=(128, 128))
    for number, one in enumerate((text, examples.uncommented(text))):
        file = tmp_path / f"{number}.yaml"
        file.write_text(one, encoding="utf-8")
        assert learning_settings(file, size=(8, 8)) == wanted


@pytest.mark.parametrize("name", examples.names())
def test_an_example_explains_every_setting_and_fits_a_terminal(name: str) -> None:
    lines = examples.example(name).splitlines()

    assert all(len(line) <= 110 for line in lines)
    assert lines[0].startswith("# ")


def test_switching_on_leaves_prose_alone() -> None:
    text = "# Prose: of a thing.\n#a: 1\nb:\n  # More.\n  #c:\n  #  # Deeper.\n  #  d: 1\n"

    assert examples.uncommented(text) == (
        "# Prose: of a thing.\na: 1\nb:\n  # More.\n  c:\n    # Deeper.\n    d: 1\n"
    )
    assert read(examples.uncommented(text)).data == {"a": 1, "b": {"c": {"d": 1}}}


@pytest.mark.parametrize(
    "value",
    [
        "plain text",
        "no",
        "5",
        "1e3",
        "null",
        "a: b",
        "a #b",
        "*alias",
        "{asset}.{tag}",
        "",
        "- x",
        "x:",
        'say "no"',
        "opc.tcp://plc:4840",
        "ns=2;s=Pump",
        ["a, b", 1, None, True],
        {"a": {"b": [0.5, "x]"]}},
    ],
)
def test_a_value_is_written_so_that_it_is_read_back(value: Any) -> None:
    assert read(f"a: {examples._flow(value)}").data == {"a": value}
    assert read(f"[{examples._flow(value)}]").data == [value]


def test_a_required_setting_without_an_example_is_a_mistake_of_its_author() -> None:
    class Bare(BaseModel):
        address: str = Field(description="Where.")

    with pytest.raises(LookupError, match=r"Bare\.address: has no default; want examples="):
        examples._plausible(Bare, "address")
