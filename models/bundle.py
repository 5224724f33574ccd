"""A model on disk and in use: a folder of ``weights.safetensors`` and ``card.json``.

The card says what the weights are and how to use them; loading runs no code of the folder's. The
same training writes the same bytes, and the bundle's hash is that of its card, which holds the hash
of the weights.
"""

import ctypes
import functools
import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

import models
from models.calibration import Calibration
from models.contract import Detector, Deviation, Judgement, State, Stretch, under
from models.diagnosis import Diagnosis, DiagnosisCard
from models.instruments import Health
from models.scaling import Scale, Scaling
from models.settings import DetectorSettings
from models.threshold import Support

# N rows, C channels

SCHEMA_VERSION = 1
CARD = "card.json"
WEIGHTS = "weights.safetensors"

DIAGNOSIS = "diagnosis."  # what the names of its tensors begin with, in weights.safetensors

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux: fcntl.h, stdio.h

Device = Literal["auto", "cpu", "cuda"]


class BundleError(Exception):
    """A bundle cannot be read, or is not for these channels.

    ``path``: the folder, where there is one.
    """

    def __init__(self, message: str, *, path: Path | None = None) -> None:
        super().__init__(message)
        self.path = path


class Channel(BaseModel):
    """One column of the frames, as the model knows it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    unit: str | None
    aggregate: str  # how the samples of one tick became one value


class AssetRange(BaseModel):
    """What of one asset the model was made from. Ticks in ns since 1970 UTC."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    first: int
    last: int
    frames: int


class OwnScaling(BaseModel):
    """What one asset is scaled by, and what of it that was learnt from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scaling: Scaling
    learnt: AssetRange


class Card(BaseModel):
    """Everything about a bundle but its weights."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    schema_version: Literal[1] = 1
    kind: str  # the type of its settings
    settings: dict[str, Any]  # of the detector
    channels: tuple[Channel, ...] = Field(min_length=1)
    tick_ms: int = Field(gt=0)
    warmup_ticks: int = Field(ge=0)
    scaling: Scaling  # of all machines that were learnt from together
    own: dict[str, OwnScaling] = {}  # asset -> what it is scaled by in its place
    calibration: Calibration
    threshold: float | None = None  # surprise to alarm at; set by whoever knows the alarm budget
    provisional: bool = True  # the history was too short for the threshold asked for
    support: Support | None = None  # what stands behind it; None: given by hand, or an earlier card
    data: dict[str, AssetRange]  # asset -> range
    data_hash: str  # SHA-256 of the frames
    training: dict[str, Any]
    seeds: tuple[int, ...]
    health: tuple[Health, ...] = ()  # of the channels' signals; none: an earlier version made it
    diagnosis: DiagnosisCard | None = None  # of a head that names faults, where there is one
    metrics: dict[str, float]
    code_version: str
    created_with: dict[str, str]  # library -> version
    weights_sha256: str

    @property
    def health_by_name(self) -> dict[str, Health]:
        """What each channel's signal is like in health, as far as the card says."""
        names = [channel.name for channel in self.channels]
        return dict(zip(names, self.health, strict=True)) if self.health else {}


