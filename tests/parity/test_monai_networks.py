"""MONAI's SegResNet, SegResNetDS and UNet: their files in our models, against MONAI's own code, and back."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import SegResNet, SegResNetDS, SegResNetVAE, UNet

import resvox
from resvox.errors import WeightsError
from resvox.weights import create_model_from, export_weights, load_weights

LEVELS = {"channels": (8, 12, 16), "strides": (2, 2)}
BLOCKS = {"init_filters": 8, "blocks_down": (1, 2, 1), "blocks_up": (1, 1)}
# MONAI's class and options, and what no file records: options for create_model_from
CASES = {
    "segresnet": (SegResNet, BLOCKS, {}),
    "segresnet-deconv": (SegResNet, {**BLOCKS, "upsample_mode": "deconv", "dropout_prob": 0.2}, {}),
    "segresnet-old-norm": (SegResNet, {**BLOCKS, "norm_name": "group", "num_groups": 8}, {}),
    "segresnet-batch": (SegResNet, {**BLOCKS, "norm": "batch"}, {}),
    "segresnet-4-groups": (SegResNet, {**BLOCKS, "norm": ("group", {"num_groups": 4})},
                           {"norm": ("group", {"num_groups": 4})}),
    "segresnet_ds": (SegResNetDS, BLOCKS, {}),
    "segresnet_ds-deep-flat": (SegResNetDS, {**BLOCKS, "dsdepth": 2, "resolution": (2.5, 0.8, 0.8)}, {}),
    "segresnet_ds-instance": (SegResNetDS, {**BLOCKS, "norm": "instance", "blocks_up": (2, 1)}, {}),
    "unet": (UNet, {**LEVELS, "num_res_units": 2}, {}),
    "unet-batch-4": (UNet, {**LEVELS, "num_res_units": 4, "norm": "batch", "dropout": 0.15}, {}),
    "unet-plain": (UNet, {**LEVELS, "num_res_units": 0, "bias": False}, {}),
    "unet-two-levels": (UNet, {"channels": (8, 12), "strides": (2,), "num_res_units": 1, "act": "relu"}, {}),
    "unet-strides": (UNet, {"channels": (8, 12, 16), "strides": ((1, 2, 2), 3), "num_res_units": 2, "kernel_size": 5},
                     {"strides": ((1, 2, 2), 3)}),
    "unet-flat-top": (UNet, {"channels": (8, 12, 16), "strides": (1, 2), "num_res_units": 2}, {}),
}  # fmt: skip
SIZE = (24, 12, 12)  # all strides divide it


def peer_of(case, dims, seed=0):
    """MONAI's network with random weights and statistics, in evaluation."""
    kind, options, given = CASES[case]
    options, given = dict(options), dict(given)
    for each in (options, given):
        if "resolution" in each:
            each["resolution"] = each["resolution"][-dims:] if dims == 3 else (2.5, 0.8)
        if "strides" in each:
            each["strides"] = tuple(n[-dims:] if isinstance(n, tuple) else n for n in each["strides"])
    torch.manual_seed(seed)
    model = kind(spatial_dims=dims, in_channels=2, out_channels=3, **options)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif name.endswith("running_mean") or value.ndim == 1:
                value.normal_(0.1, 0.3)
    return model.eval(), given


def difference(theirs, ours, dims):
    x = torch.randn(1, 2, *SIZE[:dims])
    with torch.no_grad():
        wanted, found = theirs(x), ours(x)
    wanted = wanted[0] if isinstance(wanted, (list, tuple)) else wanted
    return ((found - wanted).abs().max() / wanted.abs().max()).item()


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("case", CASES)
def test_a_file_of_monai_computes_what_monai_does_and_goes_back(case, dims, tmp_path):
    theirs, given = peer_of(case, dims)
    path = tmp_path / "model.pt"
    torch.save({"state_dict": theirs.state_dict(), "epoch": 3} if dims == 2 else theirs.state_dict(), path)
    ours = create_model_from(path, **given)
    assert difference(theirs, ours, dims) <= 1e-5
    assert resvox.Blueprint.from_json(ours.blueprint.to_json()) == ours.blueprint

    again, _ = peer_of(case, dims, seed=1)
    back = tmp_path / "back.pt"
    export_weights(ours, back, peer="monai")
    again.load_state_dict(torch.load(back, weights_only=True), strict=True)
    assert difference(again, ours, dims) <= 1e-5


def test_the_variational_branch_is_left_out():
    torch.manual_seed(0)
    theirs = SegResNetVAE((16, 16, 16), in_channels=2, out_channels=3, vae_nz=4, **BLOCKS)
    ours = create_model_from(theirs.state_dict())
    theirs = theirs.eval()
    x = torch.randn(1, 2, 16, 16, 16)
    with torch.no_grad():
        assert torch.allclose(ours(x), theirs(x)[0], atol=1e-5)


def test_weights_for_other_classes_keep_the_head_of_the_model():
    theirs, _ = peer_of("unet", 3)
    ours = resvox.create_model("monai_unet", spatial_dims=3, in_channels=2, num_classes=7, **LEVELS)
    before = ours.head.up.conv.weight.clone()
    with pytest.raises(WeightsError, match=r"classifier='drop' keeps the model's own head"):
        load_weights(ours, theirs.state_dict())
    report = load_weights(ours, theirs.state_dict(), classifier="drop")
    assert torch.equal(ours.head.up.conv.weight, before)
    assert torch.equal(ours.encoder.levels[0].shortcut.weight, theirs.state_dict()["model.0.residual.weight"])
    assert "head.up.conv.weight" in report.kept


def test_strides_are_the_models_because_no_file_has_them():
    theirs, _ = peer_of("unet", 3)
    ours = resvox.create_model("monai_unet", spatial_dims=3, in_channels=2, num_classes=3, channels=(8, 12, 16),
                               strides=(4, 2))  # fmt: skip
    report = load_weights(ours, theirs.state_dict())
    assert any("levels.0.convs.0.conv stride (4, 4, 4)" in each for each in report.unspecified)


def test_a_missing_and_an_unknown_tensor_are_named():
    state = peer_of("segresnet", 2)[0].state_dict()
    state["up_samples.0.1.conv_block.weight"] = state.pop("down_layers.1.0.conv.weight")
    with pytest.raises(WeightsError, match=r"up_samples\.0\.1\.conv_block\.weight") as caught:
        load_weights(resvox.create_model("segresnet", in_channels=2, num_classes=3, **BLOCKS), state, peer="monai")
    assert "down_layers.1.0.conv.weight" in str(caught.value)
