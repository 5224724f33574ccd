"""From healthy stretches to a bundle.

Folds across units, residuals of the held-out, calibration, the final model.

Every score that calibration and thresholds are made from comes from a model that never saw that
unit: differences between units are larger than noise, and a model knows its own training data too
well. With one unit only, blocks of time are held out instead. The judge is cross-fitted too: each
fold's scores come from what the other folds hold. The members of an ensemble are trained one after
the other on the same folds, and each gets a calibration of its own from its cross-fitted scores.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.bundle import (
    Bundle,
    Card,
    Channel,
    OwnScaling,
    code_version,
    ranges,
    resolve,
    versions,
    weights_bytes,
    write_folder,
)
from models.calibration import LEAST_FRAMES, Calibration
from models.contract import Detector, Stretch, under
from models.crossfit import Fold, Record, folds_of, record, scaled_run, score
from models.ensemble import Ensemble, members_of
from models.gradient import Fitted, GradientFit, StoppedError
from models.instruments import health_of
from models.recurrent import Forecaster
from models.residual import Judge, ResidualDetector
from models.scaling import Scales
from models.settings import DetectorSettings, TrainingSettings
from models.workers import workers

__all__ = [
    "Epoch",
    "HeldOut",
    "Interrupted",
    "Progress",
    "Trained",
    "fingerprint",
    "train",
    "try_out",
]

# T ticks, C channels


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One pass of one fit, as it is told. All counts from 1."""

    what: Literal["model", "trial"] = "model"  # a model: of each fold, then the one that is kept
    fit: int
    fits: int  # of how many
    epoch: int
    epochs: int  # of how many at the most
    training_loss: float
    validation_loss: float
    learning_rate: float
    gradient_norm: float  # before it was cut, the mean


Progress = Callable[[Epoch], None]