@dataclass(frozen=True)
class Bundle:
    """One trained model: its card, a detector that holds the weights, and a head where it has one.

    The head names the fault that an alarm comes from.
    """

    card: Card
    detector: Detector
    diagnosis: Diagnosis | None = None

    @classmethod
    def load(cls, path: Path | str, device: Device = "auto") -> "Bundle":
        """Read a folder. Raises BundleError saying what is wrong with it and what to do.

        ValueError where CUDA is asked for and there is none.
        """
        folder = Path(path)
        card = _read_card(folder)
        content = weights_content(folder, card.weights_sha256)
        try:
            settings: DetectorSettings = TypeAdapter(models.ModelSettings).validate_python(
                {**card.settings, "type": card.kind}
            )
        except ValidationError as error:
            raise BundleError(
                f"{folder / CARD}: kind {card.kind!r} with settings {card.settings}: "
                f"{first_complaint(error)}. "
                f"This version knows {', '.join(models.discover())}.",
                path=folder,
            ) from error
        detector, diagnosis = settings.build(len(card.channels)), None
        try:
            tensors = safetensors.torch.load(content)
            if card.diagnosis is not None:
                head = under(DIAGNOSIS, tensors)
                diagnosis = Diagnosis.of(card.diagnosis, head, channels=len(card.channels))
                tensors = {n: one for n, one in tensors.items() if not n.startswith(DIAGNOSIS)}
            detector.load_tensors(tensors)
        except (safetensors.SafetensorError, ValueError) as error:
            raise BundleError(
                f"{folder / WEIGHTS}: not the weights of a {card.kind} of "
                f"{len(card.channels)} channels: {error}",
                path=folder,
            ) from error
        return cls(card, detector.to(resolve(device)), diagnosis)

    def save(self, path: Path | str) -> None:
        """Write the folder, whole or not at all; one that is there already is replaced."""
        write_folder(
            Path(path),
            {
                CARD: _card_bytes(self.card),
                WEIGHTS: weights_bytes(self.detector, self.diagnosis),
            },
        )

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256 of the card, and through it of everything."""
        return hashlib.sha256(_card_bytes(self.card)).hexdigest()

    @property
    def warmup_ticks(self) -> int:
        """Ticks after a reset before a score counts."""
        return self.card.warmup_ticks

    def with_threshold(
        self, threshold: float | None, *, provisional: bool, support: Support | None = None
    ) -> "Bundle":
        """The same model with another threshold on its card."""
        changed = {"threshold": threshold, "provisional": provisional, "support": support}
        return replace(self, card=self.card.model_copy(update=changed))

    def with_diagnosis(self, diagnosis: Diagnosis) -> "Bundle":
        """The same model with this head, in the place of the one it may have."""
        digest = hashlib.sha256(weights_bytes(self.detector, diagnosis)).hexdigest()
        changed = {"diagnosis": diagnosis.card, "weights_sha256": digest}
        return Bundle(self.card.model_copy(update=changed), self.detector, diagnosis)

    def with_own(self, own: Mapping[str, OwnScaling]) -> "Bundle":
        """The same model, with what these assets are scaled by on its card too."""
        changed = {"own": {**self.card.own, **own}}
        return replace(self, card=self.card.model_copy(update=changed))

    def not_learnt(self, assets: Sequence[str]) -> tuple[str, ...]:
        """Those of these assets that it was neither trained on nor has adopted."""
        known = self.card.own.keys() | self.card.data.keys()
        return tuple(asset for asset in assets if asset not in known)

    def scale_of(self, assets: Sequence[str]) -> Scale | None:
        """What these assets are scaled by, [A, C]; None: all of them by the pooled scaling."""
        if not any(asset in self.card.own for asset in assets):
            return None
        pooled, own = self.card.scaling, self.card.own
        found = [own[asset].scaling if asset in own else pooled for asset in assets]
        return Scale(
            np.array([one.mean for one in found]), np.array([one.deviation for one in found])
        )

    def check_fits(self, channels: Sequence[Channel], tick_ms: int) -> None:
        """Raise BundleError unless these frames are what the model was made for.

        In the same order.
        """
        own = {channel.name: channel for channel in self.card.channels}
        given = {channel.name: channel for channel in channels}
        wrong = [f"channel {name!r} is missing" for name in own if name not in given]
        wrong += [
            f"channel {name!r} is not one of the model's" for name in given if name not in own
        ]
        for name in [name for name in own if name in given]:
            for what in ("unit", "aggregate"):
                want, got = getattr(own[name], what), getattr(given[name], what)
                if want != got:
                    wrong.append(f"channel {name!r}: want {what} {want!r}, got {got!r}")
        if not wrong and list(own) != [channel.name for channel in channels]:
            wrong.append(f"want the channels in the order {', '.join(own)}, got {', '.join(given)}")
        if tick_ms != self.card.tick_ms:
            wrong.append(f"want tick_ms {self.card.tick_ms}, got {tick_ms}")
        if wrong:
            raise BundleError(
                f"this {self.card.kind} model does not fit: {'; '.join(wrong)}. "
                "Correct the configuration, or train a model for it."
            )

    def initial(self, rows: int) -> State:
        """The state of ``rows`` assets that have seen nothing yet."""
        return self.detector.initial(rows)

    def step(
        self,
        value: NDArray[np.float64],
        valid: NDArray[np.bool_],
        state: State,
        scale: Scale | None = None,
    ) -> tuple[Judgement, State]:
        """One tick of N assets: a sweep of one."""
        return self.sweep(value, valid, [len(value)], state, scale)

    def sweep(
        self,
        value: NDArray[np.float64],
        valid: NDArray[np.bool_],
        counts: Sequence[int],
        state: State,
        scale: Scale | None = None,
    ) -> tuple[Judgement, State]:
        """Many ticks of N rows: all of the first tick, then of the second, and so on.

        float64 [R, C] in the channels' units (anything where not valid), bool [R, C]. Tick t holds
        the first counts[t] rows; counts never rise, and sum to R. A row with nothing valid steps
        on, with raw 0 and no blame. The state given is left as it was. ``scale``: of each row,
        [R, C], as ``scale_of`` says; left out: the pooled one.
        """
        scale = self.card.scaling.scale if scale is None else scale
        scaled, usable = scale.apply(value, valid)
        device = self.detector.device
        evidence, after = self.detector.sweep(
            torch.from_numpy(scaled).to(device), torch.from_numpy(usable).to(device), counts, state
        )
        raw = evidence.raw.cpu().numpy()
        judgement = Judgement(
            raw=raw,
            surprise=self.card.calibration.apply(raw),
            blame=evidence.blame.cpu().numpy(),
            expected=scale.back(evidence.expected.cpu().numpy()),
            spread=scale.spread_back(evidence.spread.cpu().numpy()),
        )
        return judgement, after

    def explain(
        self,
        value: NDArray[np.float64],
        valid: NDArray[np.bool_],
        state: State,
        scale: Scale | None = None,
    ) -> Deviation | None:
        """What the score of the last of T ticks of one asset came from; None: it cannot say.

        [T, C] each, as for ``sweep``, with the state before the first; in the channels' units.
        ``scale``: the asset's, [C].
        """
        scale = self.card.scaling.scale if scale is None else scale
        scaled, usable = (torch.from_numpy(one) for one in scale.apply(value, valid))
        device = self.detector.device
        found = self.detector.explain(scaled.to(device), usable.to(device), state)
        if found is None:
            return None
        return replace(found, by=scale.spread_back(found.by))


def ranges(stretches: Sequence[Stretch]) -> dict[str, AssetRange]:
    """What of each asset these stretches are."""
    found = {}
    for asset in sorted({stretch.asset for stretch in stretches}):
        own = [stretch for stretch in stretches if stretch.asset == asset and len(stretch)]
        if own:
            found[asset] = AssetRange(
                first=min(int(stretch.tick[0]) for stretch in own),
                last=max(int(stretch.tick[-1]) for stretch in own),
                frames=sum(map(len, own)),
            )
    return found


def resolve(device: Device) -> str:
    """The torch device meant. Raises ValueError where CUDA is asked for and there is none."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device cuda: torch finds no CUDA device here; use auto or cpu")
    return device


