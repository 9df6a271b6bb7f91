"""The same function in fewer operations: equal to the network as it is, over the catalog's kinds of blocks."""

from __future__ import annotations

import copy

import pytest
import torch

import resvox
from resvox.inference.engines.folding import MergedDecoderBlock, folded, in_precision

THIN = {"widths": (8, 8, 16, 16), "stem_width": 8}
NETWORKS = {
    "unet 3D": ("unet", {"encoder_name": "resnet18", "spatial_dims": 3, "num_classes": 3, **THIN}),
    "unet 2D": ("unet", {"encoder_name": "resnet50", "spatial_dims": 2, "num_classes": 2, **THIN}),
    "unet vd": ("unet", {"encoder_name": "resnet18vd", "spatial_dims": 3, "num_classes": 2, **THIN}),
    "unet pre-activated": ("unet", {"encoder_name": "resnet18v2", "spatial_dims": 3, "num_classes": 2, **THIN}),
    "unet instance": ("unet", {"encoder_name": "resnet18", "norm": "instance", "num_classes": 2, **THIN}),
    "unet excited": ("unet", {"encoder_name": "seresnet50", "spatial_dims": 2, "num_classes": 2, **THIN}),
    "attention unet": ("attention_unet", {"encoder_name": "resnet18", "num_classes": 2, **THIN}),
    "unet++": ("unet++", {"encoder_name": "resnet18", "num_classes": 2, **THIN}),
    "classifier": ("resnet50", {"spatial_dims": 3, "num_classes": 4, **THIN}),
    "dense": ("resnet18_3d", {"spatial_dims": 3, "num_classes": 2, "widths": (4, 4, 8, 8)}),
}


def trained(name, **options):
    """As if trained: norms whose statistics and weights are not those of the beginning."""
    torch.manual_seed(0)
    model = resvox.create_model(name, in_channels=1, **options).eval()
    for part in model.modules():
        if isinstance(part, (torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)):
            part.running_mean.normal_(0, 0.2)
            part.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(part.weight, 0.5, 1.5)
            torch.nn.init.normal_(part.bias, 0, 0.2)
    return model


def norms_of(model):
    return sum(isinstance(part, (torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)) for part in model.modules())


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("side", [32, 27])
def test_the_answer_is_that_of_the_network_as_it_is(kind, side):
    name, options = NETWORKS[kind]
    model = trained(name, **options)
    before = copy.deepcopy(model.state_dict())
    size = (side,) * options.get("spatial_dims", 2)
    x = torch.randn(1, 1, *size)
    with torch.inference_mode():
        expected, made = model(x), folded(model, roi_size=size)(x)
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=2e-4)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("kind", "left"),
    # a pre-activated block's first norm has no convolution of its own before it
    [("unet 3D", 0), ("unet 2D", 0), ("unet vd", 0), ("classifier", 0), ("unet excited", 0), ("unet pre-activated", 8)],
)
def test_every_batch_norm_that_follows_a_convolution_is_gone(kind, left):
    name, options = NETWORKS[kind]
    model = trained(name, **options)
    assert norms_of(model) > 10
    assert norms_of(folded(model)) == left


def test_enlarging_is_merged_only_where_the_window_divides():
    name, options = NETWORKS["unet 3D"]
    model = trained(name, **options)

    def merged(size):
        return [isinstance(block, MergedDecoderBlock) for block in folded(model, roi_size=size).decoder.blocks]

    assert merged((32, 64, 96)) == [False, True, True, True, True]
    assert not any(merged((32, 64, 80)))
    assert not any(isinstance(block, MergedDecoderBlock) for block in folded(model).decoder.blocks)


def test_a_norm_behind_squeeze_and_excitation_stays():
    model = trained("unet", encoder_name="seresnet18", num_classes=2, se_placement="before_norm", **THIN)
    x = torch.randn(1, 1, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(folded(model)(x), model(x), rtol=1e-4, atol=2e-4)
    assert 0 < norms_of(folded(model)) < norms_of(model)


def test_statistics_stay_in_float32_where_weights_go_to_bfloat16():
    name, options = NETWORKS["unet pre-activated"]
    made = in_precision(folded(trained(name, **options)), torch.bfloat16)
    assert made.head.weight.dtype == torch.bfloat16
    norms = [part for part in made.modules() if isinstance(part, torch.nn.BatchNorm3d)]
    assert {part.running_mean.dtype for part in norms} == {torch.float32}
    with torch.inference_mode():
        assert made(torch.randn(1, 1, 32, 32, 32).bfloat16()).dtype == torch.bfloat16
