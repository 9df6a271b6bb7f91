"""What an encoder offers a decoder is read from its tree; a cut one is the one built with that depth."""

import pytest

from resvox.blueprint.encoders import cut_encoder, encoder_channels, encoder_depth, encoder_strides
from resvox.catalog import get_blueprint
from resvox.catalog.registry import segmenter_on
from resvox.errors import BlueprintError

NETWORKS = [
    ("resnet18", {}),
    ("resnet50", {"spatial_dims": 3, "strides": ((1, 2, 2), (1, 2, 2), 2, 2, (2, 2, 1))}),
    ("resnet50vd", {"output_stride": 8}),
    ("resnet18v2", {"spatial_dims": 3}),
    ("resnet50v2", {"stem": "deep"}),
    ("resnext50", {"stem": "3x3"}),
    ("seresnet18", {"shortcut": "zero_pad", "strides": (2, 1, 2, 2, 2)}),
]


@pytest.mark.parametrize(("name", "options"), NETWORKS)
def test_levels_are_those_of_the_walk(name, options):
    blueprint = get_blueprint(name, **options)
    rows = [
        stage
        for stage in blueprint.stages((64,) * blueprint.spatial_dims)
        if stage.operation in ("stem convolution", "normalization and activation")
        or stage.operation.startswith("residual stage")
    ]
    # a pre-activation net's last norm belongs to the classifier, and the others' stem ends with its norm
    rows = rows[:5] if name.endswith("v2") else rows[1:]
    encoder = blueprint.network
    assert encoder_depth(encoder) == len(rows) == 5
    assert encoder_channels(encoder) == [row.output_shape[1] for row in rows]
    reached = (1,) * blueprint.spatial_dims
    for stride, row in zip(encoder_strides(encoder), rows, strict=True):
        reached = tuple(a * b for a, b in zip(reached, stride, strict=True))
        assert reached == row.stride


@pytest.mark.parametrize(("name", "options"), NETWORKS)
@pytest.mark.parametrize("depth", [1, 2, 4, 5])
def test_a_cut_encoder_is_the_one_built_with_that_depth(name, options, depth):
    whole = get_blueprint(name, num_classes=2, **options)
    wanted = get_blueprint(name, features_only=True, encoder_depth=depth, **options)
    assert cut_encoder(whole.network, depth) == wanted.network
    around = segmenter_on(whole, num_classes=4, encoder_depth=depth, decoder_block_type="transpose")
    direct = get_blueprint(
        "unet", encoder_name=name, num_classes=4, encoder_depth=depth, decoder_block_type="transpose", **options
    )
    assert around == direct


def test_more_depth_than_there_is_and_other_networks_are_refused():
    shallow = get_blueprint("resnet18", features_only=True, encoder_depth=3)
    with pytest.raises(BlueprintError, match="encoder_depth=4 of an encoder with 3 levels; expected 1 to 3"):
        segmenter_on(shallow, encoder_depth=4)
    assert segmenter_on(shallow).network.encoder == shallow.network
    with pytest.raises(BlueprintError, match="'unet' as an encoder; expected a residual network"):
        segmenter_on(get_blueprint("unet"))
    with pytest.raises(BlueprintError, match="unknown option widths= for unet around an encoder"):
        segmenter_on(shallow, widths=(1, 1, 1, 1))
