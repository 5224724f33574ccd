"""What the pictures of each camera are inspected and graded by, and whether that fits together.

Models and templates are read here, before anything runs: a model that knows other classes than the
acceptance table, or templates that are not like the pictures it learnt from, are said with their
names, by `watchkeeper check`, at a start and at a reload.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from models.bundle import BundleError
from models.vision.acceptance import AcceptanceSettings
from models.vision.bundle import VisionCard
from models.vision.inspection import OTHER_SIZE, Inspection
from models.vision.progression import Progression
from monitor.live.grading import CameraSetup
from monitor.live.templates import TemplateError, Templates
from monitor.site.config import Config
from monitor.site.problems import ModelMissingError, PlantError, did_you_mean
from monitor.site.settings import CameraSettings

M = TypeVar("M")
NO_MODEL = (
    "no model in {path}. `watchkeeper vision train` makes it; to keep pictures without looking at "
    "them, leave `model` out of the camera."
)
NO_PROGRESSION = (
    "no model of progression in {path}. `watchkeeper vision progression` makes it; without one, "
    "leave `progression` out of the camera."
)
MASKED = ("masks", "good")  # tasks of inspections whose defects have masks, and so areas


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
                made = _setup(name, camera, loaded)
                found += _odd_growth(f"cameras.{name}", camera, made.progression)
            except PlantError as error:
                found.append(str(error))
            if camera.model in loaded and camera.acceptance is not None:
                card = loaded[camera.model].card
                found += odd(f"cameras.{name}.acceptance", camera.acceptance, card)
    return tuple(found)


def progressions(config: Config) -> dict[str, Progression]:
    """The model of progression of each camera that has one. Raises as ``camera_setups``."""
    return {
        name: _loaded(name, camera.progression, Progression.load, NO_PROGRESSION)
        for name, camera in config.cameras.items()
        if camera.progression is not None
    }


def _setup(name: str, camera: CameraSettings, loaded: dict[str, Inspection]) -> CameraSetup:
    templates = None
    if camera.model is not None:
        if camera.model not in loaded:
            loaded[camera.model] = _loaded(name, camera.model, Inspection.load, NO_MODEL)
        card = getattr(loaded[camera.model], "card", None)
        wrong = [] if card is None else list(_misfits(camera, card))
        if wrong:
            raise PlantError(f"camera {name}: {'; '.join(wrong)}")
        templates = _templates(name, camera, card)
    progression = None
    if camera.progression is not None and camera.model is not None:
        progression = _loaded(name, camera.progression, Progression.load, NO_PROGRESSION)
        _foretells(name, camera, progression, loaded[camera.model].hash, card)
    return CameraSetup(
        name=name,
        inspector=None if camera.model is None else loaded[camera.model],
        mm_per_pixel=camera.mm_per_pixel,
        timeout_s=camera.inspect_timeout_s,
        recipe=camera.recipe,
        acceptance=camera.acceptance,
        templates=templates,
        overlays=camera.overlays,
        strange=camera.alarm.surprise,
        progression=progression,
    )


def _loaded(name: str, path: str, load: Callable[[str], M], missing: str) -> M:
    """A model of a camera. ``missing`` says which one it is, and what to do without it."""
    if not Path(path).exists():
        raise ModelMissingError(f"camera {name}: {missing.format(path=path)}")
    try:
        return load(path)
    except (BundleError, ValueError, OSError) as error:
        raise PlantError(f"camera {name}: {error}") from error


def _foretells(
    name: str,
    camera: CameraSettings,
    model: Progression,
    inspection: str,
    card: VisionCard | None,
) -> None:
    """Raises PlantError for a model of progression that cannot work with the camera's own."""
    wrong = []
    if model.card.inspection != inspection:
        wrong.append(
            f"it has learnt from features of inspection {model.card.inspection[:12] or 'none'}, "
            f"and {camera.model} is {inspection[:12]}: want the same one, or "
            f"`watchkeeper vision progression` anew"
        )
    elif card is not None and card.task not in MASKED:
        wrong.append(f"its inspection gives no masks, so no area is known ({camera.model})")
    if model.card.area_unit != "px":
        wrong.append(f"want one that has learnt areas in px, got {model.card.area_unit}")
    if camera.alarm.warn_area_mm2 is not None and camera.mm_per_pixel is None:
        wrong.append("alarm.warn_area_mm2 wants mm_per_pixel beside it")
    if wrong:
        raise PlantError(f"camera {name}: progression: {'; '.join(wrong)} ({camera.progression})")


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


def _odd_growth(path: str, camera: CameraSettings, model: Progression | None) -> Iterator[str]:
    """The same of what is foretold."""
    given = camera.alarm.warn_area_mm2
    if model is None:
        if given is not None:
            yield f"{path}.alarm.warn_area_mm2: nothing is foretold without `progression`"
        return
    areas = sorted(set(camera.reject_areas))
    if camera.warn_area is None:
        yield (
            f"{path}.progression: warns of nothing: want alarm.warn_area_mm2, or a rule of area "
            f"that rejects, without a zone, in the acceptance table"
        )
    elif given is None and len(areas) > 1:
        yield (
            f"{path}.progression: the acceptance table rejects at several areas, of which the "
            f"least counts for all defects together ({areas[0]:g}): say alarm.warn_area_mm2"
        )
    measured = model.card.measured
    if not measured.better:
        yield (
            f"{path}.progression: is not better than the simple ways beside it (an error of "
            f"{measured.error:g} {model.card.area_unit}, of theirs "
            f"{min(measured.persistence, measured.linear):g}): do not use it"
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
