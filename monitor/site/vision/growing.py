"""From a folder of pictures and a table of places to a model of progression.

The table has a line a picture: ``image``, ``place``, and ``position``, which rises within a place;
and, where people have measured them, ``area_px`` or ``area_mm2``. Else areas are those of the
inspection's masks, as they will be in the service.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from connectors.labelled import LabelsError
from connectors.labelled.tables import lines_of
from models.vision.inspection import Inspection
from models.vision.progression import ProgressionCard, ProgressionSettings, Unit
from models.vision.sequences import LEAST_PLACES, Place, Progress, fit
from models.vision.severity import area_px
from monitor.site.cameras import MASKED
from monitor.site.problems import PlantError
from monitor.site.vision.gathering import Told, silent
from monitor.site.vision.looking import look, wanted

IMAGE, PLACE, POSITION = COLUMNS = ("image", "place", "position")
AREAS = ("area_px", "area_mm2")  # a table may have one of them
LEAST_PICTURES = 2  # of a place
NAMED = 3  # of what is wrong many times


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """One line of the table."""

    line: int
    image: str
    place: str
    position: float
    area_px: float | None  # None: that of the inspection's masks


@dataclass(frozen=True, slots=True, kw_only=True)
class Grown:
    """A model of progression that was learnt and saved."""

    path: Path
    card: ProgressionCard
    measured_areas: bool  # by people; False: by the inspection
    refused: tuple[str, ...]  # pictures that could not be inspected, and why


def grow(
    inspection: Inspection,
    folder: Path,
    out: Path,
    settings: ProgressionSettings,
    *,
    table: Path | None = None,
    unit: Unit = "pictures",
    mm_per_pixel: float | None = None,
    templates: str | None = None,
    told: Told = silent,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Grown:
    """Inspect the pictures of a table, learn how places get worse, and save the model.

    ``told`` how many pictures are inspected. Raises LabelsError for what is wrong with the table,
    PlantError where nothing can be learnt from it.
    """
    file = table or _table_in(folder)
    taken = read(file, mm_per_pixel)
    measured = taken[0].area_px is not None
    if not measured and inspection.card.task not in MASKED:
        raise LabelsError(
            f"{file}:1: this inspection gives no masks, so areas must be in the table: want a "
            f"column {' or '.join(AREAS)}, or an inspection that has learnt masks."
        )
    _check(file, taken)
    if missing := [one.image for one in taken if not (folder / one.image).is_file()]:
        raise LabelsError(
            f"{folder}: {len(missing)} of {len(taken)} pictures that {file.name} names are not "
            f"there: {_some(missing)}. Give the folder that its names are meant from."
        )
    paths = [folder / one.image for one in taken]
    refused, rows = [], []
    for one, seen in zip(
        taken,
        look(inspection, wanted(inspection, folder, paths, templates=templates), told=told),
        strict=True,
    ):
        if seen.found is None:
            refused.append(seen.refused)
        else:
            area = one.area_px if measured else area_px(seen.found)
            rows.append((one, seen.found.features, area or 0.0))
    if len(refused) == len(taken):
        raise LabelsError(f"{folder}: none of {len(taken)} pictures can be inspected: {refused[0]}")
    _check(file, [one for one, _, _ in rows])
    places = []
    for name in dict.fromkeys(one.place for one, _, _ in rows):
        own = [row for row in rows if row[0].place == name]
        places.append(
            Place(
                name=name,
                position=np.array([one.position for one, _, _ in own]),
                features=np.stack([features for _, features, _ in own]),
                area=np.array([area for _, _, area in own]),
                known=np.ones(len(own), np.bool_),
            )
        )
    try:
        learnt = fit(
            places,
            settings,
            area_unit="px",
            inspection=inspection.hash,
            position_unit=unit,
            progress=progress,
        )
    except ValueError as error:
        raise PlantError(f"{file}: {error}") from error
    learnt.model.save(out)
    return Grown(path=out, card=learnt.model.card, measured_areas=measured, refused=tuple(refused))


def read(file: Path, mm_per_pixel: float | None = None) -> list[Taken]:
    """The lines of a table. Raises LabelsError."""
    lines, names = lines_of(file, COLUMNS, also=f", and {' or '.join(AREAS)} where it is measured")
    given = [name for name in AREAS if name in names]
    if len(given) > 1:
        raise LabelsError(f"{file}:1: columns {' and '.join(given)}; want one of them.")
    pixel = 1.0
    if given == ["area_mm2"]:
        if mm_per_pixel is None:
            raise LabelsError(f"{file}:1: areas in mm2: say how large a pixel is, --mm-per-pixel.")
        pixel = mm_per_pixel**2
    found = []
    for line, row in lines:
        if empty := [name for name in (IMAGE, PLACE) if not row[name]]:
            raise LabelsError(f"{file}:{line}: no {' and no '.join(empty)}.")
        area = None
        if given:
            area = _number(file, line, given[0], row) / pixel
            if area < 0:
                raise LabelsError(f"{file}:{line}: {given[0]} {row[given[0]]}; want 0 or more.")
        position = _number(file, line, POSITION, row)
        found.append(
            Taken(line=line, image=row[IMAGE], place=row[PLACE], position=position, area_px=area)
        )
    return found


def _check(file: Path, taken: Sequence[Taken]) -> None:
    """Raises LabelsError for places that nothing can be learnt from."""
    places: dict[str, list[Taken]] = {}
    for one in taken:
        own = places.setdefault(one.place, [])
        if own and one.position <= own[-1].position:
            raise LabelsError(
                f"{file}:{one.line}: place {one.place} is at position {one.position:g} after "
                f"{own[-1].position:g} in line {own[-1].line}; want positions that rise within a "
                f"place: sort the table, and name each picture once."
            )
        own.append(one)
    if short := [name for name, own in places.items() if len(own) < LEAST_PICTURES]:
        raise LabelsError(
            f"{file}: one picture only of place {_some(short)}; want several of each place, one "
            f"after the other: leave such places out."
        )
    if len(places) < LEAST_PLACES:
        raise LabelsError(
            f"{file}: {len(places)} place{'s' * (len(places) != 1)} ({_some(list(places))}); want "
            f"{LEAST_PLACES} or more, for what is learnt is measured on places left out; ten are "
            f"few."
        )


def _table_in(folder: Path) -> Path:
    """The only table of a folder. Raises LabelsError."""
    if not folder.is_dir():
        raise LabelsError(f"{folder}: no such folder. Give the folder that the pictures are in.")
    found = sorted(folder.glob("*.csv"))
    if len(found) != 1:
        got = f"several tables: {_some([one.name for one in found])}" if found else "no table"
        raise LabelsError(
            f"{folder}: {got}. Name one by --table, with a line a picture: {', '.join(COLUMNS)}."
        )
    return found[0]


def _number(file: Path, line: int, column: str, row: dict[str, str]) -> float:
    try:
        value = float(row[column])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise LabelsError(
            f"{file}:{line}: {column} is {row[column]!r}; want a number. Leave pictures of which "
            f"it is not known out of the table."
        )
    return value


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
