"""What can be set about models and their training; imports no torch, so that checking is quick.

A kind of detector is a subclass of DetectorSettings with its own ``type: Literal[...]`` in this
module: found by looking, not by a list. What it builds is imported when it is built.
"""

import inspect
import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, Union

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

if TYPE_CHECKING:
    from models.contract import Detector
    from models.ensemble import Ensemble
    from models.residual import ResidualDetector


Share = Annotated[float, Field(ge=0, lt=1)]
Above = Annotated[float, Field(gt=0)]


class DetectorSettings(BaseModel, ABC):
    """The settings of one kind of detector, and how it is built from them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: str
    warmup_ticks: int | None = Field(
        None,
        ge=0,
        description="Ticks not scored after a start or a gap; left out: the model's own.",
    )

    @abstractmethod
    def build(self, channels: int) -> "Detector":
        """A detector that has learnt nothing yet."""


def kinds(names: Mapping[str, Any]) -> dict[str, type[DetectorSettings]]:
    """The settings class of every kind of detector among these names, by its type."""
    found = {
        candidate.model_fields["type"].default: candidate
        for candidate in names.values()
        if isinstance(candidate, type)
        and issubclass(candidate, DetectorSettings)
        and not inspect.isabstract(candidate)
    }
    return dict(sorted(found.items()))


class MemberSettings(DetectorSettings, ABC):
    """Settings of a detector with a predictor and a judge: one that may be an ensemble's member."""

    @abstractmethod
    def build(self, channels: int) -> "ResidualDetector":
        """A detector that has learnt nothing yet."""


class SmoothedSettings(MemberSettings, ABC):
    """Settings of every detector that smooths its residuals."""

    spans: tuple[int, ...] = Field(
        (1, 4, 16, 64),
        min_length=1,
        description="Time scales of the score, in ticks; 1: no smoothing.",
    )

    lags: int = Field(
        1,
        ge=1,
        le=10,
        description="Ticks whose residuals are judged together; 1: each by itself. More know how "
        "channels follow each other in time, and cost that squared.",
    )

    judge: Literal["distance", "nearest", "discriminator"] = Field(
        "distance",
        description="What is strange: to be far from the healthy mean; nearest: from every one of "
        "up to 512 healthy examples, for machines whose healthy life is many shapes; "
        "discriminator: to look like faults that were simulated in training.",
    )

    score_span: int = Field(
        1,
        ge=1,
        description="Ticks that the score itself is smoothed over; 1: not at all. More is later, "
        "and steadier.",
    )

    @field_validator("spans")
    @classmethod
    def _rising(cls, spans: tuple[int, ...]) -> tuple[int, ...]:
        if spans[0] < 1 or any(b <= a for a, b in itertools.pairwise(spans)):
            raise ValueError(f"want rising whole numbers from 1 on, got {list(spans)}")
        return spans


class RecurrentSettings(SmoothedSettings, ABC):
    """What GRU and LSTM share."""

    hidden: int = Field(
        64, ge=4, le=1024, multiple_of=4, description="Size of the memory of each asset."
    )


class GruSettings(RecurrentSettings):
    """A GRU forecaster; its smoothed residuals are judged."""

    type: Literal["gru"] = "gru"

    def build(self, channels: int) -> "ResidualDetector":
        """A detector that has learnt nothing yet."""
        from models.recurrent import GruForecaster, detector  # noqa: PLC0415 - imports torch

        return detector(self, GruForecaster(channels, self.hidden))


class LstmSettings(RecurrentSettings):
    """An LSTM forecaster; its smoothed residuals are judged."""

    type: Literal["lstm"] = "lstm"

    def build(self, channels: int) -> "ResidualDetector":
        """A detector that has learnt nothing yet."""
        from models.recurrent import LstmForecaster, detector  # noqa: PLC0415 - imports torch

        return detector(self, LstmForecaster(channels, self.hidden))


class MaskedSettings(RecurrentSettings, ABC):
    """What the masked estimators share."""

    groups: int = Field(
        4,
        ge=2,
        le=4,
        description="Groups of channels, each estimated from the others; every one keeps a memory.",
    )


class MaskedGruSettings(MaskedSettings):
    """Each group of channels estimated from the others by a GRU; its residuals are judged."""

    type: Literal["masked_gru"] = "masked_gru"

    def build(self, channels: int) -> "ResidualDetector":
        """A detector that has learnt nothing yet."""
        from models.masked import MaskedGru  # noqa: PLC0415 - imports torch
        from models.recurrent import detector  # noqa: PLC0415 - as above

        return detector(self, MaskedGru(channels, self.hidden, self.groups))


