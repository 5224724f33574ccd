"""What can be set about an inspection that is trained from the command line, in a file or not."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, Field, ValidationError

from models.vision.acceptance import AcceptanceSettings
from models.vision.settings import GeneratorSettings, InspectionSettings, VisionFitSettings
from monitor.site.config import text_of
from monitor.site.problems import ConfigError, Problem, findings
from monitor.site.yaml_places import YamlError, read

# What holds where nothing is said: variations that change no class, and rare classes that count.
DEFAULTS: Mapping[str, Any] = {
    "fit": {
        "dropout": 0.2,
        "balance": 0.5,
        "smoothing": 0.05,
        "augment": {
            "scale": 0.1,
            "shift": 0.05,
            "brightness": 0.2,
            "contrast": 0.2,
            "noise": 0.02,
        },
    }
}
MOST_SIDE = {False: 256, True: 640}  # pixels as prepared, unless set: of classes, of places
STEP = 8  # a side as prepared is a multiple of it, unless set

AnySettings = TypeVar("AnySettings", bound=BaseModel)


class LearningSettings(InspectionSettings):
    """What an inspection sees, how large its networks are, and how they are trained."""

    fit: VisionFitSettings = Field(VisionFitSettings(), description="How they are trained.")
    generator: GeneratorSettings = Field(
        GeneratorSettings(), description="What makes pictures of rare classes; used only for that."
    )

    @property
    def inspection(self) -> InspectionSettings:
        """Without the training."""
        return InspectionSettings.model_validate(self.model_dump(exclude={"fit", "generator"}))

    def seeded(self, seed: int) -> "LearningSettings":
        """With another seed, of all that has one."""
        changed = {"seed": seed}
        return self.model_copy(
            update={
                "fit": self.fit.model_copy(update=changed),
                "generator": self.generator.model_copy(update=changed),
            }
        )


def learning_settings(path: Path | None, *, size: tuple[int, int]) -> LearningSettings:
    """Those of a file, and where it is silent those of DEFAULTS; ``size`` height and width.

    Raises ConfigError with all that is wrong.
    """
    given = {**DEFAULTS, "preprocess": {"height": size[0], "width": size[1]}}
    if path is None:
        return LearningSettings.model_validate(given)
    start = "`watchkeeper example vision` prints one"
    return _checked(path, LearningSettings, given, start=start)


def acceptance_settings(path: Path) -> AcceptanceSettings:
    """The acceptance table in a file. Raises ConfigError with all that is wrong."""
    return _checked(path, AcceptanceSettings, {}, start="docs/severity.md shows one")


def size_for(sizes: list[tuple[int, int]], *, places: bool) -> tuple[int, int]:
    """Height and width to bring pictures to: of the usual one of these, or less."""
    height, width = max(set(sizes), key=lambda size: (sizes.count(size), size))
    factor = min(1.0, MOST_SIDE[places] / max(height, width))
    most = MOST_SIDE[places]
    sides = (max(STEP, min(most, round(side * factor / STEP) * STEP)) for side in (height, width))
    return next(sides), next(sides)


def _checked(
    path: Path, of: type[AnySettings], defaults: Mapping[str, Any], *, start: str
) -> AnySettings:
    try:
        root = read(text_of(path, start=start))
    except YamlError as error:
        raise ConfigError([Problem(str(path), at, "", said) for at, said in error.found]) from None
    data = {} if root.data is None else root.data
    if not isinstance(data, dict):
        message = "no settings; want lines of `key: value`"
        raise ConfigError([Problem(str(path), root.place, "", message)])
    try:
        return of.model_validate(_merged(json.loads(json.dumps(defaults)), data))
    except ValidationError as error:
        found = findings(error, root, of)
        raise ConfigError([one.problem(str(path), root) for one in found]) from None


def _merged(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """``below`` with what ``above`` says, setting by setting."""
    for name, value in above.items():
        own = below.get(name)
        both = isinstance(own, dict) and isinstance(value, dict)
        below[name] = _merged(own, value) if both and isinstance(own, dict) else value
    return below
