"""Keras peers' names without Keras: every change of a file is refused or seen, and so is every change of the model."""

import numpy as np
import pytest
import torch

import resvox
from resvox.errors import WeightsError
from resvox.weights.sources import read_source

THIN = {"widths": (8, 8, 16, 16), "stem_width": 64, "depths": (2, 1, 2, 1), "num_classes": 3}
NORM = ("batch", {"eps": 1.001e-5, "momentum": 0.01})
V1 = {"stride_on": "conv1", "conv_bias": ("stem", "conv1", "conv2", "conv3", "downsample"), "norm": NORM}
V2 = {"stride_block": "last", "pool_padding": "zeros", "conv_bias": ("stem", "conv3", "downsample"), "norm": NORM}
CASES = {
    "applications v1": ("keras.applications", "resnet50", V1, [{**V1, "stride_on": "conv2"}, {**V1, "norm": "batch"}]),
    "applications v2": ("keras.applications", "resnet50v2", V2,
                        [{**V2, "stride_block": "first"}, {**V2, "pool_padding": "minus_infinity"}]),
    "medicai v1": ("medicai", "resnet18", {}, [{"norm": NORM}, {"strides": (1, 2, 2, 2, 2)}]),
    "medicai v1 3d": ("medicai", "resnet50", {"spatial_dims": 3}, [{"spatial_dims": 3, "stride_on": "conv1"}]),
    "medicai se": ("medicai", "seresnet50", {"se_placement": "before_norm", "se_rounding": "floor"},
                   [{"se_placement": "after_norm", "se_rounding": "floor"}]),
    "medicai vd": ("medicai", "resnet50vd", {}, [{"norm": NORM}]),
    "medicai v2": ("medicai", "resnet50v2", {}, [{"pool_padding": "zeros"}, {"stride_block": "last"}]),
    "medicai unet": ("medicai", "unet",
                     {"encoder_name": "resnet18", "decoder_normalization": ("batch", {"eps": 1e-3, "momentum": 0.01}),
                      "decoder_filters": (8, 8, 8, 8, 4)},
                     [{"encoder_name": "resnet18", "decoder_filters": (8, 8, 8, 8, 4)}]),
}  # fmt: skip


@pytest.fixture(params=CASES)
def case(request, tmp_path):
    """A model, the peer's file of it as arrays, and models that compute something else with the same tensors."""
    peer, name, options, others = CASES[request.param]
    torch.manual_seed(0)
    made = {**THIN, **options}
    model = resvox.create_model(name, **made)
    for key, value in model.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif value.is_floating_point() and value.ndim == 1:
            value.normal_(0.5, 0.2)
    path = resvox.export_weights(model.eval(), tmp_path / "weights.npz", peer=peer)
    return model, read_source(path).tensors, name, [{**THIN, **other} for other in others]


def answer(model):
    size = (17, 33, 20) if model.blueprint.spatial_dims == 3 else (65, 40)
    with torch.no_grad():
        return model(torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0)))


def test_the_file_says_what_the_network_is(case):
    model, arrays, _, _ = case
    again = resvox.create_model_from(arrays)
    assert again.blueprint.network == model.blueprint.network
    assert torch.equal(answer(again), answer(model))


def test_a_model_that_computes_something_else_is_refused(case):
    _, arrays, name, others = case
    for other in others:
        with pytest.raises(WeightsError, match="computes something else"):
            resvox.load_weights(resvox.create_model(name, **other), arrays)


def test_every_change_of_the_file_is_refused_or_seen(case):
    model, arrays, _, _ = case
    kernels = [name for name in arrays if name.endswith("/kernel") and arrays[name].ndim > 3]
    gone = kernels[len(kernels) // 2]
    with pytest.raises(WeightsError, match=f"missing: {gone}"):
        resvox.load_weights(model, {name: value for name, value in arrays.items() if name != gone})
    with pytest.raises(WeightsError, match=r"unknown: .*extra"):
        resvox.load_weights(model, {**arrays, "extra/kernel": arrays[gone]})
    with pytest.raises(WeightsError, match="misshapen: "):
        resvox.load_weights(model, {**arrays, gone: np.concatenate([arrays[gone]] * 2, axis=-1)})
    a, b = next((a, b) for a in kernels for b in kernels if a < b and arrays[a].shape == arrays[b].shape)
    swapped = resvox.create_model_from({**arrays, a: arrays[b], b: arrays[a]})
    difference = (answer(swapped) - answer(model)).abs().max() / answer(model).abs().max()
    assert difference > 1e-4