class MaskedLstmSettings(MaskedSettings):
    """Each group of channels estimated from the others by an LSTM; its residuals are judged."""

    type: Literal["masked_lstm"] = "masked_lstm"

    def build(self, channels: int) -> "ResidualDetector":
        """A detector that has learnt nothing yet."""
        from models.masked import MaskedLstm  # noqa: PLC0415 - imports torch
        from models.recurrent import detector  # noqa: PLC0415 - as above

        return detector(self, MaskedLstm(channels, self.hidden, self.groups))


class EwmaSettings(SmoothedSettings):
    """EWMA-Mahalanobis: the distance of the smoothed values from their healthy mean. No network."""

    type: Literal["ewma"] = "ewma"
    level_span: int | None = Field(
        None,
        ge=2,
        description="Ticks over which each channel's healthy level follows its values; left out: "
        "it stays where it was in training.",
    )
    spread_span: int | None = Field(
        None,
        ge=2,
        description="Ticks over which its healthy spread follows, too; left out: as in training.",
    )

    @model_validator(mode="after")
    def _level_first(self) -> Self:
        if self.spread_span is not None and self.level_span is None:
            raise ValueError("spread_span: want level_span, too: a spread is one around a level")
        return self

    def build(self, channels: int) -> "ResidualDetector":
        """A detector that has learnt nothing yet."""
        from models.baselines import ewma  # noqa: PLC0415 - imports torch

        return ewma(self, channels)


class PcaSettings(MemberSettings):
    """PCA T2/SPE: the distance within the plane of the healthy values, and from it. No network."""

    type: Literal["pca"] = "pca"
    explained: float = Field(
        0.9,
        gt=0,
        lt=1,
        description="Share of the healthy variance that the kept components explain.",
    )
    span: int = Field(
        1, ge=1, description="Values are smoothed over this many ticks; 1: not at all."
    )
    statistics: tuple[Literal["t2", "spe"], ...] = Field(
        ("t2", "spe"),
        min_length=1,
        description="Which distances count: within the plane, from it; the larger of both.",
    )

    def build(self, channels: int) -> "ResidualDetector":
        """A detector that has learnt nothing yet."""
        from models.baselines import pca  # noqa: PLC0415 - imports torch

        return pca(self, channels)


if TYPE_CHECKING:
    AnyMember = MemberSettings
else:
    _MEMBERS = tuple(kind for kind in kinds(vars()).values() if issubclass(kind, MemberSettings))
    AnyMember = Annotated[Union[_MEMBERS], Field(discriminator="type")]  # noqa: UP007 - made at run time


class EnsembleSettings(DetectorSettings):
    """Several detectors as one: the mean of how surprised each of them is."""

    type: Literal["ensemble"] = "ensemble"
    members: tuple[AnyMember, ...] = Field(
        (GruSettings(), EwmaSettings()),
        description="The detectors, two or more, each with its type; the first that forecasts says "
        "what is expected.",
    )

    @field_validator("members")
    @classmethod
    def _several(cls, members: tuple[AnyMember, ...]) -> tuple[AnyMember, ...]:
        if len(members) < 2:
            raise ValueError(f"want two members or more, got {len(members)}")
        return members

    def build(self, channels: int) -> "Ensemble":
        """A detector that has learnt nothing yet."""
        from models.ensemble import Ensemble  # noqa: PLC0415 - imports torch

        return Ensemble(
            [member.build(channels) for member in self.members], warmup_ticks=self.warmup_ticks
        )


