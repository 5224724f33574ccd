"""How large will the pits of a ball screw be, five pictures on?

On the sequences of bsdata, places apart: each member of a model leaves two places out, and what is
reported is of the places that the member asked had not learnt from. Beside it: "it stays as it is",
and a line through the last eight areas.

    python benchmarks/progression.py --data FOLDER [--seeds 0 1 2] [--quick] [--json FILE]

FOLDER holds frames.csv (image, location, index_in_sequence, annotated,
frames_before_first_annotation, pit_area_px) and frames/. The area is that of the annotation, and
the features are means and deviations of a fixed random network: what the inspection network makes
of a picture is not asked here. Frames up to three before the first annotation, and those without
one after it, are doubtful and left out.

`gain` is by how much less than persistence the mean absolute error is. All places were photographed
in one run, in which all pits grew at once between frames 56 and 57: `gain_elsewhere` leaves out
the pairs that span it, which no model may be praised for. `onset_auroc` is of "within ten frames",
among frames without a pit so far. As all places begin at about the same time, whoever counts
pictures knows that, too: `onset_auroc_of_three` is of a model that has seen three pictures only.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from _detection import F64, Figures, Found, Given, LayoutError, main, numbers, read_csv, say
from PIL import Image

from models.vision import sequences
from models.vision.likeness import random_features
from models.vision.progression import Outlook, Progression, ProgressionSettings
from models.vision.sequences import Place, ahead_of, fit, follow, pairs, straight

DOUBTFUL = 3  # frames before the first annotation
JUMP = 57  # index of the frame before which all pits grew at once
LEAD, BASELINES = "GRU", ("stays as it is", "line through 8")
MEMBERS, EPOCHS = 5, 300
SHRUNK = 4  # times smaller, for the features


def read(folder: Path) -> list[Place]:
    """The places of the folder. Raises LayoutError."""
    columns = read_csv(folder / "frames.csv")
    names = ("index_in_sequence", "annotated", "pit_area_px", "frames_before_first_annotation")
    index, annotated, area, before = numbers(folder / "frames.csv", names, columns).T
    location, image = columns["location"], columns["image"]
    pooled = random_features(1)
    places = []
    for name in sorted(set(location.tolist())):
        rows = np.flatnonzero(location == name)
        rows = rows[np.argsort(index[rows])]
        say(f"reading {name}")
        features = np.concatenate(
            [pooled(_picture(folder / "frames" / str(image[row]))) for row in rows]
        )
        places.append(
            Place(
                name=str(name),
                position=index[rows],
                features=features,
                area=np.nan_to_num(area[rows]),
                known=_known(annotated[rows] > 0, np.nan_to_num(before[rows])),
            )
        )
    return places


def _known(annotated: np.ndarray, before: F64) -> np.ndarray:
    """Not just before the first annotation, nor without one after it."""
    begun = np.cumsum(annotated) > 0
    return annotated | (~begun & ~((before >= 1) & (before <= DOUBTFUL)))


def _picture(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as opened:
            small = opened.convert("L").reduce(SHRUNK)
    except OSError as error:
        raise LayoutError(f"{path}: cannot be read as a picture: {error}") from error
    return np.asarray(small)[None, :, :, None]


def figures(
    said: Sequence[tuple[Place, Outlook]], settings: ProgressionSettings
) -> dict[str, dict[str, float]]:
    """Of the model and of what stands beside it: errors in pixels, gains over persistence."""
    rows = []
    for place, outlook in said:
        later = ahead_of(place, settings)[0][:, -1]
        for row in np.flatnonzero(pairs(place, settings)):
            spans = place.position[row] < JUMP <= place.position[row] + settings.ahead
            line = straight(place, int(row), settings.ahead)
            rows.append([outlook.area[row, -1], place.area[row], line, later[row], spans])
    told, truth, spans = np.split(np.array(rows), [3, 4], axis=1)
    away, elsewhere = np.abs(told - truth), spans[:, 0] == 0
    gain = 1 - away.mean(0) / away[:, 1].mean()
    quiet = 1 - away[elsewhere].mean(0) / away[elsewhere, 1].mean()
    return {
        name: {"gain": gain[n], "gain_elsewhere": quiet[n], "area_error": away[:, n].mean()}
        for n, name in enumerate((LEAD, "stays as it is", "line through 8"))
    }


def measure(given: Given) -> Found:
    """Every seed: members, each measured on the places that it left out."""
    places = read(given.data)
    found: dict[str, list[Figures]] = {}
    for seed in given.seeds:
        settings = ProgressionSettings(
            seed=seed, members=2 if given.quick else MEMBERS, epochs=3 if given.quick else EPOCHS
        )
        for name, changed in (
            (LEAD, places),
            ("without pictures", [_blind(place) for place in places]),
        ):
            say(f"seed {seed}, {name}")
            learnt = fit(changed, settings, area_unit="px")
            said = [(place, follow(alone, place)) for place, alone in learnt.held_out]
            own = figures(said, settings)
            late = [(place, _latecomer(alone, place)) for place, alone in learnt.held_out]
            own[LEAD] |= {
                "within_interval": learnt.model.card.measured.within,
                "onset_auroc": auroc(said, settings),
                "onset_auroc_of_three": auroc(late, settings),
            }
            if name != LEAD:
                own = {name: own[LEAD]}
            for each, values in own.items():
                found.setdefault(each, []).append(values)
    found |= {name: found[name][:1] for name in BASELINES}  # chance plays no part
    return Found(
        lead=LEAD,
        baselines=BASELINES,
        models=found,
        chosen=ProgressionSettings(members=MEMBERS, epochs=EPOCHS).model_dump(),
    )


def auroc(said: Sequence[tuple[Place, Outlook]], settings: ProgressionSettings) -> float:
    """Of the probability of beginning; 0.5 where it cannot be told."""
    found = sequences.measure(said, settings).onset_auroc
    return 0.5 if found is None else found


def _latecomer(model: Progression, place: Place) -> Outlook:
    """What it says after each picture when all that it has seen are that one and two before it."""
    last = []
    for row in range(len(place)):
        seen = np.zeros(len(place), np.bool_)
        seen[max(0, row - 2) : row + 1] = True
        last.append(follow(model, place.only(seen)))
    return Outlook(
        **{
            name: np.stack([getattr(one, name)[-1] for one in last])
            for name in ("area", "low", "high", "onset")
        }
    )


def _blind(place: Place) -> Place:
    return replace(place, features=np.zeros_like(place.features))


if __name__ == "__main__":
    main("progression", __doc__ or "", measure)
