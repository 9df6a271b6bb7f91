"""Gradient reaches every parameter, in every row and through the shortcut without parameters."""

import pytest
import torch
from laws.checks import check_gradients
from laws.networks import RESIDUAL_ROWS, ROWS, SEGMENTATION, ids, thin

from resvox.catalog import get_blueprint
from resvox.torch import build

SIZES = {2: (72, 65), 3: (33, 36, 40)}


@pytest.mark.parametrize(("name", "dims"), ROWS)
def test_gradient_reaches_every_parameter(name, dims):
    model = thin(name, dims)
    check_gradients(model, model.blueprint, SIZES[dims])


@pytest.mark.parametrize(("name", "options"), SEGMENTATION, ids=ids)
def test_of_every_way_of_a_unet(name, options):
    model = thin(name, 2, **options)
    check_gradients(model, model.blueprint, SIZES[2])


@pytest.mark.parametrize("options", [{"shortcut": "zero_pad"}, {"norm": "instance"}, {"norm": "group"}], ids=ids)
@pytest.mark.parametrize("name", ["resnet18", "resnet50v2", "seresnet50", "resnet18vd"])
def test_with_options(name, options):
    model = thin(name, 2, **options)
    check_gradients(model, model.blueprint, SIZES[2])


@pytest.mark.laws
@pytest.mark.parametrize(("name", "dims"), RESIDUAL_ROWS)
def test_at_full_size(name, dims):
    torch.manual_seed(0)
    blueprint = get_blueprint(name, spatial_dims=dims)
    check_gradients(build(blueprint), blueprint, {2: (72, 65), 3: (36, 40, 33)}[dims])


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", ["resnet18", "resnet26", "resnet18v2", "resnet50v2"])
def test_the_zero_padded_shortcut_alone_passes_gradient(name, dims):
    """With a dead residual branch the only way back is the shortcut."""
    model = thin(name, dims, shortcut="zero_pad")
    stage = model.layer2 if hasattr(model, "layer2") else model.stages[1].blocks
    block = stage[0]
    for parameter in block.parameters():
        torch.nn.init.zeros_(parameter)
    channels = 8 * (4 if name in ("resnet26", "resnet50v2") else 1)
    x = torch.rand(1, channels, *(6,) * dims).requires_grad_()
    block(x).sum().backward()
    picked = x.grad[(..., *(slice(None, None, 2),) * dims)]
    if name.endswith("v2"):  # the shortcut takes the activated input, which zeroed norms make zero
        assert block.downsample(x).sum().item() > 0
    else:
        assert bool((picked == 1).all())
        assert int((x.grad != 0).sum()) == picked.numel()


class CutShortcut(torch.nn.Module):
    """A shortcut that forgets its gradient, as the peers' zero-padded one does."""

    def forward(self, x):
        return x.detach()


def test_a_cut_branch_is_seen():
    model = thin("resnet18", 2)
    conv = model.layer2[0].conv1
    conv.register_forward_hook(lambda module, given, out: out.detach())
    with pytest.raises(AssertionError, match=r"layer2\.0\.conv1\.weight"):
        check_gradients(model, model.blueprint, (72, 65))


def test_a_detached_shortcut_is_seen():
    model = thin("resnet18", 2)
    model.layer2[0].downsample.append(CutShortcut())
    with pytest.raises(AssertionError, match=r"layer2\.0\.downsample\.0\.weight"):
        check_gradients(model, model.blueprint, (72, 65))
