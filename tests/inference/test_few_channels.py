"""Convolutions of few channels as convolutions of blocks: the same function, over the catalog's kinds."""

from __future__ import annotations

import copy

import pytest
import torch

import resvox
from resvox.blueprint import leaves as lf
from resvox.catalog import get_blueprint, list_models
from resvox.inference.engines.few_channels import VECTOR, BlockConv, is_rewritable, with_blocks
from resvox.torch.layers import CONV

SIZES = {2: [(17, 24), (9, 7)], 3: [(9, 8, 13), (7, 12, 7)]}


def few_channel_leaves():
    """The kinds of convolutions of few channels in the catalog."""
    found = {}
    for name in list_models():
        for dims in (2, 3):
            for channels in (1, 3):
                for _, leaf in get_blueprint(name, spatial_dims=dims, in_channels=channels).network.leaves():
                    if isinstance(leaf, lf.Conv) and leaf.in_channels < VECTOR and max(leaf.kernel) > 1:
                        found[leaf.in_channels, leaf.kernel, leaf.stride, leaf.padding] = None
    return list(found)


def assert_same(conv, size):
    x = torch.randn(2, conv.in_channels, *size, dtype=torch.float64)
    expected = conv(x)
    made = BlockConv(conv)
    assert made.weight.shape[1] % VECTOR == 0
    torch.testing.assert_close(made(x), expected, rtol=0, atol=1e-12)


def test_the_catalogs_convolutions_of_few_channels_keep_their_outputs():
    torch.manual_seed(0)
    leaves = few_channel_leaves()
    assert len(leaves) >= 12
    for channels, kernel, stride, padding in leaves:
        conv = CONV[len(kernel)](channels, 5, kernel, stride=stride, padding=padding).double()
        for size in SIZES[len(kernel)]:
            assert_same(conv, size)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [((3, 3, 3), (1, 2, 2), (1, 1, 1)), ((1, 7, 5), (3, 1, 4), (0, 3, 0)), ((4, 4), (4, 4), (0, 0)), (2, 3, 1)],
)
@pytest.mark.parametrize("bias", [True, False])
def test_other_strides_and_kernels(kernel, stride, padding, bias):
    dims = len(kernel) if isinstance(kernel, tuple) else 2
    conv = CONV[dims](3, 4, kernel, stride=stride, padding=padding, bias=bias).double()
    for size in SIZES[dims]:
        assert_same(conv, size)


def test_a_networks_stem_is_rewritten_and_the_rest_left():
    torch.manual_seed(0)
    model = resvox.create_model(
        "unet", encoder_name="resnet18", spatial_dims=3, in_channels=1, num_classes=3, widths=(8, 8, 16, 16)
    )
    model = model.double().eval()
    x = torch.randn(1, 1, 32, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        expected = model(x)
        made = with_blocks(copy.deepcopy(model))
        assert sum(isinstance(part, BlockConv) for part in made.modules()) == 1
        torch.testing.assert_close(made(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"groups": 2},
        {"dilation": 2},
        {"padding": "same"},
        {"padding_mode": "reflect"},
        {"kernel_size": 1},
        {"stride": 1},
    ],
)
def test_what_is_computed_otherwise_is_not_rewritten(options):
    assert is_rewritable(torch.nn.Conv3d(2, 4, 3, stride=2))
    plain = {"kernel_size": 3, "padding": 1, "stride": 1 if options.get("padding") == "same" else 2}
    assert not is_rewritable(torch.nn.Conv3d(2, 4, **{**plain, **options}))
    assert not is_rewritable(torch.nn.Conv3d(8, 4, 3, stride=2))
