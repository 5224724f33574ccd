"""A search for settings: trials over a stated space, told apart by their validation loss alone.

Quasi-random (Halton, 1960): spread more evenly than chance would. A trial is the fit of the model
that would be kept: no fold, no score and no threshold of another trial is looked at.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from scipy.stats import qmc

from models.bundle import Channel, write_folder
from models.contract import Stretch
from models.gradient import Fitted
from models.settings import DetectorSettings, SearchSettings, TrainingSettings
from models.training import Progress, fingerprint, try_out
from models.workers import workers

S = TypeVar("S", DetectorSettings, TrainingSettings)

TRIALS = "trials.json"
DIGITS = 3  # of a setting that was drawn: what can be typed from the table gives the same bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What was tried, and how it went."""

    changed: Mapping[str, float | int]  # setting -> value, of those that were searched
    model: DetectorSettings
    training: TrainingSettings
    fits: tuple[Fitted, ...]  # of each network that would be kept

    @property
    def validation_loss(self) -> float:
        """What trials are compared by: the mean over the networks."""
        return sum(fit.validation_loss for fit in self.fits) / len(self.fits)


def search(
    stretches: Sequence[Stretch],
    channels: Sequence[Channel],
    model_settings: DetectorSettings,
    training_settings: TrainingSettings,
    space: SearchSettings,
    *,
    trials: int,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Trial]:
    """So many trials, in the order they were made: the first is of the settings as they are given.

    The arguments are those of training.train. ``checkpoint`` is for the fit under way; trials that
    are done stand beside it, so that the same search goes on after the last of them. Raises what
    train raises, and ValueError for a model without a network.
    """
    kept = None if checkpoint is None else trials_of(checkpoint)
    done = _read(kept)
    found = []
    points = drawn(space, model_settings, trials, training_settings.seed)
    for number, changed in enumerate(points, start=1):
        model, training = _with(model_settings, changed), _with(training_settings, changed)
        key = fingerprint(stretches, channels, model, training)
        if key not in done:
            done[key] = try_out(
                stretches,
                channels,
                model,
                training,
                trial=number,
                trials=trials,
                progress=progress,
                checkpoint=checkpoint,
                should_stop=should_stop,
            )
            _write(kept, done)
        found.append(Trial(changed=changed, model=model, training=training, fits=done[key]))
    return found


def trials_of(checkpoint: Path) -> Path:
    """The folder with the trials that are done."""
    return checkpoint.with_name(checkpoint.name + ".trials")


def best(trials: Sequence[Trial]) -> Trial:
    """The lowest validation loss; of equals the first."""
    return min(trials, key=lambda trial: trial.validation_loss)


def drawn(
    space: SearchSettings, model: DetectorSettings, trials: int, seed: int
) -> list[dict[str, float | int]]:
    """What each trial changes: nothing at first, then points of the space."""
    names = [
        name
        for name in SearchSettings.model_fields
        if name in type(model).model_fields or name in TrainingSettings.model_fields
    ]
    uniform = qmc.Halton(len(names), rng=np.random.default_rng(seed)).random(trials - 1)
    return [{}] + [
        {name: _at(space, name, float(u)) for name, u in zip(names, row, strict=True)}
        for row in uniform
    ]


def _at(space: SearchSettings, name: str, u: float) -> float | int:
    """The value of a setting at a share [0, 1) of its range."""
    given = getattr(space, name)
    if name in SearchSettings.CHOICES:
        return int(given[int(u * len(given))])
    low, high = given
    if name in SearchSettings.LOGARITHMIC:
        value = math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
    else:
        value = low + u * (high - low)
    return float(f"{value:.{DIGITS}g}")


def _with(settings: S, changed: Mapping[str, Any]) -> S:
    """The settings with those of the changes that are theirs."""
    own = {name: value for name, value in changed.items() if name in type(settings).model_fields}
    return type(settings).model_validate(settings.model_dump() | own)


def _read(path: Path | None) -> dict[str, tuple[Fitted, ...]]:
    """Trials that are done, by fingerprint; none where there is nothing that can be read."""
    if path is None or not path.exists():
        return {}
    try:
        kept = json.loads((path / TRIALS).read_bytes())
        return {key: tuple(Fitted(**fit) for fit in fits) for key, fits in kept.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: no trials of a search: {error}. Remove it to start anew."
        ) from error


def _write(path: Path | None, done: Mapping[str, tuple[Fitted, ...]]) -> None:
    if path is not None and workers().first:
        kept = {key: [asdict(fit) for fit in fits] for key, fits in done.items()}
        write_folder(path, {TRIALS: json.dumps(kept, indent=1, allow_nan=False).encode()})
