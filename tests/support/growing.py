"""Models of progression that nobody trained: what they say is known, or hangs on all they saw."""

import torch

from models.vision.bundle import digest
from models.vision.progression import (
    Measured,
    Progression,
    ProgressionCard,
    ProgressionSettings,
    course,
    tensors_of,
)

AHEAD = 3  # pictures


def progression(
    *,
    longer: float | None = None,
    seed: int = 0,
    inspection: str = "b0",
    unit: str = "pictures",
    area_unit: str = "px",
    error: float = 1.0,
) -> Progression:
    """Of two features. ``longer``: says that the length will be so many pixels longer, and no more.

    Without it weights are random: what is said hangs on every picture so far.
    """
    settings = ProgressionSettings(ahead=AHEAD, within=4, members=2, hidden=8)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        members = tuple(course(settings, 2) for _ in range(settings.members))
        for member in members:
            if longer is None:
                member.read.weight.normal_(0, 0.3)
                member.read.bias.normal_(0, 0.3)
                for weight in member.carry.parameters():
                    weight.normal_(0, 0.5)
            else:
                member.read.bias[AHEAD : 2 * AHEAD] = longer
    card = ProgressionCard(
        settings=settings,
        inspection=inspection,
        position_unit=unit,
        area_unit=area_unit,
        scale=1.0,
        mean=(0.0, 0.0),
        deviation=(1.0, 1.0),
        widened=(0.0,) * AHEAD,
        places={"a": 9, "b": 9, "c": 9},
        measured=Measured(
            pictures=9, error=error, persistence=2.0, linear=1.5, within=0.8, onset_auroc=None
        ),
        data_hash="0" * 64,
        code_version="test",
        weights_sha256=digest(tensors_of(members)),
    )
    return Progression(card, members)
