"""Training a generator against a discriminator; told, resumable, and ended when it goes wrong.

Loss: each real picture is paired with a made one of its class, and the discriminator says which is
which (relativistic: Jolicoeur-Martineau, ICLR 2019), with a zero-centred penalty on its gradient at
both (R1 and R2: Mescheder et al., ICML 2018). Together they converge locally and cover all modes,
without further tricks (R3GAN: Huang et al., NeurIPS 2024). The penalty is taken every few steps, as
many times as heavy (Karras et al., CVPR 2020).

Few pictures: both sides are changed the same way before the discriminator sees them, so that it
cannot learn the pictures by heart, and the generator does not learn the changes (Zhao et al.,
NeurIPS 2020). Classes: a projection (Miyato and Koyama, ICLR 2018); rare ones are drawn more often
than they are, by the root of their counts. What is kept is the running mean of the generator's
weights, at the check with the least kernel distance.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.bundle import code_version, resolve, write_folder
from models.contract import under
from models.runtime import computed
from models.training import Interrupted
from models.vision.bundle import digest
from models.vision.generator import (
    SIDES,
    SLOPE,
    U8,
    Block,
    Check,
    GeneratorCard,
    Network,
    PictureGenerator,
    depths,
    grids,
    make,
    network_of,
    tensors_of,
)
from models.vision.likeness import Features, compare, random_features, scaled
from models.vision.settings import GeneratorSettings

# N pictures, C colours, H height, W width, Z noise

CHECKED = 500  # pictures at the most that a check compares with as many made ones
POOREST = 0.25  # of the real diversity in the poorest class: less is a collapse, when it lasts
LASTING = 2  # checks
BEGINNING = 0.25  # of the steps: a generator that has learnt little makes one picture only
SHIFT = 1 / 8  # of a side: how far pictures are moved
HOLE = 1 / 3  # of a side: the square that is left out
LIGHT = 0.25  # how much brighter or darker, on a scale from -1 to 1
CONTRAST = 0.5  # as much weaker or stronger

FAINTEST = 0.05  # twice the deviation that pictures are taken to have at the least

STATE, TENSORS = "checkpoint.json", "checkpoint.safetensors"


AnyNetwork = TypeVar("AnyNetwork", bound=nn.Module)


class CollapsedError(Exception):
    """Training went wrong before there was anything to keep. ``step``: when that was seen."""

    def __init__(self, message: str, *, step: int) -> None:
        super().__init__(message)
        self.step = step


class Discriminator(nn.Module):
    """Pictures [N, C, H, W] and classes int64 [N] to how real they are [N]."""

    def __init__(
        self, settings: GeneratorSettings, *, classes: int, height: int, width: int, colours: int
    ) -> None:
        super().__init__()
        self.grids = grids(height, width)
        self.precision = settings.precision
        deep = depths(settings, len(self.grids))
        self.begin = nn.Conv2d(colours, deep[0], 3, padding=1)
        self.blocks = nn.ModuleList(
            Block(deep[level], deep[level], deep[min(level + 1, len(deep) - 1)])
            for level in range(len(deep))
        )
        self.end = nn.Linear(deep[-1] * math.prod(self.grids[-1]), settings.noise)
        self.real = nn.Linear(settings.noise, 1)
        self.kinds = nn.Embedding(classes, settings.noise)

    def forward(self, pictures: Tensor, kind: Tensor) -> Tensor:
        """Unbounded; only differences mean something."""
        with computed(self.precision, pictures.device.type):
            x = self.begin(pictures.contiguous(memory_format=torch.channels_last))
            for level, block in enumerate(self.blocks):
                x = block(x, halved if level + 1 < len(self.grids) else nn.Identity())
        x = x.float()
        feature = functional.leaky_relu(self.end(functional.leaky_relu(x, SLOPE).flatten(1)), SLOPE)
        projected = (self.kinds(kind) * feature).sum(1) / math.sqrt(feature.shape[1])
        found: Tensor = self.real(feature)[:, 0] + projected
        return found


def halved(x: Tensor) -> Tensor:
    """To the next grid."""
    return functional.avg_pool2d(x, 2, ceil_mode=True)


class AdversarialFit:
    """One training under way. ``capture`` and ``restore`` move all of it."""

    def __init__(
        self,
        pictures: U8,
        kinds: NDArray[np.int64],
        card: GeneratorCard,
        *,
        features: Features | None = None,
    ) -> None:
        self.pictures, self.kinds, self.card = pictures, kinds, card
        self.settings = settings = card.settings
        self.device = resolve(settings.device)
        self.features = features or random_features(card.colours)
        self.chance = torch.Generator().manual_seed(settings.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.generator = begun(network_of(card)).to(self.device)
            self._scale()
            self.average = network_of(card).to(self.device)
            self.average.load_state_dict(self.generator.state_dict())
            self.discriminator = begun(
                Discriminator(
                    settings,
                    classes=len(card.classes),
                    height=card.height,
                    width=card.width,
                    colours=card.colours,
                )
            ).to(self.device)
        self.optimizers = {
            name: torch.optim.Adam(network.parameters(), settings.learning_rate, betas=(0.0, 0.99))
            for name, network in self._networks().items()
            if name != "average"
        }
        self.step = 0
        self.checks: list[Check] = []
        self.best_step = 0
        self.best: dict[str, Tensor] = {}
        count = np.bincount(kinds, minlength=len(card.classes))
        self.share = torch.from_numpy(1.0 / np.sqrt(count[kinds]))  # of each picture in the draw
        self.compared = self._compared()

    def advance(self) -> None:
        """One step of both sides. Raises FloatingPointError when a loss is no number any more."""
        size = self.settings.batch_size
        rows = torch.multinomial(self.share, size, replacement=True, generator=self.chance)
        kind = torch.from_numpy(self.kinds[rows.numpy()]).to(self.device)
        real = mirrored(scaled(self.pictures[rows.numpy()]), self.settings, self.chance)
        real = (real.to(self.device) - self.generator.level) / self.generator.spread
        judged = self._judge(real, kind)
        self.discriminator.requires_grad_(requires_grad=False)
        made = self._made(kind)
        with torch.no_grad():
            verdict_real = self._verdict(real, kind)
        loss = functional.softplus(verdict_real - self._verdict(made, kind)).mean()
        self._descend("generator", loss)
        self.discriminator.requires_grad_(requires_grad=True)
        if not math.isfinite(judged + float(loss.detach())):
            raise FloatingPointError
        self.step += 1
        keep = 0.5 ** (1 / min(self.settings.half_life, max(self.step / 3, 1.0)))  # sooner at first
        with torch.no_grad():
            for old, new in zip(
                self.average.parameters(), self.generator.parameters(), strict=True
            ):
                old.lerp_(new, 1 - keep)

    def check(self) -> Check:
        """Compare what it makes now with what it learns from; the best so far is kept."""
        rows = self.compared
        made = make(
            self.average, self.kinds[rows], noise=self.settings.noise, seed=self.settings.seed
        )
        found = compare(
            self.pictures[rows],
            self.kinds[rows],
            made,
            self.kinds[rows],
            names=self.card.classes,
            features=self.features,
        )
        check = Check.model_validate({"step": self.step, **found.values()})
        self.checks.append(check)
        usable = [one for one in self.checks if one.diversity >= POOREST]
        if usable and min(usable, key=lambda one: one.kernel) is check:
            self.best_step = self.step
            self.best = tensors_of(self.average)
        return check

    def ended(self) -> tuple[str, str] | None:
        """How it ended and why, in words, or None: it goes on."""
        last = self.checks[-LASTING:]
        settings = self.settings
        if (
            len(last) == LASTING
            and last[0].step >= BEGINNING * settings.steps
            and all(one.diversity < POOREST for one in last)
        ):
            return "collapse", (
                f"at step {self.step} the pictures of {last[-1].poorest} differ only "
                f"{last[-1].diversity:.0%} as much as real ones do"
            )
        if self.step >= settings.steps:
            return "steps", f"after {self.step} steps, as set"
        better = max(self.best_step, BEGINNING * settings.steps)
        if self.checks and self.step - better >= settings.patience * settings.check_every:
            return "patience", f"it got no better after step {self.best_step}"
        return None

    def finish(self, ended: str, why: str) -> PictureGenerator:
        """The best of it. Raises CollapsedError where nothing is worth keeping."""
        if not self.best:
            raise CollapsedError(
                f"training a generator ended with nothing to keep: {why}. Give more pictures of "
                f"each class, more steps than {self.settings.steps}, a larger penalty than "
                f"{self.settings.penalty:g} or a learning_rate below "
                f"{self.settings.learning_rate:g}.",
                step=self.step,
            )
        changed_card = self.card.model_copy(
            update={
                "steps": self.best_step,
                "ended": ended,
                "why": why,
                "checks": tuple(self.checks),
                "weights_sha256": digest(self.best),
            }
        )
        network = network_of(self.card)
        network.load_state_dict(self.best)
        return PictureGenerator(changed_card, network.eval())

    def capture(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        """Copies of all that the next step depends on: tensors, and what JSON can hold."""
        tensors = {f"best.{name}": tensor for name, tensor in self.best.items()}
        for part, network in self._networks().items():
            tensors |= {f"{part}.{name}": t for name, t in tensors_of(network).items()}
        for part, optimizer in self.optimizers.items():
            for index, moments in optimizer.state_dict()["state"].items():
                for name, tensor in moments.items():
                    tensors[f"moments.{part}.{index}.{name}"] = _copy(tensor)
        tensors["chance"] = self.chance.get_state()
        checks = [check.model_dump() for check in self.checks]
        return tensors, {"step": self.step, "best_step": self.best_step, "checks": checks}

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, object]) -> None:
        """Take up what capture() gave."""
        for part, network in self._networks().items():
            network.load_state_dict(under(f"{part}.", tensors))
        self.best = under("best.", tensors)
        for part, optimizer in self.optimizers.items():
            state = optimizer.state_dict()
            for name, tensor in under(f"moments.{part}.", tensors).items():
                index, key = name.split(".", 1)
                state["state"].setdefault(int(index), {})[key] = tensor.clone()
            optimizer.load_state_dict(state)
        self.chance.set_state(tensors["chance"])
        checks = numbers["checks"]
        if not isinstance(checks, list):
            raise TypeError(f"checks: want a list, got {checks!r}")
        self.checks = [Check.model_validate(check) for check in checks]
        self.step, self.best_step = int(str(numbers["step"])), int(str(numbers["best_step"]))

    def _scale(self) -> None:
        """What pictures are about: faint ones would be lost in the changes and the penalty."""
        share = self.pictures.astype(np.float32) / 127.5 - 1.0
        self.generator.level.fill_(float(share.mean()))
        self.generator.spread.fill_(max(2.0 * float(share.std()), FAINTEST))

    def _networks(self) -> dict[str, nn.Module]:
        return {
            "generator": self.generator,
            "average": self.average,
            "discriminator": self.discriminator,
        }

    def _judge(self, real: Tensor, kind: Tensor) -> float:
        """One step of the discriminator; gives its loss."""
        with torch.no_grad():
            made = self._made(kind)
        shown = changed(torch.cat([real, made]), self.settings.augment, self.chance)
        penalised = self.settings.penalty > 0 and self.step % self.settings.penalty_every == 0
        shown.requires_grad_(penalised)
        verdict = self.discriminator(shown, torch.cat([kind, kind]))
        verdict_real, verdict_made = verdict.chunk(2)
        loss = functional.softplus(verdict_made - verdict_real).mean()
        if penalised:
            (slope,) = torch.autograd.grad(verdict.sum(), shown, create_graph=True)
            both = slope.square().sum((1, 2, 3)).mean() * 2  # R1 + R2, half of the rows each
            loss = loss + self.settings.penalty / 2 * self.settings.penalty_every * both
        self._descend("discriminator", loss)
        return float(loss.detach())

    def _verdict(self, shown: Tensor, kind: Tensor) -> Tensor:
        found: Tensor = self.discriminator(changed(shown, self.settings.augment, self.chance), kind)
        return found

    def _made(self, kind: Tensor) -> Tensor:
        noise = torch.randn(len(kind), self.settings.noise, generator=self.chance)
        with computed(self.settings.precision, self.device):
            made: Tensor = self.generator(noise.to(self.device), kind, self.chance)
        return made.float()

    def _descend(self, part: str, loss: Tensor) -> None:
        self.optimizers[part].zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.optimizers[part].step()

    def _compared(self) -> NDArray[np.int64]:
        """Which pictures checks look at: as many of each class, as far as there are."""
        each = max(CHECKED // len(self.card.classes), 1)
        chance = np.random.default_rng(self.settings.seed)
        parts = []
        for kind in range(len(self.card.classes)):
            own = np.flatnonzero(self.kinds == kind)
            parts.append(np.sort(chance.permutation(own)[:each]))
        return np.concatenate(parts)


def train(
    pictures: U8,
    labels: Sequence[str],
    settings: GeneratorSettings | None = None,
    *,
    features: Features | None = None,
    progress: Callable[[Check], None] = lambda _check: None,
    checkpoint: Path | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> PictureGenerator:
    """A generator of pictures like these, uint8 [N, H, W, C], each of its class.

    Args:
        pictures: All of one size, grey or colour; those of the training part alone.
        labels: The class of each.
        settings: How; left out: the usual way.
        features: What checks compare by; left out: a fixed random network.
        progress: Told after every check.
        checkpoint: A folder to save to when stopped and at every check, and to go on from where it
        exists. It is the caller's to remove, once the generator is safe.
        should_stop: Asked at every step; true saves and raises Interrupted.

    Raises:
        ValueError: The pictures cannot make a generator, or the checkpoint is of another training.
        CollapsedError: It went wrong before there was anything to keep. A later collapse ends the
        training, too; the best before it is kept, and the card says so.
        Interrupted: should_stop() said so; the same call goes on, and ends with the same bits.
    """
    card = _card(pictures, labels, settings or GeneratorSettings())
    kinds = np.array([card.classes.index(label) for label in labels], np.int64)
    fit = AdversarialFit(pictures, kinds, card, features=features)
    _resume(fit, checkpoint)
    while (how := fit.ended()) is None:
        if should_stop():
            _save(fit, checkpoint)
            where = f"; the same training goes on from {checkpoint}" if checkpoint else ""
            raise Interrupted(f"training was stopped{where}", checkpoint=checkpoint)
        try:
            fit.advance()
        except FloatingPointError:
            how = "collapse", f"at step {fit.step + 1} the loss was no finite number"
            break
        if fit.step % fit.settings.check_every == 0 or fit.step == fit.settings.steps:
            progress(fit.check())
            _save(fit, checkpoint)
    return fit.finish(*how)


def begun(network: AnyNetwork) -> AnyNetwork:
    """Weights to begin with: each block as the identity, and a quiet end."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, a=SLOPE)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, Block):
            nn.init.zeros_(module.second.weight)
            if module.steer is not None:
                nn.init.zeros_(module.steer.weight)
        elif isinstance(module, Network):
            nn.init.normal_(module.end.weight, 0.0, 0.01)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's overloads leave it out
    return network


