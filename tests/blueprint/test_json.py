import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resvox.blueprint import Blueprint
from resvox.blueprint.networks import UNet
from resvox.catalog import VARIANTS, get_blueprint
from resvox.errors import BlueprintError

NAMES = [variant.name for variant in VARIANTS]
RICH = {
    "norm": ("group", {"num_groups": 4}),
    "activation": ("leaky_relu", {"negative_slope": 0.2}),
    "drop_path": 0.1,
    "zero_init_residual": True,
    "strides": (2, 1, 2, 2, 1),
    "output_stride": 8,
}


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_json_gives_back_the_same_tree(name, spatial_dims):
    plain = get_blueprint(name, spatial_dims=spatial_dims)
    unet = get_blueprint("unet", encoder_name=name, spatial_dims=spatial_dims, decoder_block_type="transpose")
    rich = get_blueprint(name, spatial_dims=spatial_dims, num_classes=0, **RICH)
    maps = get_blueprint(name, spatial_dims=spatial_dims, features_only=True, encoder_depth=3)
    for blueprint in (plain, unet, rich, maps):
        assert Blueprint.from_json(blueprint.to_json()) == blueprint


def test_no_default_is_left_to_the_reader():
    """An absent field would be filled in by a later version's default: an old model would change."""
    data = json.loads(get_blueprint("resnet18").to_json())
    del data["network"]["bn1"]["momentum"]
    with pytest.raises(BlueprintError, match=r"Norm with missing or unknown fields \['momentum'\]"):
        Blueprint.from_json(json.dumps(data))


def small():
    return json.loads(get_blueprint("resnet10", widths=(8, 8, 8, 8), stem_width=8).to_json())


def planted(way, value):
    data = small()
    node = data
    for key in way[:-1]:
        node = node[key]
    node[way[-1]] = value
    return json.dumps(data)


CONV1, NORM1 = ("network", "conv1"), ("network", "bn1")
HOSTILE = [
    ("not json", "{", "a blueprint that is not JSON"),
    ("a number", "3", "a blueprint of another format; expected format 1"),
    ("null", "null", "a blueprint of another format"),
    ("later format", planted(("format",), 2), "fix: read it with the resvox version that wrote it"),
    ("format as text", planted(("format",), "1"), "a blueprint of another format"),
    ("deep list", "[" * 100_000, "a blueprint that is not JSON"),
    ("deep node", planted(CONV1, json.loads("[" * 80 + "]" * 80)), "nested deeper than 40 levels"),
    ("very deep", json.dumps(small())[:-1] + ', "x": ' + "[" * 400 + "]" * 400 + "}", "nested deeper than 40"),
    ("unknown kind", planted((*CONV1, "kind!"), "Popen"), "a node of kind 'Popen'; expected one of the"),
    ("misspelled kind", planted((*CONV1, "kind!"), "Convv"), "fix: did you mean Conv"),
    ("kind of no name", planted((*CONV1, "kind!"), ["Conv"]), "a node of kind ['Conv']"),
    ("abstract kind", planted(CONV1, {"kind!": "Node"}), "a node of kind 'Node'"),
    ("no kind", planted(CONV1, {}), "a node of kind None"),
    ("extra field", planted((*CONV1, "color"), 1), "Conv with missing or unknown fields ['color']"),
    ("norm for conv", planted(CONV1, small()["network"]["bn1"]), "ResNet whose conv1 is a Norm; expected conv1: Conv"),
    ("text for conv", planted(CONV1, "conv"), "ResNet whose conv1 is 'conv'; expected conv1: Conv | Sequence"),
    ("text for channels", planted((*CONV1, "in_channels"), "3"), "Conv whose in_channels is '3'; expected in_channels"),
    ("true for channels", planted((*CONV1, "in_channels"), True), "Conv whose in_channels is True"),
    ("float channels", planted((*CONV1, "in_channels"), 3.0), "Conv whose in_channels is 3.0"),
    ("number for axes", planted((*CONV1, "kernel"), 7), "Conv whose kernel is 7; expected kernel: tuple[int, ...]"),
    ("text in axes", planted((*CONV1, "kernel"), [7, "7"]), "Conv whose kernel is"),
    ("nan", planted((*NORM1, "eps"), float("nan")), "Norm whose eps is nan; expected eps: float"),
    ("bad value", planted((*NORM1, "eps"), -1.0), "norm eps=-1.0; expected a positive number"),
    ("leaf for network", planted(("network",), small()["network"]["conv1"]), "Blueprint whose network is a Conv"),
    ("sequence of text", planted(("network", "layer1", "items"), ["a"]), "Sequence whose items is a tuple"),
    ("leaf at the top", json.dumps({"format": 1, **small()["network"]["conv1"]}), "a Conv; expected a Blueprint"),
    ("odd channels", planted((*CONV1, "out_channels"), 9), "9 channels arrive at"),
    ("3D layer in 2D", planted(CONV1, json.loads(get_blueprint("resnet10", spatial_dims=3).to_json())["network"]
                               ["conv1"]), "a network whose layers do not fit together"),
    ("network in a stage", planted(("network", "layer1", "items"), [small()["network"]]), "expected"),
    ("4 dims", planted(("spatial_dims",), 4), "spatial_dims=4; expected 2 or 3"),
    ("task", planted(("task",), "world"), "task='world'; expected one of classification"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "words"), [h[1:] for h in HOSTILE], ids=[h[0] for h in HOSTILE])
def test_a_broken_text_is_refused_in_words(text, words):
    with pytest.raises(BlueprintError) as caught:
        Blueprint.from_json(text)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_decoder_of_other_blocks_is_refused():
    blueprint = get_blueprint("unet", encoder_name="resnet10", encoder_depth=2)
    assert isinstance(blueprint.network, UNet)
    data = json.loads(blueprint.to_json())
    data["network"]["decoder"]["blocks"]["items"][0] = data["network"]["head"]
    with pytest.raises(BlueprintError):
        Blueprint.from_json(json.dumps(data))


def test_a_shortcut_that_does_not_stride_with_its_block_is_refused():
    data = small()
    data["network"]["layer2"]["items"][0]["downsample"]["items"] = []
    with pytest.raises(BlueprintError, match=r"meet in the sum at 'layer2\.0'"):
        Blueprint.from_json(json.dumps(data))


def places(value, way=()):
    """Every way into a JSON tree."""
    yield way
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from places(item, (*way, key))


ROOT = small()
WAYS = [way for way in places(ROOT) if way]
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-3, 70), st.floats(), st.text(max_size=3))
VALUES = st.recursive(
    SCALARS | st.sampled_from([ROOT["network"]["bn1"], ROOT["network"]["fc"]]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(way=st.sampled_from(WAYS), value=VALUES)
def test_any_value_anywhere_is_read_or_refused_and_never_crashes(way, value):
    data = copy.deepcopy(ROOT)
    node = data
    for key in way[:-1]:
        node = node[key]
    node[way[-1]] = value
    try:
        found = Blueprint.from_json(json.dumps(data))
    except BlueprintError:
        return
    assert found.parameters > 0
    assert found.stages((5,) * found.spatial_dims)
