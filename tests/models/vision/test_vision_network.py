"""The residual family: folding, class activation maps, and weights from elsewhere."""

from pathlib import Path

import pytest
import safetensors.torch
import torch

from models.vision.network import Backbone, Block, Classifier, folded, load_backbone, start
from models.vision.settings import NetworkSettings

SMALL = NetworkSettings(width=4, depth=(1, 2))


def network(settings: NetworkSettings = SMALL, channels: int = 1) -> Classifier:
    made = Classifier(settings, channels, 3)
    generator = torch.Generator().manual_seed(0)
    start(made, generator)
    for buffer in made.buffers():  # as if it had seen pictures
        if buffer.is_floating_point():
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    for name, parameter in made.named_parameters():
        if ".bn" in name:
            parameter.data.copy_(torch.rand(parameter.shape, generator=generator) + 0.5)
    return made.eval()


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("stem", ["full", "half", "resnet"])
def test_a_folded_network_gives_the_same_and_has_no_batch_norm(norm: str, stem: str) -> None:
    made = network(SMALL.model_copy(update={"norm": norm, "stem": stem}))
    shown = torch.rand(2, 1, 32, 32)

    used = folded(made)

    assert torch.allclose(used(shown), made(shown), atol=1e-5)
    assert not [one for one in used.modules() if isinstance(one, torch.nn.BatchNorm2d)]
    assert [
        one for one in made.modules() if isinstance(one, torch.nn.BatchNorm2d)
    ] or norm == "group"


def test_the_logits_of_all_places_have_the_pictures_logits_as_their_mean() -> None:
    made = network()
    shown = torch.rand(2, 1, 32, 24)

    features, places = made.look(shown)

    assert features.shape == (2, 8)
    assert places.shape == (2, 3, 8, 6)
    assert torch.allclose(places.mean((2, 3)), made(shown), atol=1e-5)


def test_the_map_of_a_class_is_grad_cam_of_the_last_stage_without_its_gradients() -> None:
    """Selvaraju et al., ICCV 2017: the features, weighed by the mean gradient of the logit."""
    made, shown = network(), torch.rand(2, 1, 24, 20)

    places = made.backbone(shown)[-1].detach().requires_grad_()
    logit = torch.nn.functional.linear(places.mean((2, 3)), made.head.weight, made.head.bias)[:, 1]
    (gradient,) = torch.autograd.grad(logit.sum(), places)
    grad_cam = (gradient.mean((2, 3), keepdim=True) * places).sum(1)
    _, evidence = made.look(shown)

    count = places.shape[2] * places.shape[3]
    bias = made.head.bias[1]
    assert torch.allclose(grad_cam * count, evidence[:, 1] - bias, atol=1e-4)


def test_a_short_cut_of_eight_channels_learns_with_channels_last() -> None:
    """A 1x1 convolution of stride 2 wrote past its memory there."""
    block = Block(8, 16, stride=2, norm="batch").to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    given = torch.rand(8, 8, 128, 128).contiguous(memory_format=torch.channels_last)
    before = torch.nn.functional.conv2d(given, block.downsample[0].weight, stride=2)

    for _ in range(6):
        block(given.requires_grad_()).square().mean().backward()

    assert torch.allclose(block.downsample[0](given[:, :, ::2, ::2]), before, atol=1e-5)
    assert given.grad is not None
    assert bool(given.grad.isfinite().all())


def test_a_stage_halves_the_picture_and_doubles_the_channels() -> None:
    stages = network(NetworkSettings(width=4, depth=(1, 1, 1), stem="full")).backbone(
        torch.rand(1, 1, 16, 16)
    )

    assert [tuple(one.shape[1:]) for one in stages] == [(4, 16, 16), (8, 8, 8), (16, 4, 4)]


def test_the_largest_stem_has_the_names_and_shapes_of_a_resnet18() -> None:
    own = Backbone(NetworkSettings(width=64, depth=(2, 2, 2, 2), stem="resnet"), 3).state_dict()

    assert own["conv1.weight"].shape == (64, 3, 7, 7)
    assert own["layer2.0.downsample.0.weight"].shape == (128, 64, 1, 1)
    assert own["layer4.1.bn2.running_var"].shape == (512,)
    assert "layer1.0.downsample.0.weight" not in own
    assert len(own) == 120  # tensors of a resnet18 without its last layer


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_backbone_takes_weights_from_a_file(tmp_path: Path, suffix: str) -> None:
    given = network().backbone.state_dict()
    path = tmp_path / f"weights{suffix}"
    other_head = {"fc.weight": torch.zeros(10, 8)}
    if suffix == ".pt":
        torch.save({**given, **other_head}, path)
    else:
        safetensors.torch.save_file({**given, **other_head}, path)
    fresh = Backbone(SMALL, 1)

    load_backbone(fresh, path)

    assert all(torch.equal(x, given[name]) for name, x in fresh.state_dict().items())


def test_weights_of_another_shape_are_refused_by_name_with_both_shapes(tmp_path: Path) -> None:
    path = tmp_path / "wide.safetensors"
    safetensors.torch.save_file(Backbone(SMALL, 3).state_dict(), path)

    with pytest.raises(
        ValueError, match=r"conv1.weight: want \[4, 1, 3, 3\], got \[4, 3, 3, 3\]"
    ) as told:
        load_backbone(Backbone(SMALL, 1), path)
    assert "channels of the pictures" in str(told.value)


def test_weights_that_lack_a_stage_or_are_none_are_refused(tmp_path: Path) -> None:
    shallow = tmp_path / "shallow.safetensors"
    safetensors.torch.save_file(
        Backbone(NetworkSettings(width=4, depth=(1,)), 1).state_dict(), shallow
    )
    text = tmp_path / "notes.safetensors"
    text.write_text("no weights", encoding="utf-8")
    pickled = tmp_path / "code.pt"
    torch.save({"conv1.weight": Path("a class")}, pickled)

    with pytest.raises(ValueError, match=r"layer2.0.conv1.weight is missing; .* and \d+ more"):
        load_backbone(Backbone(SMALL, 1), shallow)
    for path in (text, pickled, tmp_path / "absent.pt"):
        with pytest.raises(ValueError, match="cannot be read as weights"):
            load_backbone(Backbone(SMALL, 1), path)
