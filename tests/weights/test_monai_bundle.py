"""MONAI bundles: their configuration is data; the network and its weights become a model."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from monai.networks.nets import SegResNet, UNet

import resvox
from resvox.errors import WeightsError
from resvox.weights import create_model_from
from resvox.workflow import convert

UNET = {
    "_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": "@channels",
    "strides": [2, "@top::stride"], "num_res_units": 2, "norm": "batch", "dropout": 0.1,
}  # fmt: skip
SEGRESNET = {
    "_target_": "monai.networks.nets.SegResNet", "spatial_dims": 2, "in_channels": 1, "out_channels": 3,
    "init_filters": 8, "blocks_down": [1, 2], "blocks_up": [1], "norm_name": "group", "num_groups": 4,
    "dropout_prob": None,
}  # fmt: skip


def write_bundle(folder, network, model, *, ending=".json", **further):
    config = {
        "imports": ["$import glob"],
        "channels": [4, 6, 8],
        "top": {"stride": 4},
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": network,
        "network": "$@network_def.to(@device)",
        **further,
    }
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs" / "metadata.json").write_text(json.dumps({"version": "0.0.1"}))
    text = json.dumps(config) if ending == ".json" else yaml.safe_dump(config)
    (folder / "configs" / f"inference{ending}").write_text(text)
    torch.save(model.state_dict(), folder / "models" / "model.pt")
    return folder


def unet():
    torch.manual_seed(0)
    return UNet(3, 1, 2, (4, 6, 8), (2, 4), num_res_units=2, norm="batch").eval()


@pytest.mark.parametrize("ending", [".json", ".yaml"])
def test_strides_and_norm_come_from_the_configuration(tmp_path, ending):
    theirs = unet()
    ours = create_model_from(write_bundle(tmp_path / "spleen", UNET, theirs, ending=ending))
    x = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        assert torch.allclose(ours(x), theirs(x), atol=1e-5)
    assert ours.blueprint.network.encoder.strides == ((2, 2, 2), (4, 4, 4), (1, 1, 1))


def test_a_bundle_becomes_one_file(tmp_path):
    torch.manual_seed(0)
    theirs = SegResNet(2, 8, 1, 3, norm_name="group", num_groups=4, blocks_down=(1, 2), blocks_up=(1,)).eval()
    bundle = write_bundle(tmp_path / "whole", SEGRESNET, theirs)
    result = convert(bundle, tmp_path / "model.safetensors", to="torch")
    assert result.model == "segresnet"
    x = torch.randn(1, 1, 16, 16)
    with torch.no_grad():
        assert torch.allclose(resvox.load_model(result.path)(x), theirs(x), atol=1e-5)


BAD = [
    ({"in_channels": "$__import__('os').system('touch ran')"}, r"network_def\.in_channels is Python code .*never run"),
    ({"channels": "@nothing"}, r"network_def\.channels refers to 'nothing'; expected a key of the configuration"),
    ({"channels": "@network_def::channels"}, r"refers to itself"),
    ({"_target_": "os.system"}, r"_target_ 'system'; expected one of SegResNet, SegResNetDS, UNet"),
    ({"adn_ordering": "AND"}, r"network_def\.adn_ordering of monai_unet; expected one of spatial_dims"),
]


@pytest.mark.parametrize(("changes", "text"), BAD, ids=[next(iter(each)) for each, _ in BAD])
def test_what_is_no_value_is_refused_by_name_and_nothing_runs(tmp_path, monkeypatch, changes, text):
    monkeypatch.chdir(tmp_path)
    bundle = write_bundle(tmp_path / "bundle", {**UNET, **changes}, unet())
    with pytest.raises(WeightsError, match=text) as caught:
        create_model_from(bundle)
    assert "inference.json" in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_missing_weights_and_broken_configurations_are_named(tmp_path):
    bundle = write_bundle(tmp_path / "bundle", UNET, unet())
    (bundle / "models" / "model.pt").unlink()
    with pytest.raises(WeightsError, match=r"a bundle without models/model\.pt; .*large_files\.yml"):
        create_model_from(bundle)
    for text in ("{", "[1]"):
        (bundle / "configs" / "inference.json").write_text(text)
        with pytest.raises(WeightsError, match=r"inference\.json: a configuration that"):
            create_model_from(bundle)
