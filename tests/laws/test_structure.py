"""What the blueprint says of a network, without a tensor, is what PyTorch builds and runs. Full size, on no memory."""

import dataclasses

import pytest
import torch
from laws.checks import check_counts, check_names, check_walk
from laws.networks import ROWS, SEGMENTATION, ids, thin, thin_blueprint
from torch import nn

from resvox.blueprint import Sequence
from resvox.blueprint.leaves import Conv
from resvox.catalog import get_blueprint
from resvox.torch import build

SIZES = {2: (71, 64), 3: (33, 20, 41)}


def hollow(blueprint):
    """The module on the meta device: every shape and no memory."""
    with torch.device("meta"):
        return build(blueprint).eval()


@pytest.mark.parametrize(("name", "dims"), ROWS)
def test_every_row_has_the_tensors_shapes_and_operations_of_its_blueprint(name, dims):
    blueprint = get_blueprint(name, spatial_dims=dims, in_channels=2, num_classes=7)
    model = hollow(blueprint)
    check_counts(model, blueprint)
    check_names(model, blueprint)
    check_walk(model, blueprint, SIZES[dims])


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("name", "options"), SEGMENTATION, ids=ids)
def test_every_way_of_a_unet_does(name, options, dims):
    blueprint = get_blueprint(name, spatial_dims=dims, **options)
    model = hollow(blueprint)
    check_counts(model, blueprint)
    check_names(model, blueprint)
    check_walk(model, blueprint, SIZES[dims])


OPTIONS = [
    ("resnet50", {"output_stride": 8, "norm": "group"}),
    ("resnet18", {"output_stride": 16, "norm": ("instance", {"affine": False})}),
    ("resnet50v2", {"shortcut": "zero_pad", "stem": "deep", "se_ratio": 8, "drop_path": 0.2}),
    ("resnet18vd", {"strides": (2, 1, 2, 1, 2), "output_stride": 8}),
    ("resnet26", {"stem": "3x3", "groups": 2, "width_per_group": 96}),
    ("resnet18", {"num_classes": 0}),
    ("resnet18v2", {"features_only": True, "encoder_depth": 4}),
    ("resnet34vd", {"features_only": True, "encoder_depth": 2}),
    ("resnet18", {"output_activation": "softmax", "activation": ("leaky_relu", {"negative_slope": 0.2})}),
]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=ids)
def test_options_do(name, options, dims):
    blueprint = get_blueprint(name, spatial_dims=dims, **options)
    model = hollow(blueprint)
    check_counts(model, blueprint)
    check_names(model, blueprint)
    check_walk(model, blueprint, SIZES[dims])


def test_a_model_with_memory_has_the_same_tensors():
    for name in ("resnet18", "resnet18v2", "resnet18vd", "unet"):
        model = thin(name, 3)
        check_counts(model, model.blueprint)
        check_names(model, model.blueprint)
        check_walk(model, model.blueprint, (9, 12, 7))
        assert all(value.isfinite().all() for value in model.state_dict().values())


# the failing twins: a planted defect is seen


def test_an_extra_bias_is_seen():
    model = thin("resnet18", 2)
    model.layer1[0].conv1.bias = nn.Parameter(torch.zeros(8))
    with pytest.raises(AssertionError):
        check_counts(model, model.blueprint)
    with pytest.raises(AssertionError):
        check_names(model, model.blueprint)


def test_a_lost_running_mean_and_another_order_are_seen():
    model = thin("resnet18", 2)
    model.bn1.running_mean = None
    with pytest.raises(AssertionError):
        check_counts(model, model.blueprint)
    model = thin("resnet18", 2)
    conv1 = model.conv1
    del model.conv1
    model.conv1 = conv1  # now the last
    check_counts(model, model.blueprint)
    with pytest.raises(AssertionError):
        check_names(model, model.blueprint)


def test_a_tensor_under_two_names_is_seen():
    blueprint = thin_blueprint("resnet10", 2)
    model = build(blueprint)
    model.layer2[1].bn2.weight = model.layer2[1].bn1.weight
    with pytest.raises(AssertionError):
        check_names(model, blueprint)


def planted_stride(blueprint):
    """The blueprint of another network: the last stage's first convolution strides less."""
    network = blueprint.network
    block = network.layer4.items[0]
    conv = dataclasses.replace(block.conv1, stride=(1, 1))
    down = Sequence(items=(dataclasses.replace(block.downsample.items[0], stride=(1, 1)), block.downsample.items[1]))
    layer4 = Sequence(items=(dataclasses.replace(block, conv1=conv, downsample=down), *network.layer4.items[1:]))
    return dataclasses.replace(blueprint, network=dataclasses.replace(network, layer4=layer4))


def test_another_stride_a_skipped_layer_and_another_order_are_seen():
    model = thin("resnet18", 2)
    assert isinstance(model.blueprint.network.conv1, Conv)
    with pytest.raises(AssertionError):
        check_walk(model, planted_stride(model.blueprint), (40, 40))
    model = thin("resnet18", 2)
    model.layer1[0].bn2 = nn.Identity()
    with pytest.raises(AssertionError):
        check_walk(model, model.blueprint, (40, 40))
    model = thin("resnet18", 2)
    model.layer1[0].conv2.groups = 2
    model.layer1[0].conv2.weight = nn.Parameter(model.layer1[0].conv2.weight[:, :4])
    with pytest.raises(AssertionError):  # shapes and order are right, the operations fewer
        check_walk(model, model.blueprint, (40, 40))
