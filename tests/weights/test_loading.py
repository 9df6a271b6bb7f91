"""Weights that fit, weights that do not, and what is said about them."""

import json

import numpy as np
import pytest
import torch

import resvox
from resvox.errors import WeightsError
from resvox.weights import LoadReport

SMALL = {"widths": (4,) * 4, "stem_width": 4, "depths": (1,) * 4}


def refused(words, model, source, **said):
    with pytest.raises(WeightsError) as caught:
        resvox.load_weights(model, source, **said)
    assert words in str(caught.value), str(caught.value)
    return str(caught.value)


def test_a_load_changes_what_it_says_and_nothing_else(thin):
    given, model = thin(seed=1), thin(seed=2).train()
    state = dict(given.state_dict())
    report = resvox.load_weights(model, state)
    assert isinstance(report, LoadReport)
    assert model.training  # loading is no reason to stop training
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert report.used == tuple(model.blueprint.tensors())
    assert set(report.dropped.values()) == {"a step counter that is not used"}
    assert "tensors from a state dict (torchvision-style)" in str(report)
    assert json.loads(json.dumps(report.to_dict()))["used"] == len(report.used)


def test_a_refused_load_changes_nothing(thin):
    model = thin(seed=2)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = dict(thin(seed=1).state_dict())
    state["layer4.0.bn2.bias"] = torch.zeros(5)
    refused("misshapen: layer4.0.bn2.bias (5,) for (4,)", model, state)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_everything_that_is_wrong_is_told_at_once(thin):
    state = dict(thin().state_dict())
    del state["layer1.0.bn1.weight"], state["layer2.0.bn2.bias"]
    state["layer3.0.conv1.weight"] = state["layer3.0.conv1.weight"][:2]
    state["extra.weight"] = torch.ones(3)
    text = refused("missing: layer1.0.bn1.weight, layer2.0.bn2.bias", thin(), state)
    for words in ("unknown: extra.weight", "misshapen: layer3.0.conv1.weight (2, 4, 3, 3) for (4, 4, 3, 3)"):
        assert words in text
    assert len(text) < 1500


@pytest.mark.parametrize(
    ("options", "words", "option"),
    [
        ({"norm": ("batch", {"eps": 1e-3})}, "bn1 eps 1e-05 for 0.001", "norm"),
        ({"activation": "silu"}, "act1 activation 'relu' for 'silu'", "the options activation of the model"),
        ({"norm": "group"}, "bn1 norm 'batch' for 'group'", "the options norm of the model"),
        ({"strides": (1, 2, 2, 2, 2)}, "conv1 stride (2, 2) for (1, 1)", "strides"),
        ({"dilate_first_block": True, "output_stride": 8}, "dilation", "dilate_first_block"),
    ],
)
def test_a_model_that_computes_something_else_is_refused_with_the_option(thin, options, words, option):
    text = refused(words, thin(**options), thin().state_dict())
    assert "computes something else" in text
    assert option in text
    assert "create_model_from" in text


def test_stride_placement_is_told():
    options = {"depths": (1, 1, 1, 1), "widths": (4, 4, 4, 4), "stem_width": 4, "num_classes": 2}
    v15, v1 = resvox.create_model("resnet50", **options), resvox.create_model("resnet50", stride_on="conv1", **options)
    text = refused("layer2.0.conv1 stride (1, 1) for (2, 2)", v1, v15.state_dict())
    assert "stride_on" in text


def test_what_training_alone_needs_is_no_difference(thin):
    model = thin(
        drop_path=0.2, zero_init_residual=True, norm=("batch", {"momentum": 0.01}), output_activation="softmax"
    )
    assert resvox.load_weights(model, thin().state_dict()).unspecified == ()


def test_dilation_that_no_file_tells_is_taken_from_the_model_and_told(thin):
    widths = (4, 6, 8, 10)
    report = resvox.load_weights(thin(output_stride=16, widths=widths), thin(widths=widths).state_dict())
    assert len(report.unspecified) == 1
    assert "output_stride" in report.unspecified[0]


