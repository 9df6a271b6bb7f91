"""`resvox models --show`: one description for every kind of source, and one line for what is none."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile

import numpy as np
import pytest
import torch
from bundles.making import configuration, write_bundle
from typer.testing import CliRunner
from weights.nnunet_toys import write_folder

import resvox
from resvox.cli import app
from resvox.errors import WeightsError
from resvox.prediction.showing.kinds import KINDS
from resvox.training.checkpoints import Progress, save_checkpoint
from resvox.workflow import convert, export, show_model


def nnunet_folder(root):
    """A model folder of nnU-Net with weights that fit its plans."""
    from resvox.factory import build
    from resvox.weights.nnunet import NnunetFolder, nnunet_blueprint

    folder = write_folder(root / "empty")
    network = build(nnunet_blueprint(NnunetFolder.read(folder), deep_supervision=True))
    weights = torch.load(resvox.export_weights(network, root / "weights.pth", peer="nnunet"), weights_only=True)
    return write_folder(root / "whole", weights=weights.get("network_weights", weights))


def checkpoint(path):
    network = resvox.create_model("unet", encoder_name="resnet10", encoder_depth=2, decoder_filters=(4, 4))
    progress = Progress(step=7, best={"liver": 0.5}, best_step=5)
    path.parent.mkdir(parents=True)
    plan = {"task": "segmentation", "model": "unet"}
    save_checkpoint(path, plan=plan, progress=progress, model=network.state_dict())
    return path


def run(root, model):
    (root / "run").mkdir()
    shutil.copy(model, root / "run" / "model.safetensors")
    return root / "run"


def peer(root):
    network = resvox.create_model("resnet18", widths=(4, 4, 4, 4), stem_width=4, num_classes=3)
    return resvox.export_weights(network, root / "peer.pth", peer="torchvision")


def bare(root):
    network = resvox.create_model("resnet18", widths=(4, 4, 4, 4), stem_width=4, num_classes=3)
    return resvox.save_model(network, root / "bare.safetensors")


SOURCES = {
    "model file": lambda root, model: model(channels=2),
    "run": lambda root, model: run(root, model(channels=2)),
    "unfinished": lambda root, model: checkpoint(root / "run" / "checkpoints" / "last.pt").parents[1],
    "checkpoint": lambda root, model: checkpoint(root / "run" / "checkpoints" / "last.pt"),
    "bundle": lambda root, model: write_bundle(root / "bundle", "spleen"),
    "zipped": lambda root, model: shutil.make_archive(
        str(root / "z"), "zip", write_bundle(root / "bundle", "tumour").parent, "bundle"
    ),
    "nnunet": lambda root, model: nnunet_folder(root),
    "onnx": lambda root, model: export(model(spatial_dims=2), root / "net.onnx", format="onnx").path,
    "torchscript": lambda root, model: export(model(spatial_dims=2), root / "net.pt", format="torchscript").path,
    "peer": lambda root, model: peer(root),
    "bare": lambda root, model: bare(root),
}
EXPECTED = {
    "model file": {"kind": "model file of resvox", "network": "unet", "task": "segmentation"},
    "run": {"kind": "training run", "network": "unet"},
    "unfinished": {"kind": "training run without a model yet"},
    "checkpoint": {"kind": "checkpoint of a training run", "network": "unet", "scores": {"liver": 0.5}},
    "bundle": {"kind": "bundle of MONAI", "network": "monai_unet", "labels": {"background": 0, "organ 1": 1},
               "spacing_mm": [1.5, 1.5, 2.0], "orientation": "RAS", "window": [16, 16, 16], "licence": "Apache-2.0",
               "scores": {"mean_dice": 0.5}},
    "zipped": {"kind": "bundle of MONAI", "network": "segresnet", "channels": ["modality 0", "modality 1"],
               "regions": {"Whole tumor": [2], "Tumor core": [1], "Enhancing tumor": [4]}},
    "nnunet": {"kind": "model folder of nnU-Net", "network": "resenc_unet"},
    "onnx": {"kind": "exported network", "note": "format onnx"},
    "torchscript": {"kind": "exported network", "note": "format torchscript"},
    "peer": {"kind": "file of weights", "network": "resnet18"},
    "bare": {"kind": "model file of resvox", "network": "resnet18"},
}  # fmt: skip


# an export to ONNX takes most of a minute where all processors are busy
LONG = {"onnx": pytest.mark.slow}


@pytest.mark.parametrize("name", [pytest.param(each, marks=LONG.get(each, ())) for each in SOURCES])
def test_every_kind_of_source_is_described(tmp_path, make_model, name):
    path = SOURCES[name](tmp_path, make_model)
    found = show_model(path).to_dict()
    assert {key: found.get(key) for key in EXPECTED[name]} == EXPECTED[name]
    text = CliRunner().invoke(app, ["models", "--show", str(path)])
    assert text.exit_code == 0, text.output
    assert EXPECTED[name]["kind"] in text.output
    as_json = CliRunner().invoke(app, ["models", "--show", str(path), "--json"])
    assert json.loads(as_json.stdout) == {**found, "path": str(path)}


def test_every_row_of_the_table_is_tested():
    assert {kind.name for kind in KINDS} == {each["kind"] for each in EXPECTED.values()}


def test_counts_and_options_are_those_of_the_network(tmp_path):
    bundle = write_bundle(tmp_path / "bundle", "spleen")
    found, model = show_model(bundle), resvox.create_model_from(bundle)
    assert found.parameters == sum(each.numel() for each in model.parameters())
    assert found.options["channels"] == [4, 8, 16]
    converted = show_model(convert(bundle, tmp_path / "model.safetensors", to="torch").path)
    assert converted.parameters == found.parameters
    assert {**converted.to_dict(), "path": "", "kind": "", "files": [], "options": {}} == {
        **found.to_dict(), "path": "", "kind": "", "files": [], "options": {},
    }  # fmt: skip


def test_a_bundle_that_cannot_be_predicted_with_is_described_with_the_reason(tmp_path):
    config = configuration("spleen")
    config["inferer"] = {"_target_": "SimpleInferer"}
    found = show_model(write_bundle(tmp_path / "bundle", "spleen", config))
    assert found.network == "monai_unet"
    assert "resvox predict does not take it: " in found.note
    assert "the inferer SimpleInferer" in found.note


class Runs:
    """A pickle that would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def damaged(root, name):
    """Files that are none of the kinds, or broken ones."""
    path = root / name
    if name == "a folder":
        path.mkdir()
    elif name == "code.pt":
        path.write_bytes(pickle.dumps(Runs(root / "ran")))
    elif name == "empty.zip":
        with zipfile.ZipFile(path, "w"):
            pass
    elif name != "missing":
        path.write_bytes(b"\0\1\2 no model" * 9)
    return path