class FitSettings(BaseModel):
    """How any network is fitted, whatever it is for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(0, ge=0, description="Same seed, same data, same CPU: same bits.")
    epochs: int = Field(40, ge=1, description="Passes over the data, at the most.")
    patience: int = Field(
        6, ge=1, description="Passes without a better validation loss before it stops."
    )
    min_delta: float = Field(
        0.0, ge=0, description="By how much a validation loss must be lower to count as better."
    )
    optimizer: Literal["adam", "sgd", "rmsprop"] = Field("adam", description="How weights move.")
    betas: tuple[Share, Share] = Field(
        (0.9, 0.999), description="How long Adam remembers gradients, and their squares."
    )
    momentum: Share = Field(0.0, description="Of sgd and rmsprop; 0: none.")
    learning_rate: float = Field(3e-3, gt=0, description="The optimizer's step, at its largest.")
    warmup_epochs: int = Field(
        0, ge=0, description="Passes over which the step grows to its full size."
    )
    schedule: Literal["constant", "cosine", "step", "plateau"] = Field(
        "constant",
        description="How the step shrinks: not; along a cosine to 0 at the last of `epochs`; by "
        "`schedule_factor` every `schedule_epochs`; or whenever that many were no better.",
    )
    schedule_factor: float = Field(0.5, gt=0, lt=1, description="Of step and plateau.")
    schedule_epochs: int = Field(
        3, ge=1, description="Of step and plateau; for plateau, fewer than `patience`."
    )
    l1: float = Field(0.0, ge=0, description="Times the sum of |w| of all weights, no biases.")
    l2: float = Field(0.0, ge=0, description="Times half the sum of their squares.")
    dropout: Share = Field(
        0.0, description="How often a part of the memory is hidden from the forecast in training."
    )
    gradient_norm: float | None = Field(
        1.0, gt=0, description="Longer gradients are cut to this length; null: none is."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: CUDA where there is one."
    )

    @model_validator(mode="after")
    def _reached(self) -> Self:
        """Refuse what can never come into force."""
        if self.schedule == "plateau" and self.schedule_epochs >= self.patience:
            raise ValueError(
                f"schedule_epochs: got {self.schedule_epochs}, want fewer than patience "
                f"({self.patience}), or training stops before its step is made smaller"
            )
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs: got {self.warmup_epochs}, want fewer than epochs ({self.epochs})"
            )
        return self


class TrainingSettings(FitSettings):
    """How a model is trained.

    What is left out is what the tables of this project were made with.
    """

    scaling: Literal["own", "pooled"] = Field(
        "own",
        description="own: each of several machines by the level and spread of its own healthy "
        "days, shrunk toward all of them together; pooled: all alike.",
    )
    loss: Literal["likelihood", "mse", "mae", "huber"] = Field(
        "likelihood",
        description="likelihood: the spread is forecast too. The others forecast the value alone; "
        "their spread is each channel's root mean square error in validation.",
    )
    batch_size: int = Field(
        64, ge=1, description="Runs that share a step; long ones are cut to make so many."
    )
    chunk_ticks: int = Field(100, ge=8, description="Ticks that a gradient reaches back.")
    validation_share: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="The last share of each asset's time, kept to know when to stop.",
    )
    channel_dropout: float = Field(
        0.2, ge=0, lt=1, description="How often a channel falls out, or reports on change only."
    )
    precision: Literal["float32", "bf16"] = Field(
        "float32",
        description="bf16: mixed precision while training, on a GPU only. Scores are float32.",
    )


class SearchSettings(BaseModel):
    """Between what `watchkeeper train --search N` looks for settings.

    Those that the model does not have are left out.
    """

    CHOICES: ClassVar = ("hidden", "chunk_ticks")
    LOGARITHMIC: ClassVar = ("learning_rate", "l2")
    model_config = ConfigDict(extra="forbid", frozen=True)

    learning_rate: tuple[Above, Above] = Field((1e-3, 3e-2), description="Evenly by its logarithm.")
    hidden: tuple[Annotated[int, Field(ge=4, le=1024, multiple_of=4)], ...] = Field(
        (16, 32, 64, 128), min_length=1, description="One of these."
    )
    chunk_ticks: tuple[Annotated[int, Field(ge=8)], ...] = Field(
        (50, 100, 200), min_length=1, description="One of these."
    )
    dropout: tuple[Share, Share] = Field((0.0, 0.3), description="Evenly.")
    channel_dropout: tuple[Share, Share] = Field((0.0, 0.4), description="Evenly.")
    l2: tuple[Above, Above] = Field((1e-6, 1e-3), description="Evenly by its logarithm.")

    @field_validator("learning_rate", "dropout", "channel_dropout", "l2")
    @classmethod
    def _rising(cls, given: tuple[float, float]) -> tuple[float, float]:
        if given[0] > given[1]:
            raise ValueError(f"want the lower end first, got {list(given)}")
        return given


class DiagnosisSettings(BaseModel):
    """How faults are named, from episodes that people labelled."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    memory_ticks: int = Field(
        50, ge=1, description="Over about how many ticks of an alarm it is seen what is to blame."
    )
    least_ticks: int = Field(
        10, ge=1, description="Ticks of an alarm before which its fault is unknown."
    )
    unknown_share: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="Share of the time of known faults that may be too far from each of them and "
        "so unknown: with more, fewer strange faults are called by a known name.",
    )