def test_heads(thin):
    state = thin().state_dict()
    other = thin(num_classes=5)
    mine = other.fc.weight.clone()
    text = refused("misshapen: fc.weight (3, 4) for (5, 4), fc.bias (3,) for (5,)", other, state)
    assert "fix: classifier='drop' keeps the model's own head" in text
    report = resvox.load_weights(other, state, classifier="drop")
    assert torch.equal(other.fc.weight, mine)
    assert report.dropped["fc.weight"] == "the source's head"
    assert report.kept == {"fc.weight": "the model's own head", "fc.bias": "the model's own head"}
    backbone = resvox.create_model("resnet18", features_only=True, **SMALL)
    assert "classifier='drop' leaves it out" in refused("of another head: fc.weight, fc.bias", backbone, state)
    resvox.load_weights(backbone, state, classifier="drop")
    headless = {key: value for key, value in state.items() if not key.startswith("fc.")}
    assert "classifier='drop' leaves the model's head" in refused("missing: fc.weight, fc.bias", thin(), headless)
    assert set(resvox.load_weights(thin(), headless, classifier="drop").kept) == {"fc.weight", "fc.bias"}


def test_a_residual_network_into_the_encoder_of_a_segmenter(thin):
    state = thin().state_dict()
    for depth in (5, 3):
        model = resvox.create_model("unet", encoder_name="resnet18", encoder_depth=depth, **SMALL,
                                    decoder_filters=(4,) * 5)  # fmt: skip
        report = resvox.load_weights(model, state, classifier="drop")
        assert all(name.startswith("encoder.") for name in report.used)
        assert torch.equal(model.encoder.conv1.weight, state["conv1.weight"])
        assert set(report.kept.values()) == {"beside the encoder"}
        deeper = [name for name, why in report.dropped.items() if why == "deeper than the model"]
        assert bool(deeper) == (depth < 5)
        assert all(name.startswith(("layer3", "layer4")) for name in deeper)


def test_a_preactivation_network_into_an_encoder_leaves_its_last_norm(thin):
    state = thin("resnet18v2").state_dict()
    model = resvox.create_model("unet", encoder_name="resnet18v2", **SMALL, decoder_filters=(4,) * 5)
    report = resvox.load_weights(model, state, classifier="drop")
    assert {"norm.weight", "head.fc.weight"} <= set(report.dropped)


def test_our_own_model_file_and_state_dict(tmp_path, thin):
    model = thin(norm="group", activation="silu", strides=(1, 2, 2, 2, 2))
    path = resvox.save_model(model, tmp_path / "model.safetensors")
    for source in (path, model.state_dict()):
        other = thin(seed=5, norm="group", activation="silu", strides=(1, 2, 2, 2, 2))
        report = resvox.load_weights(other, source, peer="resvox")
        assert report.peer == "resvox"
        assert all(torch.equal(value, model.state_dict()[key]) for key, value in other.state_dict().items())
    assert "act1 activation 'silu' for 'relu'" in refused("computes something else", thin(norm="group",
                                                     strides=(1, 2, 2, 2, 2)), path)  # fmt: skip
    again = resvox.create_model_from(path)
    assert again.blueprint == model.blueprint


def test_a_unet_of_ours_by_its_state_dict(thin):
    made = {"encoder_name": "resnet18", "decoder_filters": (4,) * 5, **SMALL}
    model = resvox.create_model("unet", **made)
    other = resvox.create_model("unet", **made)
    assert resvox.load_weights(other, model.state_dict()).peer == "resvox"
    state = dict(model.state_dict())
    del state["decoder.blocks.0.conv1.weight"]
    refused("missing: decoder.blocks.0.conv1.weight", other, state)
    with pytest.raises(WeightsError, match="a resvox state dict without its blueprint"):
        resvox.create_model_from(model.state_dict(), peer="resvox")


