import pytest

from resvox.blueprint import Sequence
from resvox.blueprint.blocks import ZeroPadShortcut
from resvox.blueprint.leaves import (
    Activation,
    AveragePool,
    Conv,
    Dropout,
    DropPath,
    GlobalAveragePool,
    Linear,
    MaxPool,
    Norm,
    TransposedConv,
    Upsample,
)
from resvox.errors import BlueprintError

CONV = {
    "in_channels": 4,
    "out_channels": 6,
    "kernel": (3, 3),
    "stride": (2, 2),
    "padding": (1, 1),
    "dilation": (1, 1),
}
UP = {"in_channels": 4, "out_channels": 6, "kernel": (4, 4), "stride": (2, 2), "padding": (1, 1)}
NORM = {"kind": "batch", "channels": 4, "eps": 1e-5, "momentum": 0.1}
POOL = {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1)}
PAD = {"in_channels": 4, "out_channels": 8, "stride": (2, 2)}

BAD = [
    (Conv, CONV, {"in_channels": 0}, "convolution in_channels=0; expected whole numbers of at least 1"),
    (Conv, CONV, {"out_channels": True}, "convolution out_channels=True; expected whole numbers of at least 1"),
    (Conv, CONV, {"kernel": [3, 3]}, "convolution kernel=[3, 3]; expected whole numbers of at least 1"),
    (Conv, CONV, {"kernel": (3.0, 3)}, "convolution kernel=(3.0, 3); expected whole numbers of at least 1"),
    (Conv, CONV, {"stride": ()}, "convolution stride=(); expected whole numbers of at least 1"),
    (Conv, CONV, {"dilation": (1, 1, 1)}, "expected 2 or 3 numbers each, one per axis"),
    (Conv, CONV, {"padding": (1,)}, "expected 2 or 3 numbers each, one per axis"),
    (Conv, CONV, {"padding": "same"}, "expected 2 or 3 numbers each, one per axis"),
    (Conv, CONV, {"padding": (-1, 1)}, "convolution padding=(-1, 1); expected whole numbers of at least 0"),
    (Conv, CONV, {"padding": ("1", 1)}, "convolution padding=('1', 1); expected whole numbers of at least 0"),
    (Conv, CONV, {"groups": 4}, "convolution of 4 to 6 channels in 4 groups; expected channels that the number"),
    (Conv, CONV, {"init": "xavier"}, "convolution init='xavier'; expected one of he_fan_out, uniform_fan_in, zeros"),
    (TransposedConv, UP, {"kernel": (3, 3)}, "expected kernel - 2 * padding equal to stride"),
    (TransposedConv, UP, {"padding": (-1, -1), "kernel": (1, 1), "stride": (3, 3)}, "whole numbers of at least 0"),
    (TransposedConv, UP, {"stride": (2, 2, 2)}, "expected 2 or 3 numbers each, one per axis"),
    (Norm, NORM, {"kind": "layer"}, "norm='layer'; expected one of batch, instance, group"),
    (Norm, NORM, {"channels": "4"}, "norm channels='4'; expected whole numbers of at least 1"),
    (Norm, NORM, {"eps": 0}, "norm eps=0; expected a positive number"),
    (Norm, NORM, {"eps": float("nan")}, "norm eps=nan; expected a positive number"),
    (Norm, NORM, {"eps": float("inf")}, "norm eps=inf; expected a positive number"),
    (Norm, NORM, {"momentum": 1.5}, "norm momentum=1.5; expected a number above 0 and at most 1"),
    (Norm, NORM, {"affine": 1}, "norm affine=1; expected True or False"),
    (Norm, NORM, {"initial_weight": None}, "norm initial_weight=None; expected a number"),
    (
        Norm,
        NORM,
        {"kind": "group", "groups": 3},
        "group norm with num_groups=3 over 4 channels; expected a number that",
    ),
    (Activation, {}, {"kind": "swish"}, "activation='swish'; expected one of identity, relu"),
    (Activation, {"kind": "elu"}, {"slope": "1"}, "activation slope='1'; expected a number"),
    (MaxPool, POOL, {"stride": (0, 2)}, "max pooling stride=(0, 2); expected whole numbers of at least 1"),
    (MaxPool, POOL, {"padding": (1, 1, 1)}, "expected 2 or 3 numbers each, one per axis"),
    (AveragePool, {"kernel": (2, 2)}, {"stride": (2, -2)}, "average pooling stride=(2, -2); expected whole numbers"),
    (AveragePool, {"kernel": (3, 3)}, {"stride": (3, 2)}, "expected a stride of the kernel or of 1 along each axis"),
    (GlobalAveragePool, {}, {"spatial_dims": 4}, "spatial_dims=4; expected 2 or 3"),
    (Upsample, {"scale": (2, 2)}, {"mode": "cubic"}, "upsampling mode='cubic'; expected 'nearest' or 'linear'"),
    (Upsample, {"mode": "nearest"}, {"scale": 2.0}, "upsampling scale=2.0; expected whole numbers of at least 1"),
    (Linear, {"in_features": 4}, {"out_features": 0}, "linear layer out_features=0; expected whole numbers of at"),
    (DropPath, {}, {"rate": 1.0}, "drop path rate=1.0; expected a number from 0 to below 1"),
    (Dropout, {}, {"rate": -0.1}, "dropout rate=-0.1; expected a number from 0 to below 1"),
    (Dropout, {}, {"rate": True}, "dropout rate=True; expected a number from 0 to below 1"),
    (ZeroPadShortcut, PAD, {"out_channels": 2}, "zero-padded shortcut from 4 to 2 channels; expected at least as many"),
]