def weights_bytes(detector: Detector, diagnosis: Diagnosis | None = None) -> bytes:
    """weights.safetensors of a model: the same tensors give the same bytes."""
    head = {} if diagnosis is None else diagnosis.tensors()
    return safetensors.torch.save(
        detector.tensors() | {f"{DIAGNOSIS}{name}": tensor for name, tensor in head.items()}
    )


def versions() -> dict[str, str]:
    """The libraries that shape the numbers."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def code_version() -> str:
    """This program's own version."""
    return metadata.version("watchkeeper")


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of files, whole or not at all, and on disk for good when this returns.

    At every moment a whole folder stands under the name, where the file system can exchange two
    names in one step; where it cannot, as over some networks, there is none for an instant.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        for name, content in files.items():
            with (fresh / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        fresh.chmod(0o755)
        _sync(fresh)
        if path.exists() and not _exchange(fresh, path):
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
            path.rename(old / path.name)
            fresh.rename(path)
            shutil.rmtree(old)
        elif not path.exists():
            fresh.rename(path)
        _sync(path.parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change names, in one step; False where that cannot be (renameat2(2))."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    return rename is not None and not rename(
        _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE
    )


def _sync(folder: Path) -> None:
    """Put a folder's names on disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _card_bytes(card: Card) -> bytes:
    content = card.model_dump(mode="json")
    later_ones = ("support", "health", "own", "diagnosis")
    for later in later_ones:  # as earlier versions wrote it: the hash stays
        if not content[later]:
            del content[later]
    if "support" in content and not content["support"]["unlike"]:
        del content["support"]["unlike"]  # as above
    return (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{path}: cannot be read: {error.strerror}. A bundle is a folder with {CARD} "
            f"and {WEIGHTS}.",
            path=path.parent,
        ) from error


def card_content(folder: Path) -> bytes:
    """The card's JSON, of this version of the schema. Raises BundleError."""
    content = _read(folder / CARD)
    try:
        parsed = json.loads(content)
    except ValueError as error:
        raise BundleError(
            f"{folder / CARD}: no JSON: {error}. Cut short or changed: copy the folder again.",
            path=folder,
        ) from error
    version = parsed.get("schema_version") if isinstance(parsed, dict) else None
    if not isinstance(version, int):
        raise BundleError(
            f"{folder / CARD}: no model card: want an object with schema_version", path=folder
        )
    if version != SCHEMA_VERSION:
        way = "Upgrade the program" if version > SCHEMA_VERSION else "Train the model again"
        raise BundleError(
            f"{folder / CARD}: want schema_version {SCHEMA_VERSION}, got {version}. {way}.",
            path=folder,
        )
    return content


def weights_content(folder: Path, want: str) -> bytes:
    """The weights' bytes, of this SHA-256. Raises BundleError."""
    content = _read(folder / WEIGHTS)
    digest = hashlib.sha256(content).hexdigest()
    if digest != want:
        raise BundleError(
            f"{folder / WEIGHTS}: not the weights of this card: want SHA-256 "
            f"{want}, got {digest} "
            f"({len(content)} bytes). Cut short, changed, or from another bundle: "
            "copy the folder again.",
            path=folder,
        )
    return content


def _read_card(folder: Path) -> Card:
    content = card_content(folder)
    try:
        card = Card.model_validate_json(content)
    except ValidationError as error:
        raise BundleError(f"{folder / CARD}: {first_complaint(error)}", path=folder) from error
    count = len(card.channels)
    if any(len(column) != count for column in (card.scaling.mean, card.scaling.deviation)):
        raise BundleError(
            f"{folder / CARD}: {count} channels, but scaling of {len(card.scaling.mean)}",
            path=folder,
        )
    for name, one in card.own.items():
        if len(one.scaling.mean) != count or len(one.scaling.deviation) != count:
            raise BundleError(
                f"{folder / CARD}: {count} channels, but a scaling of {name}'s own of "
                f"{len(one.scaling.mean)}",
                path=folder,
            )
    return card


def first_complaint(error: ValidationError) -> str:
    """In words: where, what."""
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