@pytest.mark.parametrize(("dtype", "how"), [(np.float16, "float16 to float32, exactly"),
                                            (np.float64, "float64 to float32, rounded")])  # fmt: skip
def test_other_precisions_are_told(thin, dtype, how):
    state = {key: value.numpy().astype(dtype) for key, value in thin().state_dict().items() if "num_" not in key}
    report = resvox.load_weights(thin(seed=3), state)
    assert set(report.adapted.values()) == {how}


def test_whole_numbers_are_no_weights(thin):
    state = {key: value.numpy().astype(np.int32) for key, value in thin().state_dict().items()}
    refused("not numbers with a point: conv1.weight int32", thin(), state)


def test_peers_that_share_names_must_be_told_apart():
    state = resvox.create_model("resnet18", spatial_dims=3, num_classes=4, **SMALL).state_dict()
    with pytest.raises(WeightsError, match="fix: say peer='kenshohara' or 'medicalnet' or 'monai'"):
        resvox.create_model_from(state)
    stride = resvox.create_model_from(state, peer="kenshohara").conv1.stride
    assert stride == (1, 2, 2)
    assert resvox.create_model_from(state, peer="monai").conv1.stride == (1, 1, 1)
    model = resvox.create_model_from(state, peer="monai", strides=(2, 2, 2, 2, 2))
    assert model.conv1.stride == (2, 2, 2)
    told = resvox.weights.origin_of(model)["untold"]
    assert told == ["conv1 stride (2, 2, 2), where the peer's default is (1, 1, 1)"]


def test_names_of_nobody(thin):
    with pytest.raises(WeightsError, match=r"names that no peer uses, such as a\.weight"):
        resvox.create_model_from({"a.weight": torch.ones(2, 2)})
    with pytest.raises(WeightsError, match="a Linear without a blueprint"):
        resvox.load_weights(torch.nn.Linear(2, 2), {})


def test_axes_are_not_changed_unasked(thin):
    deep = resvox.create_model("resnet18", spatial_dims=3, num_classes=3, **SMALL)
    text = refused("2D weights for a 3D model", deep, thin().state_dict())
    assert "inflate='centre' or 'average'" in text
    refused("3D weights for a 2D model", thin(), deep.state_dict(), peer="monai")


# --- writing ----------------------------------------------------------------------------------------------------


def test_a_network_that_a_peer_has_not_is_not_written_for_it(thin, tmp_path):
    for model, peer, words in (
        (
            thin(norm=("batch", {"eps": 1e-3})),
            "torchvision",
            "torchvision computes something else .*eps 1e-05 for 0.001",
        ),
        (thin("resnet18v2"), "smp", "'resnet18v2', a network that smp does not have"),
        (thin("resnet18"), "medicalnet", "'resnet18', a network that medicalnet does not have"),
        (
            thin("resnet50"),
            "keras.applications",
            "keras.applications computes something else than 'resnet50': .*stride",
        ),
        (thin(), "resvox", "resvox.save_model writes our own files"),
        (thin(), "unknown", "peer='unknown'; expected one of torchvision"),
    ):
        with pytest.raises(WeightsError, match=words):
            resvox.export_weights(model, tmp_path / "x.pth", peer=peer)
    with pytest.raises(WeightsError, match=r"the ending of 'x\.h5' for torchvision weights; expected one of \.pth"):
        resvox.export_weights(thin(), tmp_path / "x.h5", peer="torchvision")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", [".pth", ".pt", ".bin", ".safetensors", ".npz"])
def test_every_ending_comes_back(thin, tmp_path, ending):
    model = thin()
    path = resvox.export_weights(model, tmp_path / "deep" / f"x{ending}", peer="timm")
    again = resvox.create_model_from(path)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in again.state_dict().items())
    assert again.blueprint.network == model.blueprint.network