@pytest.mark.parametrize(("kind", "good", "change", "text"), BAD, ids=[f"{b[0].__name__}-{b[2]}" for b in BAD])
def test_a_leaf_dies_at_birth_saying_what_was_got_and_expected(kind, good, change, text):
    with pytest.raises(BlueprintError) as caught:
        kind(**{**good, **change})
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "good"),
    [(Conv, CONV), (TransposedConv, UP), (Norm, NORM), (MaxPool, POOL), (ZeroPadShortcut, PAD)],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_the_good_ones_live(kind, good):
    assert kind(**good) == kind(**good)


def test_output_sizes_are_ceilings_of_halves():
    conv, pool, mean = Conv(**CONV), MaxPool(**POOL), AveragePool(kernel=(2, 3), stride=(2, 3))
    for size, half, third in ((1, 1, 1), (2, 1, 1), (7, 4, 3), (8, 4, 3)):
        assert conv.output_size((size, size)) == (half, half)
        assert pool.output_size((size, size)) == (half, half)
        assert mean.output_size((size, size)) == (half, third)
    assert TransposedConv(**UP).output_size((1, 5)) == (2, 10)
    assert Upsample(scale=(1, 2), mode="nearest").output_size((3, 5)) == (3, 10)
    assert ZeroPadShortcut(**PAD).output_size((7, 8)) == (4, 4)


def test_tensors_of_a_tree_are_named_by_their_way_and_counted():
    tree = Sequence(items=(Conv(**{**CONV, "bias": True}), Norm(**{**NORM, "channels": 6})))
    shapes = {name: (spec.shape, spec.role) for name, spec in tree.tensors("stem")}
    assert shapes == {
        "stem.0.weight": ((6, 4, 3, 3), "parameter"),
        "stem.0.bias": ((6,), "parameter"),
        "stem.1.weight": ((6,), "parameter"),
        "stem.1.bias": ((6,), "parameter"),
        "stem.1.running_mean": ((6,), "statistic"),
        "stem.1.running_var": ((6,), "statistic"),
    }
    assert (tree.parameters, tree.statistics) == (6 * 4 * 9 + 6 + 12, 12)