class Interrupted(Exception):  # noqa: N818 (no error: it was asked to stop, and can go on)
    """Stopped on request. ``checkpoint``: where it goes on from; None where none was asked for."""

    def __init__(self, message: str, *, checkpoint: Path | None) -> None:
        super().__init__(message)
        self.checkpoint = checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Scores of one stretch by a model that never saw its unit: for choosing thresholds."""

    asset: str
    tick: NDArray[np.int64]  # [T] ns since 1970 UTC
    surprise: NDArray[np.float32]  # [T]
    coverage: NDArray[np.float32]  # [T] share of the channels that were valid
    warming: NDArray[np.bool_]  # [T] too soon after the start to count


@dataclass(frozen=True, slots=True)
class Trained:
    """What training gives."""

    bundle: Bundle
    held_out: tuple[HeldOut, ...]
    fits: tuple[Fitted, ...]  # of each fold, then of what is kept; none without a network
    healthy: tuple[NDArray[np.float32], ...]  # [M] each member's raw scores behind the calibration


def train(
    stretches: Sequence[Stretch],
    channels: Sequence[Channel],
    model_settings: DetectorSettings,
    training_settings: TrainingSettings,
    *,
    pretrained: Detector | None = None,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Trained:
    """A bundle without a threshold, and the cross-fitted scores to choose one from.

    Args:
        stretches: Healthy runs of one kind of asset, in the channels' units.
        channels: The columns of the stretches, in order.
        model_settings: Which detector, and its settings.
        training_settings: How to train it.
        pretrained: A detector of the same settings whose networks are taken as they are, as from
        many units for one that has little history; scaling, judges and calibrations are its own.
        progress: Told after every epoch.
        checkpoint: A folder to save to when stopped, and to go on from where it exists. It is the
        caller's to remove, once the bundle is safe.
        should_stop: Asked often; true saves and raises Interrupted.

    Raises:
        ValueError: The data cannot make a model, the checkpoint is of another training, or the
        pretrained detector is another one.
        Interrupted: should_stop() said so; the same call goes on, and ends with the same bits.
    """
    ordered = _ordered(stretches)
    probe = model_settings.build(len(channels))
    tick_ms = _check(ordered, channels, probe.warmup_ticks)
    if pretrained is not None:
        model_settings.build(len(channels)).load_tensors(pretrained.tensors())  # or it says why not
    work = _Work(
        model_settings,
        training_settings,
        ordered,
        tick_ms=tick_ms,
        channels=len(channels),
        pretrained=() if pretrained is None else members_of(pretrained),
        fingerprint=fingerprint(ordered, channels, model_settings, training_settings),
        progress=progress,
        checkpoint=checkpoint,
        should_stop=should_stop,
    )
    folds = folds_of(ordered, probe.warmup_ticks)
    judges = [member.judge for member in members_of(probe)]
    work.of = len(judges) * (len(folds) + 1)
    scales = work.scales(ordered)
    records: list[list[Record]] = []  # of each member, of all folds
    scores: list[list[NDArray[np.float32]]] = []  # raw [T], as the records
    for number, judge in enumerate(judges):
        of_folds = [
            work.record(number, number * len(folds) + index, fold)
            for index, fold in enumerate(folds)
        ]
        records.append([record for own in of_folds for record in own])
        scores.append(_cross_scores(judge, of_folds, scales))
    detector = model_settings.build(len(channels)).to(work.device)
    healthy = tuple(_counted(records[0], own) for own in scores)
    joint = scores[0]
    if isinstance(detector, Ensemble):
        detector.calibrate(healthy)
        joint = [detector.join(members) for members in zip(*scores, strict=True)]
    calibration = Calibration.fit(_counted(records[0], joint))
    held_out = tuple(
        _held_out(record, calibration.apply(raw))
        for record, raw in zip(records[0], joint, strict=True)
    )
    for number, (member, judge) in enumerate(zip(members_of(detector), judges, strict=True)):
        work.learn(member, number, len(judges) * len(folds) + number, ordered, scales, kept=True)
        _fit(judge, records[number], scales)
        member.judge.load_tensors(judge.tensors())
    fits = tuple(work.fits[index] for index in sorted(work.fits))
    validation_loss = {"validation_loss": fits[-1].validation_loss} if fits else {}
    card = Card(
        kind=model_settings.type,
        settings=model_settings.model_dump(mode="json", exclude={"type"}),
        channels=tuple(channels),
        tick_ms=tick_ms,
        warmup_ticks=detector.warmup_ticks,
        scaling=scales.pooled,
        own=_own(ordered, scales),
        calibration=calibration,
        data=ranges(ordered),
        data_hash=_hash(ordered),
        training=training_settings.model_dump(mode="json"),
        seeds=(training_settings.seed,),
        health=health_of(ordered),
        metrics={**validation_loss, "folds": len(folds), "held_out_frames": calibration.frames},
        code_version=code_version(),
        created_with=versions(),
        weights_sha256=hashlib.sha256(weights_bytes(detector)).hexdigest(),
    )
    return Trained(Bundle(card, detector), held_out, fits, healthy)


def try_out(
    stretches: Sequence[Stretch],
    channels: Sequence[Channel],
    model_settings: DetectorSettings,
    training_settings: TrainingSettings,
    *,
    trial: int,
    trials: int,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[Fitted, ...]:
    """How the networks that train() would keep are fitted, with nothing of the rest: for a search.

    ``trial`` of so many; the other arguments are train's, and so is what it raises;
    ValueError also for a model without a network. The checkpoint goes when it is done.
    """
    ordered = _ordered(stretches)
    probe = model_settings.build(len(channels))
    tick_ms = _check(ordered, channels, probe.warmup_ticks)
    work = _Work(
        model_settings,
        training_settings,
        ordered,
        tick_ms=tick_ms,
        channels=len(channels),
        pretrained=(),
        fingerprint=fingerprint(ordered, channels, model_settings, training_settings),
        progress=None
        if progress is None
        else lambda epoch: progress(replace(epoch, what="trial", fit=trial, fits=trials)),
        checkpoint=checkpoint,
        should_stop=should_stop,
    )
    members = members_of(probe.to(work.device))
    first = len(members) * len(folds_of(ordered, probe.warmup_ticks))
    for number, member in enumerate(members):
        work.learn(member, number, first + number, ordered, work.scales(ordered), kept=True)
    if not work.fits:
        raise ValueError(
            f"a search compares validation losses: a model of type {model_settings.type} has none, "
            "for it has no network. Leave --search out."
        )
    if checkpoint is not None and work.workers.first:
        shutil.rmtree(checkpoint, ignore_errors=True)
    work.workers.wait()
    return tuple(work.fits[index] for index in sorted(work.fits))


class _Work:
    """Fits one after the other, and what is kept of them when stopped."""

    def __init__(
        self,
        model_settings: DetectorSettings,
        settings: TrainingSettings,
        ordered: Sequence[Stretch],
        *,
        tick_ms: int,
        channels: int,
        pretrained: Sequence[ResidualDetector],
        fingerprint: str,
        progress: Progress | None,
        checkpoint: Path | None,
        should_stop: Callable[[], bool],
    ) -> None:
        self.model_settings = model_settings
        self.settings = settings
        self.ordered = ordered
        self.tick_ms = tick_ms
        self.channels = channels
        self.pretrained = pretrained
        self.device = resolve(settings.device)
        self.fingerprint = fingerprint
        self.progress = progress
        self.checkpoint = checkpoint
        self.workers = workers()
        self.should_stop = self.workers.agreed(should_stop)
        self.of = 1
        self.done: dict[str, Tensor] = {}  # "<fold>.<name>" of the fits that are done
        self.fits: dict[int, Fitted] = {}  # by fold
        self.under_way: tuple[dict[str, Tensor], dict[str, float | int]] | None = None
        self._resume()

    def scales(self, pool: Sequence[Stretch]) -> Scales:
        """Pooled from these; each unit's own from all of it, as it is live: held out or not."""
        own = self.settings.scaling == "own"
        return Scales.fit(pool, self.ordered, tick_ms=self.tick_ms if own else None)

    def record(self, number: int, index: int, fold: Fold) -> list[Record]:
        """Let a member learn from a fold's own part, and step through what it holds out."""
        scales = self.scales(fold.learning)
        known = np.any([stretch.valid.any(0) for stretch in fold.learning], axis=0)
        detector = self.model_settings.build(self.channels).to(self.device)
        member = members_of(detector)[number]
        self.learn(member, number, index, fold.learning, scales)
        return record(
            member,
            fold.held,
            scales,
            usable=known,
            warmup_ticks=detector.warmup_ticks,
            between_ticks=self._stop_between_ticks,
        )

    def learn(
        self,
        member: ResidualDetector,
        number: int,
        index: int,
        stretches: Sequence[Stretch],
        scales: Scales,
        *,
        kept: bool = False,
    ) -> None:
        """Train the predictor of a member on the device; how that went is in ``fits``."""
        predictor = member.predictor
        if not isinstance(predictor, Forecaster):
            return
        if self.pretrained:
            predictor.load_tensors(self.pretrained[number].predictor.tensors())
            return
        prefix = f"{index}."
        if index in self.fits:
            predictor.load_tensors(under(prefix, self.done))
            return
        runs = [scaled_run(stretch, scales.of(stretch.asset)) for stretch in stretches]
        predictor.prepare(
            [run.value for run in runs],
            [run.valid for run in runs],
            torch.from_numpy(scales.floor),
        )
        fit = GradientFit(predictor, runs, self.settings, fold=index)
        if self.under_way is not None:
            fit.restore(*self.under_way)
            self.under_way = None
        while not fit.finished:
            at_rest, step = fit.capture(), fit.rate
            try:
                losses = fit.run_epoch(self.should_stop)
            except StoppedError:
                self.under_way = at_rest
                raise self._interrupted() from None
            if self.progress is not None:
                self.progress(
                    Epoch(
                        fit=index + 1,
                        fits=self.of,
                        epoch=fit.epoch,
                        epochs=self.settings.epochs,
                        training_loss=losses[0],
                        validation_loss=losses[1],
                        learning_rate=step,
                        gradient_norm=fit.gradient_norm,
                    )
                )
        self.fits[index] = replace(fit.finish(), kept=kept)
        self.done |= {
            prefix + name: x.detach().cpu().clone() for name, x in predictor.tensors().items()
        }

    def _stop_between_ticks(self) -> None:
        if self.should_stop():
            raise self._interrupted()

    def _interrupted(self) -> Interrupted:
        """Save, and say where."""
        if self.checkpoint is None:
            return Interrupted("training was stopped; nothing is kept", checkpoint=None)
        tensors = {f"done.{name}": x for name, x in self.done.items()}
        numbers: dict[str, float | int] | None = None
        if self.under_way is not None:
            tensors |= {f"fit.{name}": x for name, x in self.under_way[0].items()}
            numbers = self.under_way[1]
        fits = {index: asdict(fitted) for index, fitted in self.fits.items()}
        state = {"fingerprint": self.fingerprint, "fits": fits, "fit": numbers}
        files = {
            "checkpoint.json": json.dumps(state, indent=1, allow_nan=False).encode(),
            "checkpoint.safetensors": safetensors.torch.save(tensors),
        }
        if self.workers.first:
            write_folder(self.checkpoint, files)
        return Interrupted(
            f"training was stopped; the same training goes on from {self.checkpoint}",
            checkpoint=self.checkpoint,
        )

    def _resume(self) -> None:
        if self.checkpoint is None or not self.checkpoint.exists():
            return
        try:
            state = json.loads((self.checkpoint / "checkpoint.json").read_bytes())
            tensors = safetensors.torch.load_file(self.checkpoint / "checkpoint.safetensors")
            fingerprint, numbers = state["fingerprint"], state["fit"]
            fits = {int(index): Fitted(**fitted) for index, fitted in state["fits"].items()}
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            safetensors.SafetensorError,
        ) as error:
            raise ValueError(
                f"{self.checkpoint}: no checkpoint of a training: {error}. Remove it to start anew."
            ) from error
        if fingerprint != self.fingerprint:
            raise ValueError(
                f"{self.checkpoint}: a checkpoint of another training (other data, "
                "channels or settings). "
                "Remove it to start anew, or give the same again."
            )
        self.fits = fits
        self.done = {
            n.removeprefix("done."): x for n, x in tensors.items() if n.startswith("done.")
        }
        if numbers is not None:
            fit = {n.removeprefix("fit."): x for n, x in tensors.items() if n.startswith("fit.")}
            self.under_way = (fit, numbers)


