"""Instance norm in training with channels last: the numbers of `torch.group_norm`, by operations that are faster."""

import pytest
import torch

import resvox
from resvox.torch.layers import InstanceNorm2d, InstanceNorm3d

LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}


def passed(norm, x, gradient):
    """Output and gradients of the input, the weight and the bias."""
    for each in norm.parameters():
        each.grad = None
    given = x.detach().requires_grad_(True)
    made = norm(given)
    made.backward(gradient)
    return made.detach(), given.grad, norm.weight.grad, norm.bias.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [(3, 5, 7, 6), (1, 4, 3, 5), (2, 6, 5, 4, 3), (2, 3, 1, 1, 2)])
def test_numbers_and_layout(size, dtype, monkeypatch):
    torch.manual_seed(0)
    norm = (InstanceNorm2d if len(size) == 4 else InstanceNorm3d)(size[1], affine=True)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x, gradient = (torch.randn(size).to(dtype) for _ in range(2))
    expected = passed(norm, x, gradient)
    last = LAYOUTS[len(size)]
    x, gradient = (each.contiguous(memory_format=last) for each in (x, gradient))
    monkeypatch.setattr(torch, "group_norm", None)  # its gradient is what takes long
    found = passed(norm, x, gradient)
    assert found[0].is_contiguous(memory_format=last)
    tolerance = 1e-4 if dtype == torch.float32 else 2e-2
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_predictions_keep_their_bits():
    norm, x = (
        InstanceNorm3d(6, affine=True),
        torch.randn(2, 6, 5, 4, 3).contiguous(memory_format=torch.channels_last_3d),
    )
    with torch.inference_mode():
        assert torch.equal(norm(x), torch.group_norm(x, 6, norm.weight, norm.bias, norm.eps))


def test_a_map_of_one_voxel_becomes_the_bias():
    norm = InstanceNorm3d(4, affine=True)
    torch.nn.init.normal_(norm.bias)
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        x = torch.randn(2, 4, 1, 1, 1).contiguous(memory_format=layout).requires_grad_(True)
        torch.testing.assert_close(norm(x)[:, :, 0, 0, 0], norm.bias.expand(2, 4), rtol=0, atol=1e-4)


def test_recorded_graphs_are_those_of_any_layout():
    model = resvox.create_model(
        "resenc_unet", spatial_dims=2, in_channels=1, num_classes=2, features=(4, 6), strides=(1, 2), depths=(1, 1),
        decoder_depths=(1,),
    ).eval().to(memory_format=torch.channels_last)  # fmt: skip
    x = torch.randn(2, 1, 8, 8).contiguous(memory_format=torch.channels_last)
    expected = model(x)
    recorded = {
        "script": torch.jit.script(model),
        "trace": torch.jit.trace(model, x),
        "fx": torch.fx.symbolic_trace(model),
        "export": torch.export.export(model, (x,)).module(),
    }
    for name, graph in recorded.items():
        torch.testing.assert_close(graph(x), expected, rtol=1e-4, atol=1e-5, msg=name)
    assert "aten::group_norm" in str(recorded["trace"].inlined_graph)
