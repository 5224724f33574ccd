"""One family of small residual networks (He et al., CVPR 2016): a backbone, and a head for classes.

The backbone's tensors have the names that torchvision gives those of its ResNets, so that weights
from elsewhere may be a start: width 64, depth (2, 2, 2, 2) and stem resnet is their resnet18. The
head is linear on the mean of the last features, and so says by itself where in the picture its
evidence lies (class activation maps: Zhou et al., CVPR 2016): the logits of each place are the
head's output for that place alone, and their mean is what the whole picture gets.
"""

import copy
import math
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.contract import under
from models.fitting import Dropout
from models.vision.settings import NetworkSettings

# N pictures, C channels, H W height and width, F features, h w of the last stage, K classes

M = TypeVar("M", bound=nn.Module)

NETWORK = "network."  # what the names of its tensors begin with, in a bundle
BACKBONE = f"{NETWORK}backbone."
GROUPS = 4  # of a group norm, each of width / 4 channels and more
OTHERS_HEAD = "fc."  # what torchvision calls the layer that is not ours to take


def norm_of(channels: int, kind: str) -> nn.Module:
    """A norm of this kind, batch or group."""
    return nn.BatchNorm2d(channels) if kind == "batch" else nn.GroupNorm(GROUPS, channels)


class Block(nn.Module):
    """Two 3x3 convolutions beside a short cut."""

    def __init__(self, before: int, after: int, *, stride: int, norm: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.bn1 = norm_of(after, norm)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = norm_of(after, norm)
        self.downsample, self.stride = None, stride
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, after, 1, bias=False), norm_of(after, norm)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[N, before, H, W] to [N, after, H / stride, W / stride]."""
        short = x
        if self.downsample is not None:  # as a 1x1 convolution of this stride, which torch 2.13
            # on a CPU writes past its memory in learning, of 8 channels with channels last
            short = self.downsample(x[:, :, :: self.stride, :: self.stride])
        x = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(x)) + short)


class Backbone(nn.Module):
    """Pictures to features."""

    def __init__(self, settings: NetworkSettings, channels: int) -> None:
        super().__init__()
        width, norm = settings.width, settings.norm
        kernel = 7 if settings.stem == "resnet" else 3
        stride = 1 if settings.stem == "full" else 2
        self.conv1 = nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=False)
        self.bn1 = norm_of(width, norm)
        self.pooled = settings.stem == "resnet"
        self.stride = stride * (2 if self.pooled else 1)  # of the first stage
        self.stages = []
        before = width
        for number, blocks in enumerate(settings.depth, start=1):
            after = width << (number - 1)
            stage = nn.Sequential(
                Block(before, after, stride=1 if number == 1 else 2, norm=norm),
                *(Block(after, after, stride=1, norm=norm) for _ in range(blocks - 1)),
            )
            self.add_module(f"layer{number}", stage)
            self.stages.append(f"layer{number}")
            before = after
        self.features = before

    def forward(self, x: Tensor) -> list[Tensor]:
        """[N, C, H, W] to what each stage makes of it, the finest first."""
        x = functional.relu(self.bn1(self.conv1(x)))
        if self.pooled:
            x = functional.max_pool2d(x, 3, 2, padding=1)
        found = []
        for name in self.stages:
            x = getattr(self, name)(x)
            found.append(x)
        return found


class Classifier(nn.Module):
    """A backbone, and the logits of each class."""

    def __init__(self, settings: NetworkSettings, channels: int, classes: int) -> None:
        super().__init__()
        self.backbone = Backbone(settings, channels)
        self.hidden = Dropout()
        self.head = nn.Linear(self.backbone.features, classes)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to logits [N, K]: for training."""
        features_NF = self.backbone(x)[-1].mean((2, 3))
        logits: Tensor = self.head(self.hidden(features_NF[None])[0])
        return logits

    def look(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, C, H, W] to features [N, F] and the logits of each place [N, K, h, w].

        The mean of a class's logits over all places is its logit.
        """
        places = self.backbone(x)[-1]
        return places.mean((2, 3)), functional.conv2d(
            places, self.head.weight[:, :, None, None], self.head.bias
        )


def start(network: nn.Module, generator: torch.Generator) -> None:
    """First weights, drawn: as large as keeps the size of what passes (He et al., ICCV 2015).

    The last norm of each block starts at 0, so that a block begins as its short cut (Goyal et al.,
    2017).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan = module.weight[0].numel()
            nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan), generator=generator)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(
                module.weight, 0.0, 1.0 / math.sqrt(module.in_features), generator=generator
            )
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, Block):
            nn.init.zeros_(module.bn2.weight)  # type: ignore[arg-type]  # a norm's is a Tensor


def folded(network: M) -> M:
    """A copy for inference, with each batch norm folded into the convolution before it."""
    network = copy.deepcopy(network).eval()
    for module in [*network.modules()]:
        pairs = [("conv1", "bn1"), ("conv2", "bn2")]
        if isinstance(module, nn.Sequential):
            pairs = [("0", "1")]
        for conv_name, norm_name in pairs:
            conv, norm = getattr(module, conv_name, None), getattr(module, norm_name, None)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(module, norm_name, nn.Identity())
    for parameter in network.parameters():
        parameter.requires_grad_(False)  # noqa: FBT003 (torch's own signature)
    return network


def load_backbone(backbone: Backbone, path: Path) -> None:
    """Take weights from a file: .safetensors, or what torch.save wrote, without its code.

    A bundle's weights will do, too. Raises ValueError where the file is none of these, or lacks a
    tensor of this backbone, or has one of another shape.
    """
    given = _read(path)
    given = under(BACKBONE, given) or {
        name: tensor for name, tensor in given.items() if not name.startswith(OTHERS_HEAD)
    }
    own = backbone.state_dict()
    counters = {name for name in own if name.endswith("num_batches_tracked")}
    wrong = [f"{name} is missing" for name in own if name not in given and name not in counters]
    wrong += [f"{name} is not one of the backbone's" for name in given if name not in own]
    wrong += [
        f"{name}: want {list(own[name].shape)}, got {list(given[name].shape)}"
        for name in own
        if name in given and own[name].shape != given[name].shape
    ]
    if wrong:
        more = f", and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ValueError(
            f"{path}: not the weights of this backbone: {'; '.join(wrong[:5])}{more}. Set width, "
            "depth, stem, norm and the channels of the pictures as they were for these weights."
        )
    backbone.load_state_dict({**{name: own[name] for name in counters}, **given})


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        given = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, safetensors.SafetensorError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: cannot be read as weights: {first}") from error
    if not isinstance(given, dict) or not all(isinstance(one, Tensor) for one in given.values()):
        raise ValueError(f"{path}: no weights: want a mapping of names to tensors")
    return given
