"""A model of pictures on disk: a folder of ``weights.safetensors`` and ``card.json``.

As of any other model (models/bundle.py): loading runs no code of the folder's, the same training
writes the same bytes, and the bundle's hash is that of its card, which holds the hash of the
weights.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import safetensors
import safetensors.torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from models.bundle import (
    CARD,
    WEIGHTS,
    BundleError,
    card_content,
    first_complaint,
    weights_content,
    write_folder,
)
from models.calibration import Calibration
from models.vision.settings import InspectionSettings

Depth = Literal["uint8", "uint16"]
Task = Literal["classes", "boxes", "masks", "good"]  # labels, or what good pictures look like


class Seen(BaseModel):
    """What pictures were like that were learnt from: what others are refused for not being."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    depth: Depth
    channels: int = Field(ge=1)
    heights: tuple[int, int]  # the least and the most, pixels
    widths: tuple[int, int]
    paired: bool  # each with a golden template


class ModelCard(BaseModel):
    """What the card of every model of pictures says."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    schema_version: Literal[1] = 1
    kind: str
    data_hash: str  # SHA-256 of what was learnt from
    code_version: str
    weights_sha256: str


class VisionCard(ModelCard):
    """Everything about an inspection but its weights."""

    kind: Literal["inspection"] = "inspection"
    task: Task  # what was learnt
    settings: InspectionSettings
    seen: Seen
    classes: tuple[str, ...] = Field(min_length=2)
    good: str | None = None  # the class of pictures with nothing wrong; None: none was shown
    sure: float | None = None  # a place or a pixel is a defect's from this probability on
    calibration: Calibration  # of the anomaly of good pictures; with no such class, of all
    learnt: dict[str, int]  # class -> pictures that weights were learnt from
    made: dict[str, int] = {}  # class -> how many of those a generator made
    held_out: dict[str, int]  # class -> pictures that it was stopped and calibrated by
    training: dict[str, Any]
    seeds: tuple[int, ...]
    metrics: dict[str, float]  # of what was held out
    created_with: dict[str, str]  # library -> version

    @property
    def limit(self) -> float:
        """From which probability on a place or a pixel is called a defect's."""
        return 0.5 if self.sure is None else self.sure

    @property
    def inputs(self) -> int:
        """Channels that the network sees."""
        channels = 1 if self.settings.preprocess.grey else self.seen.channels
        return 3 * channels if self.seen.paired else channels


AnyCard = TypeVar("AnyCard", bound=ModelCard)


def card_bytes(card: ModelCard) -> bytes:
    """card.json: the same card gives the same bytes."""
    content = card.model_dump(mode="json")
    return (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of weights.safetensors."""
    return hashlib.sha256(safetensors.torch.save(dict(tensors))).hexdigest()


def write(folder: Path, card: ModelCard, tensors: Mapping[str, Tensor]) -> None:
    """Write the folder, whole or not at all; one that is there already is replaced."""
    weights = safetensors.torch.save(dict(tensors))
    write_folder(folder, {CARD: card_bytes(card), WEIGHTS: weights})


def read(folder: Path) -> tuple[VisionCard, dict[str, Tensor]]:
    """The card and the tensors of an inspection. Raises BundleError, as ``read_as`` does."""
    card, tensors = read_as(VisionCard, folder)
    wanted = card.task != "classes"
    if (card.good is not None or wanted) and card.good not in card.classes:
        raise BundleError(
            f"{folder / CARD}: good is {card.good!r}, and the classes are "
            f"{', '.join(card.classes)}",
            path=folder,
        )
    return card, tensors


def read_as(of: type[AnyCard], folder: Path) -> tuple[AnyCard, dict[str, Tensor]]:
    """Card and tensors of such a model. Raises BundleError saying what is wrong and what to do."""
    content = card_content(folder)
    got, want = json.loads(content).get("kind"), of.model_fields["kind"].default
    if got != want:
        raise BundleError(
            f"{folder / CARD}: want a card of kind {want!r}, got one of kind {got!r}. "
            f"Give the folder of such a model.",
            path=folder,
        )
    try:
        card = of.model_validate_json(content)
    except ValidationError as error:
        raise BundleError(f"{folder / CARD}: {first_complaint(error)}", path=folder) from error
    weights = weights_content(folder, card.weights_sha256)
    try:
        return card, safetensors.torch.load(weights)
    except safetensors.SafetensorError as error:
        raise BundleError(f"{folder / WEIGHTS}: no weights: {error}", path=folder) from error
