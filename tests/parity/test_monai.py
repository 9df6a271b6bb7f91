import pytest
import torch
from monai.networks import nets
from monai.networks.nets.resnet import ResNet, ResNetBlock
from parity.peers import DEEP, FLAT, TOLERANCE, difference, on_meta, ours, take

DEPTHS = (10, 18, 34, 50, 101, 152, 200)


def compare(depth, dims, record_property, shortcut="projection"):
    model = ours(f"resnet{depth}", spatial_dims=dims, in_channels=1, num_classes=4, shortcut=shortcut)
    peer = on_meta(
        getattr(nets, f"resnet{depth}"), spatial_dims=dims, n_input_channels=1, num_classes=4, conv1_t_stride=2,
        bias_downsample=False, shortcut_type="B" if shortcut == "projection" else "A",
    )  # fmt: skip
    assert set(peer.state_dict()) == set(model.state_dict())
    found = difference(model, take(peer, model.state_dict()), FLAT if dims == 2 else DEEP)
    record_property("difference", found)
    assert found <= TOLERANCE


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("depth", DEPTHS)
def test_monais_networks_with_the_same_names_and_numbers(depth, dims, record_property):
    compare(depth, dims, record_property)


@pytest.mark.parametrize("depth", [18, 34])
def test_the_zero_padded_shortcut(depth, record_property):
    """MONAI's shortcut of type A, which its 18 and 34 deep checkpoints have."""
    compare(depth, 3, record_property, shortcut="zero_pad")


def test_norm_reaches_further_here_than_there():
    """MONAI's ``norm`` stops at the stem; such a checkpoint does not fit a network with instance norm."""
    peer = on_meta(
        ResNet, ResNetBlock, [1, 1, 1, 1], [64, 128, 256, 512], n_input_channels=1, num_classes=4,
        norm=("instance", {"affine": True}),
    )  # fmt: skip
    model = ours("resnet10", spatial_dims=3, in_channels=1, num_classes=4, norm="instance")
    assert any(isinstance(module, torch.nn.BatchNorm3d) for module in peer.modules())
    assert not any(isinstance(module, torch.nn.BatchNorm3d) for module in model.modules())


def test_another_stride_of_the_stem_is_seen():
    model = ours("resnet10", spatial_dims=3, in_channels=1, num_classes=4, shortcut="zero_pad")
    peer = on_meta(
        ResNet, ResNetBlock, [1, 1, 1, 1], [64, 128, 256, 512], n_input_channels=1, num_classes=4, conv1_t_stride=1,
        bias_downsample=False, shortcut_type="A",
    )  # fmt: skip
    take(peer, model.state_dict())
    assert difference(model, peer, DEEP) > 100 * TOLERANCE  # the peer's stem keeps the size of the first axis
