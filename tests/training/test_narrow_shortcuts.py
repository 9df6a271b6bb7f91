"""Narrow convolutions of 1x1 pixels with a stride, which are computed in another form in training."""

from __future__ import annotations

import copy

import pytest
import torch

import resvox
from resvox.training.optimization.narrow_shortcuts import SlicedConv2d, slice_narrow_shortcuts


@pytest.mark.parametrize(("width", "dims", "expected"), [(4, 2, 3), (8, 2, 0), (4, 3, 0)])
def test_those_of_fewer_than_8_channels_are_sliced(width, dims, expected):
    network = resvox.create_model("resnet10", spatial_dims=dims, in_channels=1, num_classes=2, widths=(width,) * 4)
    slice_narrow_shortcuts(network)
    assert sum(isinstance(part, SlicedConv2d) for part in network.modules()) == expected


def test_output_and_gradients_are_those_of_the_convolution():
    torch.manual_seed(0)
    plain = torch.nn.Conv2d(3, 5, 1, stride=(2, 3), bias=True)
    sliced = copy.deepcopy(plain)
    slice_narrow_shortcuts(sliced)
    assert isinstance(sliced, SlicedConv2d)
    image = torch.randn(2, 3, 7, 9)
    found = []
    for convolution in (plain, sliced):
        given = image.clone().requires_grad_()
        output = convolution(given)
        output.square().sum().backward()
        found.append([output, given.grad, convolution.weight.grad, convolution.bias.grad])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)
