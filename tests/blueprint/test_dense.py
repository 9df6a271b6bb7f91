"""The residual network for dense prediction, resolved: sizes, stages, refusals."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import resvox
from resvox.blueprint import networks as net
from resvox.blueprint.leaves import TransposedConv
from resvox.errors import BlueprintError

THIN = {"depths": (1, 1), "widths": (4, 8)}


def test_defaults_are_a_volume_in_and_six_channels_out():
    blueprint = resvox.get_blueprint("resnet18_3d")
    assert (blueprint.task, blueprint.spatial_dims) == ("regression", 3)
    assert (blueprint.in_channels, blueprint.num_classes) == (3, 6)
    assert isinstance(blueprint.network, net.DenseResNet)
    blocks = [len(stage.items) for stage in blueprint.network.layers.items]
    assert blocks == [2, 2, 2, 2]  # 16 convolutions, the first and the last: 18
    assert blueprint.parameters == 5_723_718


def test_it_strides_once_and_the_transposed_convolution_undoes_it():
    rows = [row for stage in resvox.get_blueprint("resnet18_3d").stages((9, 10, 11)) for row in stage.walk()]
    assert {row.stride for row in rows} == {(1, 1, 1), (2, 2, 2)}
    strided = [row.name for row in rows if row.operation.startswith("3x3x3") and "stride" in row.operation]
    assert strided == ["layers.1.0.conv1"]
    network = resvox.get_blueprint("resnet18_3d", stride=(1, 2, 2)).network
    up = network.up.items[0]
    assert isinstance(up, TransposedConv)
    assert up.kernel == up.stride == (1, 2, 2)


@settings(deadline=None, max_examples=60)
@given(
    size=st.one_of(st.tuples(*[st.integers(1, 40)] * 2), st.tuples(*[st.integers(1, 40)] * 3)),
    widths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    data=st.data(),
)
def test_the_output_has_the_inputs_size_whatever_that_is(size, widths, data):
    depths = data.draw(st.lists(st.integers(1, 3), min_size=len(widths), max_size=len(widths)))
    stride = data.draw(
        st.lists(st.sampled_from([1, 2]), min_size=len(size), max_size=len(size)).filter(lambda s: 2 in s)
    )
    blueprint = resvox.get_blueprint(
        "resnet18_3d", spatial_dims=len(size), in_channels=2, num_classes=3, widths=widths, depths=depths, stride=stride
    )
    stages = blueprint.stages(size)
    assert stages[-1].output_shape == (1, 3, *size)
    assert [len(s.children) for s in stages if s.operation.startswith("residual stage")] == depths
    assert sum(stage.parameters for stage in stages) == blueprint.parameters
    assert resvox.Blueprint.from_json(blueprint.to_json()) == blueprint


def test_options_reach_every_layer():
    blueprint = resvox.get_blueprint("resnet18_3d", norm="instance", activation="silu", **THIN)
    operations = {row.operation for stage in blueprint.stages((4, 4, 4)) for row in stage.walk()}
    assert "instance norm" in operations
    assert "silu" in operations
    assert not {"batch norm", "relu"} & operations
    assert blueprint.statistics == 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"depths": (1, 2), "widths": (4,)}, "depths=(1, 2) and widths=(4,); expected equally many"),
        ({"depths": ()}, "depths=(); expected whole numbers of at least 1, one per stage"),
        ({"widths": (4, 0, 4, 4)}, "widths=(4, 0, 4, 4)"),
        ({"stride": 1}, "stride=(1, 1, 1); expected 1 or 2 per axis, 2 along at least one"),
        ({"stride": (2, 4, 2)}, "stride=(2, 4, 2)"),
        ({"stride": (2, 2)}, "stride=(2, 2); expected a whole number of at least 1, or 3 of them"),
        ({"num_classes": 0}, "num_classes=0; expected at least 1"),
        ({"shortcut": "none"}, "shortcut='none'"),
        ({"groups": 2}, "unknown option groups= for resnet18_3d"),
        ({"se_ratio": 4}, "unknown option se_ratio= for resnet18_3d"),
    ],
)
def test_what_it_refuses(options, text):
    with pytest.raises(BlueprintError) as caught:
        resvox.get_blueprint("resnet18_3d", **options)
    assert str(caught.value).startswith(text)


def test_it_is_no_encoder():
    with pytest.raises(BlueprintError, match="encoder_name='resnet18_3d'"):
        resvox.get_blueprint("unet", encoder_name="resnet18_3d")
