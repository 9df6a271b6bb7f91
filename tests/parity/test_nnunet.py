"""nnU-Net's own networks (dynamic-network-architectures) beside ours, and their weights read and written."""

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet, ResidualUNet
from dynamic_network_architectures.building_blocks.residual import BottleneckD
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import resvox
from resvox.errors import WeightsError
from resvox.torch.layers import use_torch_instance_norms

CONV = {2: nn.Conv2d, 3: nn.Conv3d}
NORM = {("instance", 2): nn.InstanceNorm2d, ("instance", 3): nn.InstanceNorm3d,
        ("batch", 2): nn.BatchNorm2d, ("batch", 3): nn.BatchNorm3d}  # fmt: skip
KINDS = {"resenc_unet": ResidualEncoderUNet, "plain_unet": PlainConvUNet, "residual_unet": ResidualUNet}
SIZE = (8, 12, 20)  # the strides of the toy networks divide it
TOLERANCE = 1e-5  # of the largest value: the instance norms are computed by two operations of PyTorch


def peer_network(name, dims, norm="instance", **changed):
    """A toy network of nnU-Net's in evaluation, every number of it random."""
    flat = (1, *(2,) * (dims - 1)) if dims == 3 else (1, 2)
    arguments = {
        "input_channels": 2,
        "n_stages": 3,
        "features_per_stage": [4, 4, 6],
        "conv_op": CONV[dims],
        "kernel_sizes": [[1] + [3] * (dims - 1), [3] * dims, [3] * dims],
        "strides": [[1] * dims, list(flat), [2] * dims],
        "n_conv_per_stage" if name == "plain_unet" else "n_blocks_per_stage": [1, 2, 2],
        "num_classes": 3,
        "n_conv_per_stage_decoder": [2, 1],
        "conv_bias": True,
        "norm_op": NORM[norm, dims],
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
        "deep_supervision": True,
    }
    torch.manual_seed(0)
    model = KINDS[name](**{**arguments, **changed})
    for each in model.parameters():
        each.data = torch.randn_like(each) * 0.3
    for each in model.modules():
        if isinstance(each, nn.BatchNorm2d | nn.BatchNorm3d):
            each.running_mean.normal_(0, 0.2)
            each.running_var.uniform_(0.5, 1.5)
    return model.eval()


BOTTLENECK = {"block": BottleneckD, "bottleneck_channels": [2, 3, 4], "stem_channels": 5}
CASES = [
    ("resenc_unet", 3, "instance", {}),
    ("resenc_unet", 2, "batch", {}),
    ("resenc_unet", 3, "batch", BOTTLENECK),
    ("resenc_unet", 2, "instance", BOTTLENECK),
    ("plain_unet", 3, "batch", {"conv_bias": False}),
    ("plain_unet", 2, "instance", {}),
    ("plain_unet", 3, "instance", {"n_stages": 2, "features_per_stage": [4, 6], "kernel_sizes": [[3] * 3] * 2,
                                   "strides": [[1] * 3, [2] * 3], "n_conv_per_stage": [1, 1],
                                   "n_conv_per_stage_decoder": [1]}),
    ("residual_unet", 3, "instance", {}),
    ("residual_unet", 2, "batch", {}),
]  # fmt: skip
every = pytest.mark.parametrize(("name", "dims", "norm", "changed"), CASES, ids=str)


def image(dims):
    return torch.randn(2, 2, *SIZE[-dims:], generator=torch.Generator().manual_seed(1))


def largest(ours, theirs):
    return float((ours - theirs).abs().max() / theirs.abs().max())


@every
def test_a_network_made_from_the_weights_computes_the_same(name, dims, norm, changed):
    peer = peer_network(name, dims, norm, **changed)
    model = resvox.create_model_from(peer.state_dict())
    assert model.blueprint.name == name
    with torch.no_grad():
        assert largest(model(image(dims)), peer(image(dims))[0]) < TOLERANCE


@every
def test_with_pytorchs_own_instance_norm_to_the_bit(name, dims, norm, changed):
    peer = peer_network(name, dims, norm, **changed)
    model = resvox.create_model_from(peer.state_dict())
    use_torch_instance_norms(model)
    with torch.no_grad():
        assert torch.equal(model(image(dims)), peer(image(dims))[0])


@every
def test_the_heads_of_deep_supervision(name, dims, norm, changed):
    peer = peer_network(name, dims, norm, **changed)
    supervised = len(peer.decoder.seg_layers) > 1
    options = {"deep_supervision": True} if supervised else {}
    model = resvox.create_model_from(peer.state_dict(), **options).eval()
    model.training = True  # the model, not its norms
    with torch.no_grad():
        ours, theirs = model(image(dims)), peer(image(dims))
    assert isinstance(ours, list) == supervised
    for one, other in zip(ours if supervised else [ours], theirs, strict=True):
        enlarged = F.interpolate(other, size=one.shape[2:], mode="bilinear" if dims == 2 else "trilinear")
        assert largest(one, enlarged) < TOLERANCE
    assert sum(each.numel() for each in model.parameters()) == sum(each.numel() for each in set(peer.parameters()))