def mirrored(x: Tensor, settings: GeneratorSettings, chance: torch.Generator) -> Tensor:
    """Half of the pictures turned over each way, where that may be."""
    if not settings.mirror:
        return x
    draw = torch.rand(2, len(x), 1, 1, 1, generator=chance) < 0.5
    x = torch.where(draw[0], x.flip(3), x)
    return torch.where(draw[1], x.flip(2), x)


def changed(x: Tensor, share: float, chance: torch.Generator) -> Tensor:
    """Light, contrast, place and a hole, each in this share of the pictures; has a gradient."""
    count, _, height, width = x.shape
    if not share:
        return x
    draw = torch.rand(8, count, generator=chance)
    on = (torch.rand(4, count, generator=chance) < share).to(x.dtype)

    def row(values: Tensor) -> Tensor:
        return values.to(x.device)[:, None, None, None]

    x = x + row(on[0] * (2 * draw[0] - 1) * LIGHT)
    middle = x.mean((1, 2, 3), keepdim=True)
    x = middle + (x - middle) * row(1 + on[1] * (2 * draw[1] - 1) * CONTRAST)
    down = (on[2] * (2 * draw[2] - 1) * SHIFT * height).round().long()
    right = (on[2] * (2 * draw[3] - 1) * SHIFT * width).round().long()
    rows = (torch.arange(height) + down[:, None]).clamp(0, height - 1).to(x.device)
    columns = (torch.arange(width) + right[:, None]).clamp(0, width - 1).to(x.device)
    number = torch.arange(count, device=x.device)
    x = x.permute(0, 2, 3, 1)[number[:, None, None], rows[:, :, None], columns[:, None, :]]
    x = x.permute(0, 3, 1, 2)
    hole = row(on[3] > 0)
    for side, axis, where in ((height, 2, draw[4]), (width, 3, draw[5])):
        place = torch.arange(side, device=x.device).view(
            (1, 1, side, 1) if axis == 2 else (1, 1, 1, side)
        )
        start = (row(where) * (side + HOLE * side) - HOLE * side).floor()
        hole = hole & (place >= start) & (place < start + HOLE * side)
    return torch.where(hole, torch.zeros_like(x), x)