def _ordered(stretches: Sequence[Stretch]) -> list[Stretch]:
    """By asset, then by time."""
    return sorted(
        stretches, key=lambda stretch: (stretch.asset, int(stretch.tick[0]) if len(stretch) else 0)
    )


def _check(stretches: Sequence[Stretch], channels: Sequence[Channel], warmup_ticks: int) -> int:
    """Refuse what cannot make a model, in words; gives the tick in ms."""
    count = len(channels)
    for stretch in stretches:
        shape = (len(stretch), count)
        if stretch.value.shape != shape or stretch.valid.shape != shape:
            raise ValueError(
                f"stretch of {stretch.asset}: want value and valid [{len(stretch)}, {count}], "
                f"got {list(stretch.value.shape)} and {list(stretch.valid.shape)}"
            )
    if not stretches:
        raise ValueError(
            "training: no frame in which a machine ran, want some hours of each. Correct `running` "
            "(its channel and limits, in the channel's unit), or choose other times or `assets`."
        )
    longest = max(map(len, stretches))
    if longest <= warmup_ticks + 1:
        raise ValueError(
            f"training: no stretch is longer than the model's warm-up of {warmup_ticks} "
            "ticks; the longest of "
            f"{len(stretches)} has {longest}. Give longer runs, or choose shorter spans."
        )
    frames = sum(map(len, stretches))
    if frames < 2 * LEAST_FRAMES:
        raise ValueError(
            f"training: want at least {2 * LEAST_FRAMES} frames, got {frames}. Give a "
            "longer history."
        )
    usable = [np.where(s.valid & np.isfinite(s.value), s.value, np.nan) for s in stretches]
    values = np.concatenate(usable)
    never = [
        c.name for c, seen in zip(channels, np.isfinite(values).any(0), strict=True) if not seen
    ]
    if never:
        raise ValueError(
            f"training: no valid value of {', '.join(never)} in {frames} frames. "
            "Leave it out of the model (model: false), or look at its tag."
        )
    if bool((np.nanmax(values, axis=0) == np.nanmin(values, axis=0)).all()):
        raise ValueError(
            f"training: every channel is constant over {frames} frames: there is nothing to learn. "
            "Look whether the machine ran."
        )
    steps = np.unique(np.concatenate([np.diff(s.tick) for s in stretches]))
    if len(steps) != 1 or steps[0] <= 0 or steps[0] % 1_000_000:
        raise ValueError(
            "training: want stretches without gaps, one tick of whole milliseconds apart; "
            f"got steps of {', '.join(str(step) for step in steps[:5])} ns"
        )
    return int(steps[0]) // 1_000_000