@every
def test_the_weights_go_back(name, dims, norm, changed, tmp_path):
    peer = peer_network(name, dims, norm, **changed)
    options = {"deep_supervision": True} if len(peer.decoder.seg_layers) > 1 else {}
    model = resvox.create_model_from(peer.state_dict(), **options)
    path = resvox.export_weights(model, tmp_path / "weights.pth", peer="nnunet")
    written = torch.load(path, weights_only=True)
    wanted = peer.state_dict()
    assert written.keys() == wanted.keys()
    assert all(torch.equal(written[key], value) for key, value in wanted.items())


def test_without_those_heads_they_do_not(tmp_path):
    model = resvox.create_model_from(peer_network("resenc_unet", 2).state_dict())
    with pytest.raises(WeightsError, match=r"without the heads of deep supervision.*expected deep_supervision=True"):
        resvox.export_weights(model, tmp_path / "weights.pth", peer="nnunet")


def test_an_existing_model_is_filled_with_or_without_heads():
    peer = peer_network("resenc_unet", 2)
    options = {"spatial_dims": 2, "in_channels": 2, "num_classes": 3, "features": (4, 4, 6), "depths": (1, 2, 2),
               "kernels": ((1, 3), 3, 3), "strides": (1, (1, 2), 2), "decoder_depths": (2, 1)}  # fmt: skip
    plain = resvox.create_model("resenc_unet", **options).eval()
    report = resvox.load_weights(plain, peer.state_dict())
    assert report.peer == "nnU-Net v2"
    assert "a head of deep supervision" in report.dropped.values()
    supervised = resvox.create_model("resenc_unet", deep_supervision=True, **options).eval()
    report = resvox.load_weights(supervised, peer.state_dict())
    assert "supervision.0.conv.weight" in report.used
    with torch.no_grad():
        assert torch.equal(plain(image(2)), supervised(image(2)))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_wrappers(prefix):
    state = {prefix + name: value for name, value in peer_network("resenc_unet", 2).state_dict().items()}
    assert resvox.create_model_from(state).blueprint.name == "resenc_unet"


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("encoder.stages.1.blocks.0.conv1.all_modules.0.weight", "encoder.stages.1.blocks.0.conv1.conv.weight"),
        ("decoder.encoder.stem.convs.0.norm.bias", "encoder.stem.convs.0.norm.bias"),
        (
            "decoder.encoder.stages.2.blocks.0.skip.1.all_modules.1.weight",
            "encoder.stages.2.blocks.0.skip.1.norm.weight",
        ),
        ("decoder.stages.0.convs.1.all_modules.1.bias", "decoder.stages.0.convs.1.norm.bias"),
    ],
)
def test_two_names_of_one_tensor_that_disagree_are_refused(name, first):
    state = dict(peer_network("resenc_unet", 2).state_dict())
    state[name] = state[name] + 1e-6
    with pytest.raises(WeightsError) as caught:
        resvox.create_model_from(state)
    assert f"different values: {name} and {first};" in str(caught.value)


def test_a_tensor_too_few_or_too_many_is_refused_by_name():
    peer = peer_network("plain_unet", 2)
    state = {key: value for key, value in peer.state_dict().items() if "convs.1.norm.bias" not in key}
    with pytest.raises(WeightsError, match=r"missing: encoder\.stages\.1\.0\.convs\.1\.norm\.bias"):
        resvox.create_model_from({k: v for k, v in state.items() if "convs.1.all_modules.1.bias" not in k})
    with pytest.raises(WeightsError, match=r"unknown: encoder\.stages\.0\.0\.convs\.0\.se\.weight"):
        resvox.create_model_from({**peer.state_dict(), "encoder.stages.0.0.convs.0.se.weight": torch.ones(1)})


# --- the published presets -----------------------------------------------------------------------------------------


def published(dims, stages, largest_features):
    features = [min(32 * 2**stage, largest_features) for stage in range(stages)]
    return {
        "input_channels": 1,
        "n_stages": stages,
        "features_per_stage": features,
        "kernel_sizes": [[3] * dims] * stages,
        "strides": [[1] * dims, *[[2] * dims] * (stages - 1)],
        "n_blocks_per_stage": [1, 3, 4, 6, 6, 6, 6, 6, 6][:stages],
        "n_conv_per_stage_decoder": [1] * (stages - 1),
    }


@pytest.mark.parametrize(
    ("preset", "dims", "stages", "patch"),
    [("M", 3, 6, (128,) * 3), ("L", 3, 6, (192,) * 3), ("XL", 3, 6, (256, 224, 224)), ("L", 2, 8, (896, 768)),
     ("XL", 2, 9, (1024, 1024))],
)  # fmt: skip
def test_presets_have_nnunets_parameters_and_operations(preset, dims, stages, patch):
    blueprint = resvox.get_blueprint(
        "resenc_unet", spatial_dims=dims, in_channels=1, num_classes=3, preset=preset, deep_supervision=True
    )
    with torch.device("meta"):
        arguments = published(dims, stages, {2: 512, 3: 320}[dims])
        peer = ResidualEncoderUNet(
            conv_op=CONV[dims], num_classes=3, conv_bias=True, norm_op=NORM["instance", dims],
            norm_op_kwargs={"eps": 1e-5, "affine": True}, nonlin=nn.LeakyReLU, nonlin_kwargs={"inplace": True},
            deep_supervision=True, **arguments,
        )  # fmt: skip
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter:
            peer(torch.zeros(1, 1, *patch))
    assert blueprint.parameters == sum(each.numel() for each in set(peer.parameters()))
    assert blueprint.flops(patch) == counter.get_total_flops()
