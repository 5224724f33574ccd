"""Several detectors as one: each says how surprised it is, and the mean of that is the score.

A member's raw score has a unit of its own, so it is first turned into surprise by a calibration of
the member's own, made from cross-fitted healthy scores: -log10 of the chance that health scores as
high. The mean of those is the logarithm of the geometric mean of the chances, which is a fair way
to join opinions of unknown dependence (Vovk and Wang, Biometrika 107, 2020). What the mean itself
means is for the bundle's calibration to say, as of any other raw score.

The members' calibrations are part of what is learnt, and kept with the weights.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.calibration import KNOTS, Calibration
from models.contract import Detector, Deviation, Evidence, State, added, under
from models.residual import ResidualDetector

# N rows, R rows of many ticks, C channels

F32 = NDArray[np.float32]

UNCALIBRATED = Calibration(raw=(0.0,), surprise=(0.0,), shape=0.0, scale=1.0, largest=0.0, frames=0)


class Ensemble(Detector):
    """The mean surprise of the members that know; blame is theirs, weighted by surprise.

    What is expected is what the first member says that forecasts.
    """

    def __init__(
        self, members: Sequence[ResidualDetector], *, warmup_ticks: int | None = None
    ) -> None:
        own = max(member.warmup_ticks for member in members)
        super().__init__(
            channels=members[0].channels,
            warmup_ticks=own if warmup_ticks is None else warmup_ticks,
        )
        self.members = tuple(members)
        self.calibrations = (UNCALIBRATED,) * len(members)
        forecasting = [n for n, member in enumerate(members) if member.predictor.forecasts]
        self._speaker = next(iter(forecasting), 0)

    def initial(self, rows: int) -> State:
        """The states of all members, by number and name."""
        return _numbered(member.initial(rows) for member in self.members)

    def sweep(
        self, value_RC: Tensor, valid_RC: Tensor, counts: Sequence[int], state: State
    ) -> tuple[Evidence, State]:
        """What each tick of each row is evidence of: see Detector."""
        found = [
            member.sweep(value_RC, valid_RC, counts, under(f"{n}.", state))
            for n, member in enumerate(self.members)
        ]
        said = [evidence for evidence, _ in found]
        surprises = self._surprises([evidence.raw.cpu().numpy() for evidence in said])
        knows = [one.blame.any(1, keepdim=True) for one in said]  # others have nothing to go by
        count = added([one.to(torch.float32) for one in knows]).clamp(min=1.0)
        weights = [
            torch.from_numpy(surprise).to(self.device)[:, None] * its
            for surprise, its in zip(surprises, knows, strict=True)
        ]
        total = added(weights)
        weighed = added([weight * one.blame for weight, one in zip(weights, said, strict=True)])
        even = added([one.blame for one in said]) / count
        evidence = Evidence(
            raw=(total / count)[:, 0],
            blame=torch.where(total > 0, weighed / torch.where(total > 0, total, 1.0), even),
            expected=said[self._speaker].expected,
            spread=said[self._speaker].spread,
        )
        return evidence, _numbered(after for _, after in found)

    def explain(self, value_TC: Tensor, valid_TC: Tensor, state: State) -> Deviation | None:
        """Of each channel what that member says which accuses it most: see Detector."""
        counts = [1] * len(value_TC)
        raws, said, accused = [], [], []
        for n, member in enumerate(self.members):
            own = under(f"{n}.", state)
            evidence, _ = member.sweep(value_TC, valid_TC, counts, own)
            raws.append(evidence.raw[-1:].cpu().numpy())
            said.append(member.explain(value_TC, valid_TC, own))
            accused.append(evidence.blame[-1].cpu().numpy())
        can = [n for n, one in enumerate(said) if one is not None]
        if not can:
            return None
        surprises = self._surprises(raws)
        most_C = np.argmax([surprises[n] * accused[n] for n in can], axis=0)

        def chosen(name: str) -> NDArray[Any]:
            columns = np.stack([getattr(said[n], name) for n in can])
            picked: NDArray[Any] = np.take_along_axis(columns, most_C[None], 0)[0]
            return picked

        return Deviation(ticks=chosen("ticks"), by=chosen("by"), times=chosen("times"))

    def calibrate(self, healthy: Sequence[F32]) -> None:
        """Learn from each member's cross-fitted raw scores [M] of healthy frames."""
        self.calibrations = tuple(Calibration.fit(raw) for raw in healthy)

    def join(self, raw: Sequence[F32]) -> F32:
        """The members' raw scores [N] each to the ensemble's own [N]: their mean surprise."""
        return _mean(self._surprises(raw))

    def _surprises(self, raw: Sequence[F32]) -> list[F32]:
        return [
            calibration.apply(one) for calibration, one in zip(self.calibrations, raw, strict=True)
        ]

    def tensors(self) -> dict[str, Tensor]:
        """What the members learnt, by number and name, and each one's calibration."""
        learnt = _numbered(member.tensors() for member in self.members)
        for n, calibration in enumerate(self.calibrations):
            learnt[f"{n}.calibration"] = _written(calibration)
        return learnt

    def _take(self, tensors: Mapping[str, Tensor]) -> None:
        self.calibrations = tuple(
            _read(tensors[f"{n}.calibration"]) for n in range(len(self.members))
        )
        for n, member in enumerate(self.members):
            own = under(f"{n}.", tensors)
            del own["calibration"]
            member.load_tensors(own)

    def _move(self, device: str) -> None:
        for member in self.members:
            member.to(device)


def members_of(detector: Detector) -> tuple[ResidualDetector, ...]:
    """What is trained, each for itself: an ensemble's members; any other detector alone."""
    if isinstance(detector, Ensemble):
        return detector.members
    if isinstance(detector, ResidualDetector):
        return (detector,)
    raise TypeError(f"{type(detector).__name__}: want a ResidualDetector or an Ensemble to train")


def _numbered(parts: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """All in one, each name after its member's number."""
    return {f"{n}.{name}": tensor for n, part in enumerate(parts) for name, tensor in part.items()}


def _mean(surprises: Sequence[F32]) -> F32:
    mean: F32 = added(surprises) / np.float32(len(surprises))
    return mean


def _written(calibration: Calibration) -> Tensor:
    """A calibration as float64 [2, KNOTS + 2]: its knots, the last repeated, and its tail."""
    missing = KNOTS - len(calibration.raw)
    knots = np.pad(
        np.array([calibration.raw, calibration.surprise]), ((0, 0), (0, missing)), "edge"
    )
    tail = [[calibration.shape, calibration.largest], [calibration.scale, calibration.frames]]
    return torch.from_numpy(np.concatenate([knots, tail], axis=1))


def _read(written: Tensor) -> Calibration:
    """Take back what _written() gave."""
    raw, surprise = written[:, :KNOTS].numpy()
    raw, first = np.unique(raw, return_index=True)
    (shape, largest), (scale, frames) = written[:, KNOTS:].tolist()
    return Calibration(
        raw=tuple(raw.tolist()),
        surprise=tuple(surprise[first].tolist()),
        shape=shape,
        scale=scale,
        largest=largest,
        frames=int(frames),
    )