def _card(pictures: U8, labels: Sequence[str], settings: GeneratorSettings) -> GeneratorCard:
    """What is known before. Raises ValueError for what cannot be learnt from."""
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] not in {1, 3}:
        raise ValueError(
            f"generator: want pictures uint8 [N, H, W, 1 or 3], got {pictures.dtype} "
            f"{list(pictures.shape)}"
        )
    count, height, width, colours = pictures.shape
    if not all(SIDES[0] <= side <= SIDES[1] for side in (height, width)):
        raise ValueError(
            f"generator: want sides of {SIDES[0]} to {SIDES[1]} pixels, got {height}x{width}. "
            "Bring the pictures to such a size."
        )
    if len(labels) != count:
        raise ValueError(f"generator: {count} pictures, but {len(labels)} labels")
    learnt = Counter(labels)
    if few := [f"{name} {number}" for name, number in sorted(learnt.items()) if number < 2]:
        raise ValueError(
            f"generator: want two pictures of a class or more, got {', '.join(few)}. Leave such "
            "classes out."
        )
    if count < CHECK_LEAST:
        raise ValueError(f"generator: want {CHECK_LEAST} pictures or more, got {count}")
    digest = hashlib.sha256(pictures.tobytes())
    digest.update(json.dumps(list(labels)).encode())
    return GeneratorCard(
        classes=tuple(sorted(learnt)),
        learnt=dict(sorted(learnt.items())),
        height=height,
        width=width,
        colours=1 if colours == 1 else 3,
        settings=settings,
        steps=0,
        ended="steps",
        why="",
        checks=(),
        data_hash=digest.hexdigest(),
        code_version=code_version(),
        weights_sha256="",
    )


