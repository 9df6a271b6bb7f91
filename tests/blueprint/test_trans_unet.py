import pytest

from resvox import get_blueprint
from resvox.blueprint import Blueprint
from resvox.errors import BlueprintError

SMALL = {"num_vit_layers": 2, "num_heads": 4, "num_queries": 5, "embed_dim": 24, "mlp_dim": 32}


def decoder(**options):
    return get_blueprint("trans_unet", **options).network.decoder


def test_parameters_are_those_of_the_recipe():
    layers, queries, width, inner, classes, tokens = 12, 100, 512, 1024, 3, 3**3
    attention = 4 * width * width + 3 * width  # the keys have no bias
    mlp = 2 * width * inner + inner + width
    block = attention + mlp + 2 * 2 * width
    vit = 512 * width + width + tokens * width + layers * block + 2 * width
    levels = sum(skip * width + 2 * width + block for skip in (64, 64, 128, 256))
    asking = queries * width + 2 * width + levels + width * (classes + 1) + classes + 1
    widths = [(width + classes, 256), (256 + 256, 128), (128 + 128, 64), (64 + 64, 32), (32 + 64, 16)]
    way_up = sum(27 * inner_ * outer + outer for inner_, outer in widths) + 16 * classes + classes
    encoder = get_blueprint("resnet18", spatial_dims=3, in_channels=4, features_only=True).parameters
    found = get_blueprint("trans_unet", input_shape=(96, 96, 96, 4), num_classes=classes)
    assert found.parameters == encoder + vit + asking + way_up


@pytest.mark.parametrize(
    ("options", "patch", "grid"),
    [
        ({}, (1, 1), (7, 7)),  # 224 / 32, as in the paper
        ({"spatial_dims": 3}, (1, 1, 1), (3, 3, 3)),
        ({"encoder_depth": 4}, (1, 1), (14, 14)),
        ({"encoder_depth": 3}, (2, 2), (14, 14)),  # a token for 16 voxels, where the map has one for 8
        ({"encoder_depth": 1, "image_size": 100}, (8, 8), (7, 7)),
        ({"encoder_depth": 3, "patch_size": (1, 4)}, (1, 4), (28, 7)),
        ({"output_stride": 8}, (2, 2), (14, 14)),
        ({"spatial_dims": 3, "strides": ((1, 2, 2), 2, 2, 2, 2), "image_size": (40, 96, 70)}, (1, 1, 1), (3, 3, 3)),
        ({"spatial_dims": 3, "strides": ((1, 2, 2), (1, 2, 2), 2, 1, 1)}, (2, 2, 2), (24, 6, 6)),
        ({"input_shape": (64, None, 1)}, (1, 1), (2, 7)),
        ({"input_shape": (64, 64, 1), "image_size": 256}, (1, 1), (8, 8)),
        ({"img_size": 32}, (1, 1), (1, 1)),
    ],
)
def test_tokens(options, patch, grid):
    vit = decoder(**options).vit
    assert vit.embed.conv.kernel == vit.embed.conv.stride == patch
    assert vit.position.grid == grid


def test_masks_are_enlarged_by_what_a_token_covers():
    found = decoder(spatial_dims=3, strides=((1, 2, 2), 2, (1, 2, 2), 2, 2), encoder_depth=4, patch_size=(1, 2, 1))
    assert [level.up.scale for level in found.queries.levels.items] == [(2, 4, 2), (2, 8, 4), (4, 16, 8)]
    assert {level.up.mode for level in found.queries.levels.items} == {"nearest"}
    assert [block.up.scale for block in found.blocks.items] == [(2, 2, 2), (1, 2, 2), (2, 2, 2)]


@pytest.mark.parametrize(("width", "groups"), [(512, 32), (96, 32), (48, 24), (24, 24), (40, 20), (62, 31), (4, 4)])
def test_groups_are_the_largest_divisor_up_to_32(width, groups):
    found = decoder(embed_dim=width, num_heads=2).queries.levels.items[0]
    assert (found.norm.kind, found.norm.groups) == ("group", groups)


def test_deep_supervision_reads_every_map_but_the_last():
    network = get_blueprint("trans_unet", encoder_depth=4, deep_supervision=True, num_classes=2, **SMALL).network
    heads = network.supervision.items
    assert [(head.conv.in_channels, head.up.scale) for head in heads] == [(64, (4, 4)), (128, (8, 8)), (256, (16, 16))]
    assert network.head.items[0].in_channels == 32
    assert get_blueprint("trans_unet", **SMALL).network.supervision is None


def test_a_walk_counts_a_shared_norm_once():
    blueprint = get_blueprint("trans_unet", encoder_depth=3, dropout_rate=0.0, **SMALL)
    rows = blueprint.stages((40, 33))
    assert sum(row.parameters for row in rows) == blueprint.parameters
    leaves = [row for top in rows for row in top.walk() if not row.children]
    shared = [row.parameters for row in leaves if row.name == "decoder.queries.norm"]
    assert shared == [48, 0, 0]
    assert [row.name for row in leaves].count("decoder.queries.dot") == 3
    assert rows[-1].output_shape == (1, 1, 40, 33)


def test_json_comes_back():
    blueprint = get_blueprint(
        "trans_unet", spatial_dims=3, deep_supervision=True, decoder_normalization="group", **SMALL
    )
    assert Blueprint.from_json(blueprint.to_json()) == blueprint


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"embed_dim": 100}, "embed_dim=100 with num_heads=8; expected an embed_dim that num_heads divides; "
                             "fix: take num_heads=4, or another embed_dim"),
        ({"num_heads": 0}, "num_heads=0; expected a whole number of at least 1"),
        ({"num_queries": 2.0}, "num_queries=2.0"),
        ({"dropout_rate": 1.0}, "dropout_rate=1.0; expected a number from 0 to below 1"),
        ({"decoder_filters": (8, 8)}, "decoder_filters=(8, 8) with encoder_depth=5; expected at least 5 numbers"),
        ({"decoder_interpolation": "cubic"}, "decoder_interpolation='cubic'"),
        ({"image_size": (64, 64, 64)}, "image_size=(64, 64, 64)"),
        ({"patch_size": 0}, "patch_size=0"),
        ({"num_classes": 0}, "num_classes=0"),
        ({"deep_supervision": 1}, "deep_supervision=1; expected True or False"),
        ({"deep_supervision": True, "encoder_depth": 1}, "deep_supervision=True with encoder_depth=1"),
        ({"decoder_block_type": "transpose"}, "unknown option decoder_block_type= for trans_unet"),
        ({"num_vit_layer": 3}, "did you mean num_vit_layers?"),
    ],
)  # fmt: skip
def test_refusals_name_the_option(options, text):
    with pytest.raises(BlueprintError) as caught:
        get_blueprint("trans_unet", **options)
    assert text in str(caught.value)
