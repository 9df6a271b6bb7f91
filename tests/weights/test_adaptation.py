"""Weights in a model of another shape: the laws that each change keeps."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import resvox
from resvox.catalog import VARIANTS
from resvox.errors import WeightsError
from resvox.weights.adaptation import change_channels

SMALL = {"widths": (8, 12, 16, 20), "stem_width": 8, "depths": (1, 1, 1, 1), "in_channels": 2, "num_classes": 3}
# nothing strides along the new axis but what is told, so that a middle slice is away from the borders
FLAT_STRIDES = tuple((1, 2, 2) for _ in range(5))


def twins(name, rule, axis=0, strides=None, **options):
    """A flat network with drawn weights, and the deep one that took them."""
    torch.manual_seed(0)
    flat = resvox.create_model(name, **{**SMALL, **options})
    for key, value in flat.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif key.endswith("running_mean") or (key.endswith("bias") and value.is_floating_point()):
            value.normal_(0, 0.1)
    deep = resvox.create_model(name, spatial_dims=3, **({"strides": strides} if strides else {}),
                               **{**SMALL, **options})  # fmt: skip
    report = resvox.load_weights(deep, flat.state_dict(), peer="resvox", inflate=rule, inflate_axis=axis)
    assert len(report.used) == len(flat.blueprint.tensors())
    return flat.eval(), deep.eval(), report


def slices_differ(flat, deep, axis, depth, *, every):
    """The largest difference of the deep maps' slices from the flat maps, relative, level by level."""
    x = torch.randn(1, 2, 33, 38, generator=torch.Generator().manual_seed(1))
    volume = x.unsqueeze(2 + axis).repeat_interleave(depth, dim=2 + axis)
    largest = 0.0
    with torch.no_grad():
        for a, b in zip(flat.forward_pyramid(x), deep.forward_pyramid(volume), strict=True):
            size = b.shape[2 + axis]
            places = range(size) if every else [size // 2]
            for place in places:
                taken = b.select(2 + axis, place)
                assert taken.shape == a.shape
                largest = max(largest, float((taken - a).abs().max() / a.abs().max()))
    return largest


@pytest.mark.parametrize("name", [row.name for row in VARIANTS])
def test_inflated_at_the_centre_every_slice_is_the_flat_network(name):
    """One tap along the new axis meets every voxel once, borders too, whatever strides along it."""
    options = {"groups": 2, "width_per_group": 64} if "next" in name else {}
    flat, deep, report = twins(name, "centre", **options)
    assert slices_differ(flat, deep, 0, 5, every=True) < 1e-4
    assert "inflated along axis 0, centre" in set(report.adapted.values())


@pytest.mark.parametrize("name", [row.name for row in VARIANTS if row.se_ratio is None])
def test_averaged_the_slices_away_from_the_borders_are_the_flat_network(name):
    """A gate looks at the whole map, so nets with gates feel the borders everywhere; the others do not."""
    options = {"groups": 2, "width_per_group": 64} if "next" in name else {}
    flat, deep, _ = twins(name, "average", strides=FLAT_STRIDES, **options)
    assert slices_differ(flat, deep, 0, 41, every=False) < 1e-4
    # the failing twin: beside the border the zeros around the volume are felt
    assert slices_differ(flat, deep, 0, 3, every=True) > 1e-3


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("rule", ["centre", "average"])
def test_any_axis_may_be_the_new_one(axis, rule):
    strides = tuple(tuple(1 if index == axis else 2 for index in range(3)) for _ in range(5))
    flat, deep, report = twins("resnet18", rule, axis, strides)
    assert slices_differ(flat, deep, axis, 41, every=False) < 1e-4
    assert f"inflated along axis {axis}, {rule}" in set(report.adapted.values())


def test_flat_kernels_of_the_model_stay_flat():
    flat, deep, _ = twins("resnet18", "average")
    thin = resvox.create_model("resnet18", spatial_dims=3, stem_kernel=(1, 7, 7), **SMALL)
    resvox.load_weights(thin, flat.state_dict(), peer="resvox", inflate="average")
    assert torch.equal(thin.conv1.weight[:, :, 0], flat.conv1.weight)
    assert torch.allclose(deep.conv1.weight.sum(2), flat.conv1.weight, atol=1e-6)
    assert torch.equal(deep.conv1.weight[:, :, 0], deep.conv1.weight[:, :, 6])


@pytest.mark.parametrize("options", [{"decoder_block_type": "transpose"}, {"decoder_interpolation": "linear"},
                                     {"decoder_block_type": "transpose", "decoder_transpose_kernel": 2}])  # fmt: skip
def test_a_whole_segmentation_model_is_inflated(tmp_path, options):
    torch.manual_seed(0)
    made = {"encoder_name": "resnet18", "decoder_filters": (8, 8, 8, 8, 4), **SMALL, **options}
    flat = resvox.create_model("unet", **made).eval()
    path = resvox.save_model(flat, tmp_path / "flat.safetensors")
    deep = resvox.create_model("unet", spatial_dims=3, **made).eval()
    resvox.load_weights(deep, path, inflate="centre")
    x = torch.randn(1, 2, 33, 38)
    with torch.no_grad():
        y, z = flat(x), deep(x[:, :, None].repeat_interleave(9, dim=2))
    assert float((z - y[:, :, None]).abs().max() / y.abs().max()) < 1e-4


def test_the_file_remembers_how_it_was_inflated(tmp_path):
    _, deep, _ = twins("resnet18", "average", 2)
    path = resvox.save_model(deep, tmp_path / "deep.safetensors", metadata={"labels": {"a": 1}})
    kept = resvox.weights.read_header(path).metadata
    assert kept["labels"] == {"a": 1}
    assert (kept["weights_from"]["inflate"], kept["weights_from"]["inflate_axis"]) == ("average", 2)
    again = resvox.save_model(resvox.load_model(path), tmp_path / "again.safetensors")
    assert resvox.weights.read_header(again).metadata["weights_from"] == kept["weights_from"]


# --- input channels ---------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(known=st.integers(1, 5), wanted=st.integers(1, 7), seed=st.integers(0, 99))
def test_a_grey_image_in_every_channel_gives_what_it_gave(known, wanted, seed):
    kernel = np.random.default_rng(seed).normal(size=(3, known, 3, 3)).astype(np.float32)
    shared = change_channels(kernel, wanted, "sum")
    assert shared.shape == (3, wanted, 3, 3)
    assert np.allclose(shared.sum(1), kernel.sum(1), atol=1e-5)
    repeated = change_channels(kernel, wanted, "repeat")
    assert np.allclose(repeated[:, : min(known, wanted)], kernel[:, :wanted] * (known / wanted), atol=1e-6)
    if wanted % known == 0:
        assert np.allclose(repeated.sum(1), kernel.sum(1), atol=1e-5)
    if wanted <= known:
        assert np.array_equal(change_channels(kernel, wanted, "first"), kernel[:, :wanted])


def test_input_channels_change_only_when_asked(thin):
    state = thin("resnet18").state_dict()
    grey = resvox.create_model("resnet18", widths=(4,) * 4, stem_width=4, depths=(1,) * 4, num_classes=3, in_channels=1)
    with pytest.raises(WeightsError, match=r"conv1\.weight \(4, 3, 7, 7\) for \(4, 1, 7, 7\).*fix: first_conv='sum'"):
        resvox.load_weights(grey, state)
    report = resvox.load_weights(grey, state, first_conv="sum")
    assert report.adapted == {"conv1.weight": "3 input channels to 1, sum"}
    assert torch.allclose(grey.conv1.weight, state["conv1.weight"].sum(1, keepdim=True), atol=1e-6)
    many = resvox.create_model("resnet18", widths=(4,) * 4, stem_width=4, depths=(1,) * 4, num_classes=3, in_channels=4)
    with pytest.raises(WeightsError, match="first_conv='first' for 4 channels from 3; expected at most 3"):
        resvox.load_weights(many, state, first_conv="first")


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ({"first_conv": "mean"}, "first_conv='mean'; expected 'error', 'sum', 'repeat', 'first'"),
        ({"classifier": "keep"}, "classifier='keep'; expected 'error', 'drop'"),
        ({"inflate": "center"}, "inflate='center'; expected None, 'centre', 'average'"),
        ({"inflate_axis": 3}, "inflate_axis=3; expected 0, 1 or 2"),
        ({"peer": "torchvisio"}, "peer='torchvisio'; expected one of torchvision, timm"),
    ],
)
def test_arguments_that_are_none(thin, argument, words):
    model = thin("resnet18")
    with pytest.raises(WeightsError, match=words):
        resvox.load_weights(model, model.state_dict(), **argument)