def is_of(
    card: GeneratorCard, pictures: U8, labels: Sequence[str], settings: GeneratorSettings
) -> bool:
    """Whether a generator is what this training gives. Raises ValueError as ``train`` does."""
    wanted = _card(pictures, labels, settings)
    return (card.data_hash, card.settings) == (wanted.data_hash, wanted.settings)


CHECK_LEAST = 5  # pictures that can be compared at all


def _save(fit: AdversarialFit, checkpoint: Path | None) -> None:
    if checkpoint is None:
        return
    tensors, numbers = fit.capture()
    state = {"card": fit.card.model_dump(), "fit": numbers}
    write_folder(
        checkpoint,
        {
            STATE: json.dumps(state, indent=1, allow_nan=False).encode(),
            TENSORS: safetensors.torch.save(tensors),
        },
    )


def _resume(fit: AdversarialFit, checkpoint: Path | None) -> None:
    if checkpoint is None or not checkpoint.exists():
        return
    try:
        state = json.loads((checkpoint / STATE).read_bytes())
        tensors = safetensors.torch.load_file(checkpoint / TENSORS)
        card, numbers = GeneratorCard.model_validate(state["card"]), dict(state["fit"])
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise ValueError(
            f"{checkpoint}: no checkpoint of a training: {error}. Remove it to start anew."
        ) from error
    if card != fit.card:
        raise ValueError(
            f"{checkpoint}: a checkpoint of another training (other pictures, classes or "
            "settings). Remove it to start anew, or give the same again."
        )
    fit.restore(tensors, numbers)


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
