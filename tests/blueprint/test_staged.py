"""nnU-Net's rule for stages, and what its networks may not be."""

import pytest

import resvox
from resvox.blueprint.staged.topology import topology
from resvox.errors import BlueprintError

ONE, TWO, THREE = (1, 1, 1), (2, 2, 2), (3, 3, 3)
FLAT, THIN = (1, 2, 2), (1, 3, 3)
# what the planners of nnU-Net 2.8.1 plan
PLANNED = [
    ((128, 128, 128), ONE, (ONE, *(TWO,) * 5), (THREE,) * 6),
    ((256, 224, 224), ONE, (ONE, *(TWO,) * 5), (THREE,) * 6),
    ((896, 768), (1, 1), ((1, 1), *((2, 2),) * 7), ((3, 3),) * 8),
    ((1024, 1024), (1, 1), ((1, 1), *((2, 2),) * 8), ((3, 3),) * 9),
    ((28, 224, 224), (5, 0.8, 0.8), (ONE, FLAT, FLAT, TWO, TWO, FLAT), (THIN, THIN, *(THREE,) * 4)),
    ((40, 320, 320), (5, 0.8, 0.8), (ONE, FLAT, FLAT, TWO, TWO, TWO, FLAT), (THIN, THIN, *(THREE,) * 5)),
    ((48, 448, 384), (5, 0.8, 0.8), (ONE, FLAT, FLAT, TWO, TWO, TWO, FLAT), (THIN, THIN, *(THREE,) * 5)),
    ((64, 160, 160), (2.5, 1, 1), (ONE, FLAT, *(TWO,) * 4), (THIN, *(THREE,) * 5)),
    ((20, 20, 96), (2.0, 2.5, 1), (ONE, (1, 1, 2), TWO, TWO, (1, 1, 2)), ((1, 1, 3), *(THREE,) * 4)),
    ((28, 256, 256), (5, 0.8, 0.8), (ONE, FLAT, FLAT, TWO, TWO, FLAT, FLAT), (THIN, THIN, *(THREE,) * 5)),
]


@pytest.mark.parametrize(("patch", "spacing", "strides", "kernels"), PLANNED, ids=str)
def test_stages_follow_from_a_patch_as_nnunet_plans_them(patch, spacing, strides, kernels):
    assert topology(patch, spacing) == (strides, kernels)
    network = resvox.get_blueprint("plain_unet", spatial_dims=len(patch), patch_size=patch, spacing_mm=spacing).network
    assert network.encoder.strides == strides


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"preset": "S"}, "preset='S'; expected one of M, L, XL"),
        ({"preset": "L", "strides": (1, 2)}, "preset= and strides=; expected one of the two"),
        ({"preset": "L", "patch_size": 64}, "preset= and patch_size=; expected one of the two"),
        ({"patch_size": 4}, "patch_size=(4, 4); expected a size that can be halved once"),
        ({"patch_size": 10**9}, "patch_size=(1000000000, 1000000000); expected at most 16384"),
        ({"spacing_mm": (1, -1)}, "spacing_mm=(1, -1); expected 2 numbers above 0"),
        ({"features": (8,)}, "features=(8,); expected 2 to 16 entries"),
        ({"features": (8, 8), "depths": (1, 1, 1)}, "depths=(1, 1, 1); expected 2 entries, one per stage"),
        ({"features": (8, 8), "decoder_depths": (1, 1)}, "decoder_depths=(1, 1); expected 1 entries"),
        ({"features": (8, 8), "depths": (10**9, 1)}, "depths with 1000000000 blocks in a stage; expected at most 256"),
        ({"strides": (2, 2)}, "strides=((2, 2), (2, 2)); expected 1 first"),
        ({"kernels": (3, 2)}, "kernels=((3, 3), (2, 2)); expected odd numbers"),
        ({"features": (8, 8), "deep_supervision": True}, "deep_supervision=True with 2 stages; expected at least 3"),
        ({"block": "dense"}, "block='dense'; expected 'basic' or 'bottleneck'"),
        ({"features": (8, 8), "bottleneck_channels": (2, 2)}, "bottleneck_channels with block='basic'"),
        ({"conv_bias": "yes"}, "conv_bias='yes'; expected True or False"),
        ({"num_classes": 0}, "num_classes=0; expected at least 1"),
        ({"encoder_name": "resnet18"}, "unknown option encoder_name= for resenc_unet"),
    ],
    ids=str,
)  # fmt: skip
def test_what_an_option_may_not_be(options, text):
    with pytest.raises(BlueprintError) as caught:
        resvox.get_blueprint("resenc_unet", **options)
    assert text in str(caught.value)


def test_channels_and_blocks_by_default():
    network = resvox.get_blueprint("resenc_unet", spatial_dims=3).network
    stages = network.encoder.stages.items
    assert [len(stage) for stage in stages] == [1, 3, 4, 6, 6, 6]
    assert [stage.items[0].conv1.out_channels for stage in stages] == [32, 64, 128, 256, 320, 320]
    assert [len(level.blocks) for level in network.decoder.levels.items] == [1] * 5
    plain = resvox.get_blueprint("plain_unet", spatial_dims=2).network
    assert [len(stage) for stage in plain.encoder.stages.items] == [2] * 8
    assert plain.decoder.levels.items[0].up.in_channels == 512


def test_the_class_names_of_nnunet_are_aliases():
    assert resvox.get_blueprint("ResidualEncoderUNet") == resvox.get_blueprint("resenc_unet")
    assert resvox.get_blueprint("PlainConvUNet") == resvox.get_blueprint("plain_unet")
