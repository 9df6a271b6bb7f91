import pytest

from resvox.catalog import get_blueprint, resolve_name
from resvox.catalog.arguments import ALIASES as OPTION_ALIASES
from resvox.catalog.resnets import ALIASES
from resvox.errors import BlueprintError, UnknownModelError


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_an_alias_is_the_same_network(alias, name):
    assert resolve_name(alias) == resolve_name(alias.upper()) == name
    assert get_blueprint(alias) == get_blueprint(name)


def test_both_spellings_of_v2_and_vd_are_there():
    assert resolve_name("resnet50_v2") == "resnet50v2"
    assert resolve_name("ResNet50_vd") == "resnet50vd"
    assert resolve_name("resnext50_32x4d") == "resnext50"


def test_an_unknown_name_gets_the_nearest_ones():
    with pytest.raises(UnknownModelError, match=r"unknown model 'resnet51'.*did you mean resnet5"):
        get_blueprint("resnet51")
    with pytest.raises(UnknownModelError, match=r"unknown model 'xyz'.*fix: run `resvox models`"):
        get_blueprint("xyz")
    with pytest.raises(UnknownModelError, match="unknown model None"):
        get_blueprint(None)


VALUES = {
    "in_channels": (1, 2),
    "num_classes": (5, 7),
    "spatial_dims": (3, 2),
    "drop_path": (0.1, 0.2),
    "zero_init_residual": (True, False),
    "activation": ("silu", "relu"),
    "decoder_filters": ((8, 8, 8, 8, 8), (4, 4, 4, 4, 4)),
    "output_activation": ("softmax", "sigmoid"),
    "width_per_group": (64, 128),
    "groups": (1, 2),
    "image_size": (64, 96),
}


def model_for(option):
    if option == "image_size":
        return "trans_unet"
    return "unet" if option.startswith("decoder") else "resnet26"


@pytest.mark.parametrize(("alias", "option"), OPTION_ALIASES.items())
def test_an_option_has_its_other_names(alias, option):
    name, (value, other) = model_for(option), VALUES[option]
    assert get_blueprint(name, **{alias: value}) == get_blueprint(name, **{option: value})
    assert get_blueprint(name, **{alias: value, option: value}) == get_blueprint(name, **{option: value})
    assert get_blueprint(name, **{alias: value, option: None}) == get_blueprint(name, **{option: value})
    for first, second in ((alias, option), (option, alias)):  # whichever comes first
        with pytest.raises(BlueprintError) as caught:
            get_blueprint(name, **{first: value, second: other})
        assert f"both mean {option}; give only {option}" in str(caught.value)


def test_two_aliases_may_not_disagree_either():
    with pytest.raises(BlueprintError, match="classes=2 and out_channels=3; expected one of the two"):
        get_blueprint("unet", classes=2, out_channels=3)


def test_activation_names_the_outputs_where_it_says_softmax():
    assert get_blueprint("resnet18", activation="softmax") == get_blueprint("resnet18", output_activation="softmax")
    with pytest.raises(BlueprintError, match="activation='softmax' and output_activation='sigmoid'; expected one of"):
        get_blueprint("resnet18", activation="softmax", output_activation="sigmoid")
    hidden = get_blueprint("resnet18", activation="silu", classifier_activation="sigmoid").network
    assert (hidden.act1.kind, hidden.activation.kind) == ("silu", "sigmoid")
    assert get_blueprint("resnet18", classifier_activation="linear") == get_blueprint("resnet18")
    with pytest.raises(BlueprintError, match="output_activation='softmax' without classes"):
        get_blueprint("resnet18", num_classes=0, output_activation="softmax")


def test_input_shape_settles_dims_and_channels():
    assert get_blueprint("resnet18", input_shape=(None, None, 1)) == get_blueprint("resnet18", in_channels=1)
    volume = get_blueprint("resnet18", input_shape=[32, 32, 32, 4])
    assert (volume.spatial_dims, volume.in_channels) == (3, 4)
    assert get_blueprint("resnet18", input_shape=(8, 8, 1), spatial_dims=2, in_channels=1).in_channels == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            {"input_shape": (8, 8, 8, 1), "spatial_dims": 2},
            "spatial_dims=2 and input_shape=(8, 8, 8, 1), which gives 3",
        ),
        ({"input_shape": (8, 8, 1), "in_channels": 3}, "in_channels=3 and input_shape=(8, 8, 1), which gives 1"),
        ({"input_shape": (8, 1)}, "input_shape=(8, 1); expected (H, W, channels) or (D, H, W, channels)"),
        ({"input_shape": (1, 8, 8, 8, 1)}, "fix: leave the batch axis out"),
        ({"input_shape": (8, 8, None)}, "input_shape=(8, 8, None); expected a number of channels as the last entry"),
        ({"input_shape": 8}, "input_shape=8; expected (*spatial, channels)"),
        ({"input_shape": "abc"}, "input_shape='abc'; expected (*spatial, channels)"),
        ({"input_shape": (8, 0, 3)}, "input_shape=(8, 0, 3); expected (*spatial, channels)"),
        ({"input_shape": (8, 8.0, 3)}, "input_shape=(8, 8.0, 3); expected (*spatial, channels)"),
        ({"spatial_dims": 1}, "spatial_dims=1; expected"),
        ({"spatial_dims": 4}, "spatial_dims=4; expected 2 or 3"),
        ({"spatial_dims": "2"}, "spatial_dims='2'; expected"),
        ({"in_channels": 0}, "in_channels=0; expected a whole number of at least 1"),
        ({"in_channels": True}, "in_channels=True; expected a whole number of at least 1"),
        ({"num_classes": -1}, "num_classes=-1; expected a whole number of at least 0"),
        ({"num_classes": 2.0}, "num_classes=2.0; expected a whole number of at least 0"),
        ({"in_chans": "x"}, "in_channels='x'; expected a whole number of at least 1"),
    ],
)
def test_shapes_and_numbers_that_contradict_are_refused(arguments, text):
    with pytest.raises(BlueprintError) as caught:
        get_blueprint("resnet18", **arguments)
    assert text in str(caught.value)


def test_an_unknown_option_is_refused_by_name_with_the_nearest():
    with pytest.raises(BlueprintError, match=r"unknown option widht= for resnet18; expected one of .*mean widths"):
        get_blueprint("resnet18", widht=(1, 2, 3, 4))
    with pytest.raises(BlueprintError, match="unknown option encoder_name= for resnet18"):
        get_blueprint("resnet18", encoder_name="resnet34")
    with pytest.raises(BlueprintError, match=r"unknown option decoder_filter= for unet.*did you mean decoder_filters"):
        get_blueprint("unet", decoder_filter=(1,))
    with pytest.raises(BlueprintError, match="unknown option output_activation= for resnet18"):
        get_blueprint("resnet18", features_only=True, output_activation="softmax")