def _fit(judge: Judge, records: Sequence[Record], scales: Scales) -> None:
    """Fit a judge anew to these records."""
    smoothed = np.concatenate([record.smoothed[record.counts] for record in records])
    if len(smoothed) == 0:
        raise ValueError(
            "training: no held-out frame is past the model's warm-up. "
            "Give longer runs of more than one asset, or choose shorter spans."
        )
    known = np.concatenate([record.known[record.counts] for record in records])
    judge.fit(smoothed, known, floor=scales.floor)


def _cross_scores(
    judge: Judge, records: Sequence[Sequence[Record]], scales: Scales
) -> list[NDArray[np.float32]]:
    """Raw scores [T] of every record, each fold's by the judge fitted to the other folds."""
    scores: list[NDArray[np.float32]] = []
    for index, own in enumerate(records):
        _fit(judge, [one for k, fold in enumerate(records) if k != index for one in fold], scales)
        scores += score(judge, own)
    return scores


def _counted(
    records: Sequence[Record], scores: Sequence[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """The scores of the frames that count."""
    return np.concatenate([raw[record.counts] for record, raw in zip(records, scores, strict=True)])


def _held_out(record: Record, surprise: NDArray[np.float32]) -> HeldOut:
    """Without the lead, whose ticks belong to another fold."""
    stretch, lead = record.piece.stretch, record.piece.lead
    warming = ~record.counts & record.known.any(1)
    return HeldOut(
        asset=stretch.asset,
        tick=stretch.tick[lead:],
        surprise=surprise[lead:],
        coverage=record.valid.mean(1).astype(np.float32)[lead:],
        warming=warming[lead:],
    )


def _own(stretches: Sequence[Stretch], scales: Scales) -> dict[str, OwnScaling]:
    """As they stand on the card."""
    learnt = ranges(stretches)
    return {
        name: OwnScaling(scaling=scaling, learnt=learnt[name])
        for name, scaling in scales.own.items()
    }


def _hash(stretches: Sequence[Stretch]) -> str:
    """SHA-256 of the frames; what stands where nothing was valid does not matter."""
    digest = hashlib.sha256()
    for stretch in stretches:
        digest.update(f"{stretch.asset}\0{len(stretch)}\0".encode())
        digest.update(np.ascontiguousarray(stretch.tick).tobytes())
        digest.update(np.where(stretch.valid, stretch.value, 0.0).tobytes())
        digest.update(np.ascontiguousarray(stretch.valid).tobytes())
    return digest.hexdigest()


def fingerprint(
    stretches: Sequence[Stretch],
    channels: Sequence[Channel],
    model_settings: DetectorSettings,
    training_settings: TrainingSettings,
) -> str:
    """What makes two trainings the same."""
    parts = [
        model_settings.model_dump(mode="json"),
        training_settings.model_dump(mode="json"),
        [channel.model_dump(mode="json") for channel in channels],
        _hash(_ordered(stretches)),
        versions(),
        code_version(),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
