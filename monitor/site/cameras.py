"""What the pictures of each camera are inspected and graded by, and whether that fits together.

Models and templates are read here, before anything runs: a model that knows other classes than the
acceptance table, or templates that are not like the pictures it learnt from, are said with their
names, by `watchkeeper check`, at a start and at a reload.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from models.bundle import BundleError
from models.vision.acceptance import AcceptanceSettings
from models.vision.bundle import VisionCard
from models.vision.inspection import OTHER_SIZE, Inspection
from monitor.live.grading import CameraSetup
from monitor.live.templates import TemplateError, Templates
from monitor.site.config import Config
from monitor.site.problems import ModelMissingError, PlantError, did_you_mean
from monitor.site.settings import CameraSettings


def camera_setups(config: Config) -> dict[str, CameraSetup]:
    """What each camera's pictures are inspected by, by its name; cameras of one model share it.

    Raises ModelMissingError, PlantError for what is damaged or does not fit.
    """
    loaded: dict[str, Inspection] = {}
    return {name: _setup(name, camera, loaded) for name, camera in config.cameras.items()}


def unfit(config: Config) -> tuple[str, ...]:
    """What is wrong or odd with the cameras whose models are there, in a sentence each."""
    found: list[str] = []
    loaded: dict[str, Inspection] = {}
    for name, camera in config.cameras.items():
        if camera.model is not None and Path(camera.model).exists():
            try:
                _setup(name, camera, loaded)
            except PlantError as error:
                found.append(str(error))
            if camera.model in loaded and camera.acceptance is not None:
                card = loaded[camera.model].card
                found += odd(f"cameras.{name}.acceptance", camera.acceptance, card)
    return tuple(found)


def _setup(name: str, camera: CameraSettings, loaded: dict[str, Inspection]) -> CameraSetup:
    templates = None
    if camera.model is not None:
        if camera.model not in loaded:
            loaded[camera.model] = _inspection(name, camera.model)
        card = getattr(loaded[camera.model], "card", None)
        wrong = [] if card is None else list(_misfits(camera, card))
        if wrong:
            raise PlantError(f"camera {name}: {'; '.join(wrong)}")
        templates = _templates(name, camera, card)
    return CameraSetup(
        name=name,
        inspector=None if camera.model is None else loaded[camera.model],
        mm_per_pixel=camera.mm_per_pixel,
        recipe=camera.recipe,
        acceptance=camera.acceptance,
        templates=templates,
        overlays=camera.overlays,
        strange=camera.alarm.surprise,
    )


def _inspection(name: str, model: str) -> Inspection:
    if not Path(model).exists():
        raise ModelMissingError(
            f"camera {name}: no model in {model}. `watchkeeper vision train` makes it; "
            f"to keep pictures without looking at them, leave `model` out of the camera."
        )
    try:
        return Inspection.load(model)
    except (BundleError, ValueError, OSError) as error:
        raise PlantError(f"camera {name}: {error}") from error


def _misfits(camera: CameraSettings, card: VisionCard) -> Iterator[str]:
    """Why a model cannot work with the settings of a camera."""
    if card.seen.paired and camera.template is None:
        yield (
            f"its model compares with golden templates: want `template`, a picture or a folder "
            f"with one for each recipe, as RECIPE.png ({camera.model})"
        )
    if not card.seen.paired and camera.template is not None:
        yield f"template: its model has learnt without, and takes none ({camera.model})"
    defects = [one for one in card.classes if one != card.good]
    for label in sorted(camera.acceptance.labels if camera.acceptance else ()):
        if label not in defects:
            hint = did_you_mean(label, defects)
            hint += "" if "There" in hint else f" There are {', '.join(defects)}."
            yield (
                f"acceptance: its model knows no class of defect {label!r}.{hint} ({camera.model})"
            )


def odd(path: str, acceptance: AcceptanceSettings, card: VisionCard) -> Iterator[str]:
    """What works of a table, which stands at ``path``, with a model, but perhaps not as meant."""
    named, sized = acceptance.classes, acceptance.of_bounds
    if card.task == "classes" and sized:
        yield (
            f"{path}: the model has learnt classes: it says where it looked, not where a defect "
            f"ends, so parts with such a defect are graded none by {', '.join(sized[:3])}"
            f"{' and others' if len(sized) > 3 else ''}; count them (`of: count`, without a zone), "
            f"or learn masks or boxes"
        )
    if missing := [one for one in card.classes if one not in named and one != card.good]:
        yield (
            f"{path}.classes: nothing about {', '.join(missing)}, which the model "
            f"tells: parts with such defects are graded none; `[]` accepts them"
        )
    wide, high = (
        round(side[1] * (1 + OTHER_SIZE)) for side in (card.seen.widths, card.seen.heights)
    )
    for what, (right, down) in acceptance.reach.items():
        if right > wide or down > high:
            yield (
                f"{path}.{what}: reaches to {right:g}, {down:g}, beyond any picture "
                f"that the model takes: they are at most {wide} x {high} pixels"
            )


def _templates(name: str, camera: CameraSettings, card: VisionCard | None) -> Templates | None:
    """The templates, each of which was read once. Raises PlantError."""
    if camera.template is None:
        return None
    try:
        templates = Templates(Path(camera.template))
        if card is not None:
            for recipe in templates.files:
                _fits(card, templates, recipe)
    except TemplateError as error:
        raise PlantError(f"camera {name}: template: {error}") from error
    return templates


def _fits(card: VisionCard, templates: Templates, recipe: str) -> None:
    """Raises TemplateError for one unlike the pictures that were learnt from."""
    found, seen = templates.of(recipe), card.seen
    assert found is not None  # noqa: S101 - it is one of theirs
    high, wide, channels = found.shape
    sides: Mapping[str, tuple[int, tuple[int, int]]] = {
        "high": (high, seen.heights),
        "wide": (wide, seen.widths),
    }
    if found.dtype.name != seen.depth or channels != seen.channels:
        raise TemplateError(
            f"{templates.files[recipe]}: want {seen.depth} with {seen.channels} channels, as its "
            f"model has learnt from; got {found.dtype} with {channels}"
        )
    for side, (pixels, (least, most)) in sides.items():
        if not least * (1 - OTHER_SIZE) <= pixels <= most * (1 + OTHER_SIZE):
            raise TemplateError(
                f"{templates.files[recipe]}: {pixels} pixels {side}; the pictures that its model "
                f"has learnt from were {least} to {most}"
            )
