import pytest
import torch
from parity.peers import DEEP, FLAT, TOLERANCE, difference, on_meta, ours, take

from resvox.torch import ResNet

CLASSIFIERS = {
    "resnet18": "resnet18",
    "resnet34": "resnet34",
    "resnet50": "resnet50",
    "resnet101": "resnet101",
    "resnet152": "resnet152",
    "resnext50": "resnext50_32x4d",
    "resnext101": "resnext101_32x8d",
    "resnext101_64x4d": "resnext101_64x4d",
    "wide_resnet50": "wide_resnet50_2",
    "wide_resnet101": "wide_resnet101_2",
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_classifiers_with_the_same_names_and_numbers(name, record_property):
    import torchvision

    model = ours(name)
    peer = on_meta(torchvision.models.get_model, CLASSIFIERS[name])
    assert list(peer.state_dict()) == list(model.state_dict())
    found = difference(model, take(peer, model.state_dict()), FLAT)
    record_property("difference", found)
    assert found <= TOLERANCE


@pytest.mark.parametrize(
    ("dilate", "output_stride"), [((False, False, True), 16), ((False, True, True), 8)], ids=["16", "8"]
)
def test_dilation_instead_of_stride(dilate, output_stride, record_property):
    import torchvision

    model = ours("resnet50", output_stride=output_stride)
    peer = on_meta(torchvision.models.resnet50, replace_stride_with_dilation=list(dilate))
    found = difference(model, take(peer, model.state_dict()), FLAT)
    record_property("difference", found)
    assert found <= TOLERANCE


def test_pooled_features_are_the_peers_before_its_classifier():
    import torchvision

    model = ours("resnet18", num_classes=0)
    peer = on_meta(torchvision.models.resnet18)
    peer.fc = torch.nn.Identity()
    assert difference(model, take(peer, model.state_dict()), FLAT) <= TOLERANCE


def video_names(state):
    """Our names under those of torchvision's video networks: conv1 is conv1.0, bn1 is conv1.1."""
    renamed = {}
    for name, value in state.items():
        first, *rest = name.split(".")
        if first in ("conv1", "bn1"):
            name = ".".join(["stem", "0" if first == "conv1" else "1", *rest])
        elif first.startswith("layer") and rest[1][:-1] in ("conv", "bn"):
            place = "0" if rest[1].startswith("conv") else "1"
            name = ".".join([first, rest[0], f"conv{rest[1][-1]}", place, *rest[2:]])
        renamed[name] = value
    return renamed


def test_r3d_18_by_options(record_property):
    import torchvision

    model = ours("resnet18", spatial_dims=3, num_classes=400, stem_kernel=(3, 7, 7), strides=((1, 2, 2), 1, 2, 2, 2))
    peer = on_meta(torchvision.models.video.r3d_18)
    found = difference(model, take(peer, video_names(model.state_dict())), [(8, 32, 32), (9, 33, 47)])
    record_property("difference", found)
    assert found <= TOLERANCE


# the failing twins: what parity must not forgive


def test_stride_in_another_convolution_is_seen():
    """ResNet v1 as first published strides in the first convolution; torchvision (v1.5) in the second."""
    import torchvision

    model = ours("resnet26", depths=(1, 1, 1, 1))
    peer = on_meta(torchvision.models.ResNet, torchvision.models.resnet.Bottleneck, [1, 1, 1, 1])
    take(peer, model.state_dict())
    assert difference(model, peer, FLAT[1:]) <= TOLERANCE
    peer.layer2[0].conv1.stride, peer.layer2[0].conv2.stride = (2, 2), (1, 1)
    assert difference(model, peer, FLAT[1:]) > 100 * TOLERANCE


def test_a_statistic_that_is_not_used_is_seen():
    import torchvision

    model = ours("resnet18", depths=(1, 1, 1, 1))
    peer = take(on_meta(torchvision.models.ResNet, torchvision.models.resnet.BasicBlock, [1] * 4), model.state_dict())
    model.layer4[0].bn2.running_var = model.layer4[0].bn2.running_var * 1.001
    assert isinstance(model, ResNet)
    assert difference(model, peer, FLAT[1:]) > TOLERANCE


def test_a_key_too_many_is_refused():
    import torchvision

    state = {**ours("resnet18").state_dict(), "layer1.0.se.fc1.weight": torch.zeros(1)}
    with pytest.raises(RuntimeError, match="Unexpected key"):
        take(on_meta(torchvision.models.resnet18), state)


def test_volumes_have_no_peer_here_but_keep_the_names():
    flat, deep = ours("resnet18"), ours("resnet18", spatial_dims=3)
    assert list(flat.state_dict()) == list(deep.state_dict())
    with torch.no_grad():
        assert deep(torch.randn(1, 3, *DEEP[0])).shape == (1, 1000)
