"""Instance norm in training on a processor: maps with channels last take another way to the same numbers."""

from __future__ import annotations

import pytest
import torch

from resvox.torch import layers
from resvox.torch.layers import InstanceNorm2d, InstanceNorm3d

LAYOUTS = {2: torch.channels_last, 3: torch.channels_last_3d}
SIZES = {2: (6, 5), 3: (3, 6, 5)}


@pytest.fixture
def calls(monkeypatch):
    """Which operations computed the norms, in order."""
    seen = []
    for name in ("batch_norm", "group_norm"):
        plain = getattr(torch, name)

        def recorded(*arguments, plain=plain, name=name):
            seen.append(name)
            return plain(*arguments)

        monkeypatch.setattr(layers.torch, name, recorded)
    return seen


def norm_and_map(dims, affine, samples, dtype=torch.float64):
    torch.manual_seed(0)
    norm = (InstanceNorm2d if dims == 2 else InstanceNorm3d)(4, affine=affine, eps=0.1).to(dtype)
    if affine:
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    return norm, torch.randn(samples, 4, *SIZES[dims], dtype=dtype) * 3 + 1


def gradients(norm, x, weights):
    norm.zero_grad()
    x = x.detach().requires_grad_()
    out = norm(x)
    (out * weights).sum().backward()
    return [out.detach(), x.grad, *(each.grad.clone() for each in norm.parameters())]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("samples", [1, 3])
def test_outputs_and_gradients_are_those_of_the_usual_way(dims, affine, samples, calls):
    norm, x = norm_and_map(dims, affine, samples)
    weights = torch.randn(x.shape, dtype=x.dtype)
    found = gradients(norm, x.to(memory_format=LAYOUTS[dims]), weights)
    assert calls == ["batch_norm"] * samples
    calls.clear()
    wanted = gradients(norm, x, weights)
    assert calls == ["group_norm"]
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
    # and those of the definition
    axes = tuple(range(2, 2 + dims))
    plain = (x - x.mean(axes, keepdim=True)) / (x.var(axes, unbiased=False, keepdim=True) + norm.eps).sqrt()
    if affine:
        column = (1, -1, *[1] * dims)
        plain = plain * norm.weight.reshape(column) + norm.bias.reshape(column)
    torch.testing.assert_close(found[0], plain.detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dims", [2, 3])
def test_predictions_and_recorded_graphs_keep_the_bits_of_the_usual_way(dims, calls):
    norm, x = norm_and_map(dims, True, 2)
    x = x.to(memory_format=LAYOUTS[dims])
    with torch.no_grad():
        norm(x)
    norm(x)  # nothing asks for a gradient of this map
    norm(x.contiguous().requires_grad_())
    torch.jit.trace(norm, x.detach().requires_grad_(), check_trace=False)
    assert set(calls) == {"group_norm"}


def test_a_map_of_one_voxel_becomes_the_bias():
    norm, _ = norm_and_map(2, True, 1)
    x = torch.randn(2, 4, 1, 1, dtype=torch.float64, requires_grad=True)
    made = norm(x)
    torch.testing.assert_close(made, norm.bias.reshape(1, -1, 1, 1).expand(2, -1, -1, -1), rtol=0, atol=1e-12)