FAULTS = {
    "missing": "no such file or folder; expected a model",
    "a folder": "a folder that is no model; expected one of: model folder of nnU-Net, bundle of MONAI",
    "text.txt": "a file that is no model",
    "broken.safetensors": "broken.safetensors",
    "broken.onnx": "an exported network without a readable broken.json",
    "broken.pth": "not a PyTorch file, or a broken one",
    "broken.h5": "broken.h5",
    "broken.npz": "broken.npz",
    "code.pt": "code.pt",
    "empty.zip": "a file that is no model",
}


@pytest.mark.parametrize("name", list(FAULTS))
def test_what_is_no_model_is_one_line(tmp_path, name):
    path = damaged(tmp_path, name)
    with pytest.raises(WeightsError, match=FAULTS[name]) as caught:
        show_model(path)
    assert "\n" not in str(caught.value)
    done = CliRunner().invoke(app, ["models", "--show", str(path)])
    assert done.exit_code == 1
    assert "Traceback" not in done.output
    assert not (tmp_path / "ran").exists()


def test_a_path_stands_alone():
    done = CliRunner().invoke(app, ["models", "resnet*", "--show", "x"])
    assert "a path alone" in done.output
    assert done.exit_code == 1


def test_the_catalog_is_listed_as_before():
    done = CliRunner().invoke(app, ["models", "resnet18*", "--json"])
    assert "resnet18" in json.loads(done.stdout)
    assert np.all([name.startswith("resnet18") for name in json.loads(done.stdout)])
