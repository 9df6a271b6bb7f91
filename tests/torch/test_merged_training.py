"""Upsampling and the convolution after it, merged in training: the same outputs and gradients as the plain form."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

import resvox
import resvox.torch.unet as decoder

SMALL = {"encoder_name": "resnet10", "encoder_depth": 3, "decoder_filters": (6, 5, 4), "num_classes": 2}
NETWORKS = ("unet", "attention_unet", "unet_plus_plus")
SIZES = {2: (16, 24), 3: (8, 16, 8)}


@pytest.fixture
def merged(monkeypatch):
    """Weights whose kernels were merged, in order."""
    seen = []
    plain = decoder.merged_kernel

    def record(weight):
        seen.append(tuple(weight.shape))
        return plain(weight)

    monkeypatch.setattr(decoder, "merged_kernel", record)
    monkeypatch.setattr(decoder, "LEAST_MERGED_VOXELS", 1)
    return seen


def made(name, dims, **options):
    torch.manual_seed(0)
    model = resvox.create_model(name, spatial_dims=dims, in_channels=1, **{**SMALL, **options}).train()
    return model, torch.randn(2, 1, *SIZES[dims])


def step(model, image):
    """Logits, and the gradients of the image and of every parameter."""
    model.zero_grad()
    image = image.detach().clone().requires_grad_()
    logits = model(image)
    logits.square().mean().backward()
    return [logits.detach(), image.grad, *(each.grad.clone() for each in model.parameters() if each.grad is not None)]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_and_gradients_are_those_of_the_plain_form(name, dims, merged, monkeypatch):
    model, image = made(name, dims)
    model, image = model.double(), image.double()
    found = step(model, image)
    assert len(merged) > 0
    count = len(merged)
    monkeypatch.setattr(decoder, "LEAST_MERGED_VOXELS", 10**9)
    wanted = step(model, image)
    assert len(merged) == count
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dims", [2, 3])
def test_in_float32_gradients_are_within_1e_5(dims, merged, monkeypatch):
    model, image = made("unet", dims)
    found = step(model, image)
    assert len(merged) > 0
    monkeypatch.setattr(decoder, "LEAST_MERGED_VOXELS", 10**9)
    for one, other in zip(found, step(model, image), strict=True):
        # of the largest gradient of the tensor: the sums are the same, in another order
        assert float((one - other).abs().max()) <= 1e-5 * float(other.abs().max()) + 1e-12


def test_not_in_evaluation_nor_where_maps_are_cropped_nor_for_other_upsampling(merged):
    model, image = made("unet", 2)
    model.eval()(image)
    made("unet", 2, decoder_interpolation="linear")[0](image)
    made("unet", 2, decoder_block_type="transpose")[0](image)
    assert merged == []
    last = tuple(model.decoder.blocks[-1].conv1.weight.shape)
    model.train()(image[..., :-1])  # the last block enlarges 12 columns to 24 and crops them to 23
    assert last not in merged
    model(image)
    assert last in merged


def hooked(conv: nn.Module, model: nn.Module) -> None:
    conv.register_forward_hook(lambda *_: None)


def hooked_backward(conv: nn.Module, model: nn.Module) -> None:
    conv.register_full_backward_hook(lambda *_: None)


def normed(conv: nn.Module, model: nn.Module) -> None:
    nn.utils.parametrizations.weight_norm(conv)
    assert parametrize.is_parametrized(conv)


def replaced(conv: nn.Module, model: nn.Module) -> None:
    class Doubled(nn.Conv2d):
        def forward(self, x):
            return 2 * super().forward(x)

    conv.__class__ = Doubled


def hooked_upsampling(conv: nn.Module, model: nn.Module) -> None:
    model.decoder.blocks[-1].up.register_forward_pre_hook(lambda *_: None)


@pytest.mark.parametrize("change", [hooked, hooked_backward, normed, replaced, hooked_upsampling])
def test_layers_that_others_watch_or_change_are_called(change, merged):
    model, image = made("unet", 2)
    change(model.decoder.blocks[-1].conv1, model)
    model(image)
    last = tuple(model.decoder.blocks[-1].conv1.weight.shape)
    assert merged
    assert last not in merged


def test_small_maps_keep_the_plain_form(merged, monkeypatch):
    monkeypatch.setattr(decoder, "LEAST_MERGED_VOXELS", 2 * 8 * 12)
    model, image = made("unet", 2)
    model(image)
    assert [shape[0] for shape in merged] == [4]  # the block from half to full size alone


def test_a_global_hook_sees_every_layer(merged):
    model, image = made("unet", 2)
    seen = []
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(module))
    try:
        model(image)
    finally:
        handle.remove()
    assert merged == []
    assert model.decoder.blocks[-1].conv1 in seen


def test_scripted_traced_and_symbolic_graphs_keep_the_plain_form(merged):
    model, image = made("unet", 2)
    torch.jit.script(model)(image)
    torch.jit.trace(model, image, check_trace=False)
    torch.fx.symbolic_trace(model)(image)
    assert merged == []


def test_autocast_in_bfloat16_stays_near_the_plain_form(merged, monkeypatch):
    model, image = made("unet", 3, norm="instance")
    with torch.autocast("cpu", torch.bfloat16):
        found = model(image)
        assert len(merged) > 0
        monkeypatch.setattr(decoder, "LEAST_MERGED_VOXELS", 10**9)
        wanted = model(image)
    exact = model(image).detach()
    # rounding to 8 bits in both; the merged sums are rounded once less
    error, usual = (float((each.float() - exact).abs().mean()) for each in (found.detach(), wanted.detach()))
    assert error <= 1.5 * usual + 1e-6


@pytest.mark.parametrize(
    ("device", "dtype", "expected"),
    [
        ("cpu", torch.float32, True),
        ("cpu", torch.bfloat16, True),
        ("cuda", torch.float32, False),
        ("cuda", torch.bfloat16, True),
        ("mps", torch.float16, False),
    ],
)
def test_a_card_merges_in_half_precision_only(device, dtype, expected):
    assert decoder.merges_on(device, dtype) == expected


def test_autocast_decides_over_the_type_of_the_map(monkeypatch):
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: device == "cuda")
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda device: torch.bfloat16)
    assert decoder.merges_on("cuda", torch.float32)
