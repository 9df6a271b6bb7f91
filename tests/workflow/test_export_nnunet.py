"""A network of nnU-Net as a model file, and exported: the same labels everywhere."""

import json

import numpy as np
import pytest
import torch

import resvox
from resvox.prediction.segmenter import Segmenter
from resvox.volumes import Volume
from resvox.weights import read_header
from resvox.workflow import export

THIN = {"features": (6, 8, 10), "depths": (1, 2, 1), "decoder_depths": (2, 1)}


@pytest.fixture(scope="module")
def model(make_model, tmp_path_factory):
    """A model file with weights that went through nnU-Net's names, and several labels in what it predicts."""
    folder = tmp_path_factory.mktemp("nnunet")
    torch.manual_seed(1)
    network = resvox.create_model("resenc_unet", in_channels=1, num_classes=3, deep_supervision=True, **THIN).eval()
    with torch.no_grad():
        network.head.weight.normal_(0, 3)
        network.head.bias -= network(torch.randn(4, 1, 16, 16)).mean((0, 2, 3))
    weights = resvox.export_weights(network, folder / "weights.pth", peer="nnunet")
    again = resvox.create_model_from(weights)
    return resvox.save_model(
        again, folder / "model.safetensors", metadata=read_header(make_model(spatial_dims=2)).metadata
    )


@pytest.mark.parametrize(("kind", "ending"), [("torchscript", ".pt"), ("onnx", ".onnx"), ("openvino", ".xml")])
def test_an_exported_network_predicts_as_the_model(kind, ending, model, tmp_path):
    picture = Volume(np.random.default_rng(0).integers(-900, 900, (23, 31)).astype(np.int16), spacing_mm=(1.0, 1.0))
    expected = Segmenter(model, engine="torch-plain").segment(picture).label_map.array
    assert len(np.unique(expected)) == 3
    done = export(model, tmp_path / f"net{ending}", format=kind)
    assert done.check.difference < 1e-4
    assert done.any_size
    np.testing.assert_array_equal(Segmenter(done.path).segment(picture).label_map.array, expected)


def test_the_second_stage_of_a_cascade_has_the_labels_of_the_first_as_channels(make_model, tmp_path):
    network = resvox.create_model("resenc_unet", in_channels=3, num_classes=3, **THIN).eval()
    metadata = dict(read_header(make_model(spatial_dims=2)).metadata)
    metadata["cascade"] = {"labels": [3, 7], "model": "first.safetensors"}
    path = resvox.save_model(network, tmp_path / "second.safetensors", metadata=metadata)
    done = export(path, tmp_path / "net.pt", format="torchscript")
    assert json.loads(done.description.read_text())["input"]["shape"][1] == 3
    assert done.check.difference < 1e-4
