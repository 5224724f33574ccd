"""Rows of pictures of several places to a model of progression.

Places are few, so what is learnt is kept from the run they share: each time a place is shown, it is
faster or slower, larger or smaller, begins anywhere and lacks pictures. What is left is how such
things grow, not when they did. The loss is the quantile loss of each length ahead (Koenker and
Bassett, Econometrica 46, 1978) and the cross-entropy of beginning.

Each member leaves some places out, and is measured on them. So are intervals: they are widened by
what the members missed there (conformalized quantile regression: Romano et al., NeurIPS 2019, with
cross-conformal splits). Pictures of one place are alike, so that a promise made on ten places is
worth that of ten, not of hundreds.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.bundle import code_version
from models.vision.bundle import digest
from models.vision.progression import (
    F32,
    F64,
    Course,
    Measured,
    Outlook,
    Progression,
    ProgressionCard,
    ProgressionSettings,
    Unit,
    course,
    tensors_of,
)
from models.vision.scores import auroc

# T pictures of a place, F features, A steps ahead, R rows that are learnt from at once, K members

COPIES = 3  # of each place in an epoch, each changed in its own way
LEAST_PLACES = 3
LINE = 8  # pictures that a line is drawn through: of 2 to 12, the best on bsdata's training part
WHOLE_CHANCE = 0.3  # that a place is shown from its first picture on
BLIND_CHANCE = 0.3  # that a row is shown without its features
GRADIENT_NORM = 1.0

Bool = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Pictures of one place in the order of their taking."""

    name: str
    position: F64  # [T] frames, hours or whatever else; rises
    features: F32  # [T, F]
    area: F64  # [T] 0 where nothing is wrong
    known: Bool  # [T] False: doubtful, and left out

    def __post_init__(self) -> None:
        """Raise ValueError for what does not fit together."""
        count = len(self.position)
        shapes = (self.features.shape[:1], self.area.shape, self.known.shape)
        if any(shape != (count,) for shape in shapes):
            raise ValueError(
                f"place {self.name}: want {count} rows of features, areas and known, got {shapes}"
            )
        if (np.diff(self.position) <= 0).any():
            raise ValueError(f"place {self.name}: want positions that rise")
        if not (self.area >= 0).all() or not np.isfinite(self.features).all():
            raise ValueError(f"place {self.name}: want finite features, and areas of 0 or more")

    def __len__(self) -> int:
        """Count of pictures."""
        return len(self.position)

    def only(self, rows: Bool) -> "Place":
        """Those pictures."""
        return replace(
            self,
            position=self.position[rows],
            features=self.features[rows],
            area=self.area[rows],
            known=self.known[rows],
        )

    @property
    def gap(self) -> F64:
        """Since the picture before, [T]; 0 for the first."""
        return np.diff(self.position, prepend=self.position[:1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One epoch of one member. Counts from 1."""

    member: int
    members: int
    epoch: int
    epochs: int
    loss: float


@dataclass(frozen=True, slots=True)
class Learnt:
    """A model, and for each place the member that had not learnt from it, alone."""

    model: Progression
    held_out: tuple[tuple[Place, Progression], ...]  # their intervals are not widened


def fit(
    places: Sequence[Place],
    settings: ProgressionSettings | None = None,
    *,
    area_unit: str,
    inspection: str = "",
    position_unit: Unit = "pictures",
    progress: Callable[[Progress], None] = lambda _progress: None,
) -> Learnt:
    """Learn from places; the same places and settings give the same bits.

    ``inspection`` is the hash of the inspection that gave the features: others mean something else.
    Raises ValueError for fewer than three places, and where no area grew that could be learnt from.
    """
    settings = settings or ProgressionSettings()
    ordered = [place.only(place.known) for place in sorted(places, key=lambda one: one.name)]
    if len(ordered) < LEAST_PLACES:
        raise ValueError(f"progression: want {LEAST_PLACES} places or more, got {len(ordered)}")
    if len({place.features.shape[1] for place in ordered}) > 1:
        raise ValueError("progression: want the same count of features of every place")
    areas = np.concatenate([place.area for place in ordered])
    if not any(pairs(place, settings).any() for place in ordered):
        raise ValueError(
            f"progression: want places with an area, and one {settings.ahead} steps of "
            f"{settings.spacing:g} later; of {len(areas)} pictures none has"
        )
    features = np.concatenate([place.features for place in ordered]).astype(np.float64)
    deviation = features.std(axis=0)
    untrained = ProgressionCard(
        settings=settings,
        inspection=inspection,
        position_unit=position_unit,
        area_unit=area_unit,
        scale=float(np.sqrt(areas[areas > 0].mean())),
        mean=tuple(features.mean(axis=0).tolist()),
        deviation=tuple(np.where(deviation > 0, deviation, 1.0).tolist()),
        widened=(0.0,) * settings.ahead,
        places={place.name: len(place) for place in ordered},
        measured=Measured(
            pictures=0, error=0.0, persistence=0.0, linear=0.0, within=0.0, onset_auroc=None
        ),
        data_hash=_digest(ordered),
        code_version=code_version(),
        weights_sha256="",
    )
    count = min(settings.members, len(ordered))
    order = np.random.default_rng(settings.seed).permutation(len(ordered))
    members, held = [], []
    for number in range(count):
        out = set(order[number::count].tolist())
        own = [place for place_number, place in enumerate(ordered) if place_number not in out]
        shown = Progression(untrained, ())
        member = _learn(shown, own, number, count, progress)
        members.append(member)
        alone = Progression(untrained, (member,))
        held += [(ordered[n], alone) for n in sorted(out)]
    said = [(place, follow(alone, place)) for place, alone in held]
    card = untrained.model_copy(
        update={
            "widened": _widened(said, untrained),
            "measured": measure(said, settings),
            "weights_sha256": digest(tensors_of(members)),
        }
    )
    return Learnt(Progression(card, tuple(members)), tuple(held))


def follow(model: Progression, place: Place) -> Outlook:
    """What it says after each picture of a place, rows [T]: step by step, as when it is live."""
    state, said = model.initial(1), []
    for row in range(len(place)):
        one = slice(row, row + 1)
        outlook, state = model.step(place.features[one], place.area[one], place.gap[one], state)
        said.append(outlook)
    parts = {
        name: np.concatenate([getattr(one, name) for one in said])
        for name in ("area", "low", "high", "onset")
    }
    return Outlook(**parts)


def measure(said: Sequence[tuple[Place, Outlook]], settings: ProgressionSettings) -> Measured:
    """How outlooks fared, against "it stays as it is" and against a line."""
    error: list[float] = []
    stays: list[float] = []
    line: list[float] = []
    inside: list[bool] = []
    chance: list[float] = []
    begins: list[bool] = []
    for place, outlook in said:
        later, _ = ahead_of(place, settings)
        rows = np.flatnonzero(pairs(place, settings))
        truth = later[rows, -1]
        error += np.abs(outlook.area[rows, -1] - truth).tolist()
        stays += np.abs(place.area[rows] - truth).tolist()
        reach = settings.ahead * settings.spacing
        line += [abs(straight(place, int(row), reach) - later[row, -1]) for row in rows]
        inside += ((outlook.low[rows, -1] <= truth) & (truth <= outlook.high[rows, -1])).tolist()
        soon, told = onset_of(place, settings)
        chance += outlook.onset[told].tolist()
        begins += soon[told].tolist()
    ranked = auroc(np.array(begins, np.bool_), np.array(chance))
    return Measured(
        pictures=len(error),
        error=float(np.mean(error)) if error else 0.0,
        persistence=float(np.mean(stays)) if stays else 0.0,
        linear=float(np.mean(line)) if line else 0.0,
        within=float(np.mean(inside)) if inside else 0.0,
        onset_auroc=None if math.isnan(ranked) else ranked,
    )


def straight(place: Place, row: int, reach: float) -> float:
    """The area that a line through the last pictures up to this one leads to."""
    rows = slice(max(0, row + 1 - LINE), row + 1)
    if row == 0:
        return float(place.area[0])
    slope, level = np.polyfit(place.position[rows] - place.position[row], place.area[rows], 1)
    return max(float(level + slope * reach), 0.0)


def ahead_of(place: Place, settings: ProgressionSettings) -> tuple[F64, Bool]:
    """The area 1, 2, ... steps after each picture, [T, A], and where there is one.

    The picture nearest to that moment, half a step from it at the most.
    """
    position, spacing = place.position, settings.spacing
    moment = position[:, None] + spacing * np.arange(1, settings.ahead + 1)
    after = np.searchsorted(position, moment).clip(0, len(position) - 1)
    before = (after - 1).clip(0)
    nearer = np.abs(position[before] - moment) < np.abs(position[after] - moment)
    nearest = np.where(nearer, before, after)
    exists = np.abs(position[nearest] - moment) < spacing / 2
    exists &= nearest > np.arange(len(position))[:, None]
    return place.area[nearest], exists


def pairs(place: Place, settings: ProgressionSettings) -> Bool:
    """Which pictures [T] have an area, and one at the farthest step ahead."""
    _, exists = ahead_of(place, settings)
    found: Bool = exists[:, -1] & (place.area > 0)
    return found


def onset_of(place: Place, settings: ProgressionSettings) -> tuple[Bool, Bool]:
    """Whether it begins within so many steps of each picture [T], and where that can be told.

    It can where nothing was wrong so far, and something was soon enough, or nothing for as long.
    """
    reach = settings.within * settings.spacing
    wrong = np.flatnonzero(place.area > 0)
    first = place.position[wrong[0]] if len(wrong) else math.inf
    before = place.position < first
    soon = before & (place.position + reach >= first)
    return soon, before & (soon | (place.position + reach <= place.position[-1]))


def _learn(
    shown: Progression,
    places: Sequence[Place],
    number: int,
    count: int,
    progress: Callable[[Progress], None],
) -> Course:
    """One member, from these places."""
    settings = shown.card.settings
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed((settings.seed << 8) + number)
        member = course(settings, len(shown.card.mean))
    chance = np.random.default_rng([settings.seed, number])
    optimizer = torch.optim.AdamW(
        member.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    for epoch in range(settings.epochs):
        for group in optimizer.param_groups:
            falls = 0.5 * (1 + math.cos(math.pi * epoch / settings.epochs))
            group["lr"] = settings.learning_rate * falls
        rows = [_changed(place, settings, chance) for place in places for _ in range(COPIES)]
        loss = _loss(member, shown, [row for row in rows if len(row)], chance)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        nn.utils.clip_grad_norm_(member.parameters(), GRADIENT_NORM)
        optimizer.step()
        progress(
            Progress(
                member=number + 1,
                members=count,
                epoch=epoch + 1,
                epochs=settings.epochs,
                loss=float(loss.detach()),
            )
        )
    return member.eval()


def _changed(place: Place, settings: ProgressionSettings, chance: np.random.Generator) -> Place:
    """The place as it might have been: another speed and size, other pictures taken."""
    speed = math.exp(chance.normal(0, settings.warp))
    size = math.exp(chance.normal(0, settings.size))
    steps = np.round((place.position - place.position[0]) * speed / settings.spacing)
    kept = np.diff(steps, append=steps[-1] + 1) > 0  # of those in one step, the last
    if chance.random() > WHOLE_CHANCE:
        kept[: chance.integers(0, len(place))] = False
    kept &= chance.random(len(place)) >= settings.thin * chance.random()
    one = place.only(kept)
    return replace(one, position=steps[kept] * settings.spacing, area=one.area * size)


def _loss(
    member: Course, shown: Progression, rows: Sequence[Place], chance: np.random.Generator
) -> Tensor:
    """Of rows side by side, filled up with nothing to the longest."""
    settings = shown.card.settings
    longest, wide = max(map(len, rows)), len(shown.card.mean)
    seen = np.zeros((longest, len(rows), 3), np.float32)
    features = np.zeros((longest, len(rows), wide), np.float32)
    target = np.zeros((longest, len(rows), settings.ahead), np.float32)
    counts = np.zeros(target.shape, np.float32)
    begins = np.zeros((2, longest, len(rows)), np.float32)  # whether, and where that can be told
    for n, row in enumerate(rows):
        noisy = row.area * np.exp(chance.normal(0, settings.noise, len(row)))
        seen[: len(row), n] = shown.seen(noisy, row.gap)
        if chance.random() >= BLIND_CHANCE:
            features[: len(row), n] = shown.scaled(row.features)
        later, exists = ahead_of(row, settings)
        target[: len(row), n] = np.sqrt(later) / shown.card.scale
        counts[: len(row), n] = exists & (row.area > 0)[:, None]
        begins[0, : len(row), n], begins[1, : len(row), n] = onset_of(row, settings)
    state = torch.zeros(1, len(rows), settings.hidden)
    length, logit, _ = member(torch.from_numpy(seen), torch.from_numpy(features), state)
    tail = (1 - settings.level) / 2
    quantile = torch.tensor([tail, 0.5, 1 - tail])
    away = torch.from_numpy(target)[..., None] - length
    pinball = torch.maximum(quantile * away, (quantile - 1) * away).sum(-1)
    weight = torch.from_numpy(counts)
    soon, told = torch.from_numpy(begins)
    onset = functional.binary_cross_entropy_with_logits(logit, soon, reduction="none")
    terms = ((pinball, weight), (onset, told))
    return torch.stack([(x * w).sum() / w.sum().clamp(min=1) for x, w in terms]).sum()


def _widened(held: Sequence[tuple[Place, Outlook]], card: ProgressionCard) -> tuple[float, ...]:
    """By which each interval must be wider to hold its share, in lengths of 1; [A]."""
    settings = card.settings
    missed: list[list[float]] = [[] for _ in range(settings.ahead)]
    for place, outlook in held:
        later, exists = ahead_of(place, settings)
        exists &= (place.area > 0)[:, None]
        length, low, high = (
            np.sqrt(one) / card.scale for one in (later, outlook.low, outlook.high)
        )
        over = np.maximum(low - length, length - high)
        for step in range(settings.ahead):
            missed[step] += over[exists[:, step], step].tolist()
    return tuple(
        float(np.quantile(one, settings.level, method="higher")) if one else 0.0 for one in missed
    )


def _digest(places: Sequence[Place]) -> str:
    digest = hashlib.sha256()
    for place in places:
        digest.update(place.name.encode())
        for column in (place.position, place.features, place.area):
            digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()
