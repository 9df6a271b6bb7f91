"""The torch engine never takes PyTorch's slow convolutions, whatever the window."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from laws.networks import thin_options
from torch.profiler import ProfilerActivity, profile

import resvox
from resvox.catalog.segmenters import SEGMENTERS
from resvox.inference import TorchEngine
from resvox.inference.engines.direct_convolution import with_direct_convolutions

SLOW = {"aten::slow_conv3d", "aten::slow_conv3d_forward", "aten::slow_conv_dilated3d"}
WINDOW = (16, 32, 32)


def slow_operations(engine, window):
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        output = engine(window)
    return output, SLOW & {each.key for each in seen.key_averages()}


@pytest.mark.parametrize("name", sorted(SEGMENTERS))
def test_no_segmenter_of_the_catalog_takes_a_slow_convolution(name):
    torch.manual_seed(0)
    network = resvox.create_model(name, spatial_dims=3, in_channels=1, **thin_options(name)).eval()
    window = np.random.default_rng(0).normal(size=(1, 1, *WINDOW)).astype(np.float32)
    plain, slow = slow_operations(TorchEngine(network, device="cpu"), window)
    assert slow  # the module as it is does
    made, slow = slow_operations(TorchEngine(network, device="cpu", precision="float32", roi_size=WINDOW), window)
    assert slow == set()
    np.testing.assert_allclose(made, plain, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"dilation": 2, "padding": 2}, {"groups": 2}, {"bias": False}])
@pytest.mark.parametrize("kernel", [1, 3])
def test_a_direct_convolution_gives_the_same_numbers(kernel, options):
    torch.manual_seed(0)
    conv = torch.nn.Conv3d(4, 6, kernel, **{"padding": kernel // 2, **options})
    image = torch.randn(1, 4, 7, 8, 9)
    with torch.inference_mode():
        expected = conv(image)
        (direct,) = with_direct_convolutions(torch.nn.Sequential(conv))
        torch.testing.assert_close(direct(image), expected, rtol=1e-5, atol=1e-5)


def test_convolutions_that_pad_by_other_rules_are_left_alone():
    convs = [torch.nn.Conv3d(1, 1, 3, padding="same"), torch.nn.Conv3d(1, 1, 3, padding=1, padding_mode="reflect")]
    with_direct_convolutions(torch.nn.Sequential(*convs))
    assert [type(each) for each in convs] == [torch.nn.Conv3d] * 2
