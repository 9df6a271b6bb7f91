import pytest
import torch
from parity.peers import FLAT, TOLERANCE, difference, on_meta, ours, take

# under timm's names: the keys are equal
ROWS = {
    "resnet26": "resnet26",
    "resnet18vd": "resnet18d",
    "resnet34vd": "resnet34d",
    "resnet50vd": "resnet50d",
    "resnet101vd": "resnet101d",
    "resnet152vd": "resnet152d",
    "resnet200d": "resnet200d",
    "resnet200": "resnet200",
    "seresnet18": "seresnet18",
    "seresnet34": "seresnet34",
    "seresnet50": "seresnet50",
    "seresnet101": "seresnet101",
    "seresnet152": "seresnet152",
    "seresnext50": "seresnext50_32x4d",
    "seresnext101": "seresnext101_32x8d",
    "resnext101_32x4d": "resnext101_32x4d",
    "resnet18v2": "resnetv2_18",
    "resnet34v2": "resnetv2_34",
    "resnet50v2": "resnetv2_50",
    "resnet101v2": "resnetv2_101",
    "resnet152v2": "resnetv2_152",
}
BY_OPTIONS = [
    ("resnet50", {"stem": "deep"}, "resnet50c", {}),
    ("resnet50vd", {"depths": (2, 2, 2, 2)}, "resnet26d", {}),
    ("resnet50vd", {"groups": 32, "width_per_group": 4}, "resnext50d_32x4d", {}),
    ("resnet50vd", {"se_ratio": 16, "depths": (1, 2, 1, 1)}, "seresnet152d", {"layers": (1, 2, 1, 1)}),
    ("resnet50", {"norm": ("group", {"num_groups": 32})}, "resnet50_gn", {}),
    ("resnet50", {"output_stride": 8}, "resnet50", {"output_stride": 8}),
    ("resnet18", {"output_stride": 16}, "resnet18", {"output_stride": 16}),
    ("resnet50v2", {"output_stride": 8}, "resnetv2_50", {"output_stride": 8}),
    ("resnet50vd", {"output_stride": 8}, "resnet50d", {"output_stride": 8}),
    ("resnet18vd", {"output_stride": 16}, "resnet18d", {"output_stride": 16}),
    ("resnet18v2", {"output_stride": 16}, "resnetv2_18", {"output_stride": 16}),
    ("resnet18", {"activation": "silu", "num_classes": 10}, "resnet18", {"act_layer": "silu", "num_classes": 10}),
    ("resnet26", {"in_channels": 1}, "resnet26", {"in_chans": 1}),
]


def with_head_of_timm(state):
    """timm's pre-activation head is a convolution of one voxel, ours the linear layer that it is."""
    name = "head.fc.weight"
    return {**state, name: state[name][:, :, None, None]} if name in state else state


def compare(name, options, peer_name, peer_options, record_property, sizes=FLAT):
    import timm

    model = ours(name, **options)
    peer = on_meta(timm.create_model, peer_name, **peer_options)
    assert set(peer.state_dict()) == set(model.state_dict())
    take(peer, with_head_of_timm(model.state_dict()))
    found = difference(model, peer, sizes)
    record_property("difference", found)
    assert found <= TOLERANCE
    return model, peer


@pytest.mark.parametrize("name", ROWS)
def test_rows_with_the_same_names_and_numbers(name, record_property):
    compare(name, {}, ROWS[name], {}, record_property)


@pytest.mark.parametrize(("name", "options", "peer_name", "peer_options"), BY_OPTIONS)
def test_options_with_the_same_names_and_numbers(name, options, peer_name, peer_options, record_property):
    compare(name, options, peer_name, peer_options, record_property)


@pytest.mark.parametrize(("name", "peer_name"), [("resnet18", "resnet18"), ("resnet50vd", "resnet50d")])
def test_pyramids_are_the_peers_features(name, peer_name):
    import timm

    model = ours(name, features_only=True)
    peer = on_meta(timm.create_model, peer_name, features_only=True)
    take(peer, model.state_dict())
    x = torch.randn(1, 3, 65, 71)
    with torch.no_grad():
        for a, b in zip(model(x), peer(x), strict=True):
            assert a.shape == b.shape
            assert float((a - b).abs().max() / b.abs().max()) <= TOLERANCE
    assert model.feature_info.channels() == peer.feature_info.channels()
    assert model.feature_info.reduction() == peer.feature_info.reduction()


def test_another_squeeze_is_seen():
    import timm

    model = ours("seresnet18", depths=(1, 1, 1, 1))
    peer = on_meta(timm.create_model, "seresnet18", layers=(1, 1, 1, 1))
    take(peer, model.state_dict())
    assert difference(model, peer, FLAT[1:]) <= TOLERANCE
    peer.layer1[0].se.gate = torch.nn.Hardsigmoid()
    assert difference(model, peer, FLAT[1:]) > 10 * TOLERANCE
