"""Exported networks: checked before they appear, described beside themselves, taken as MODEL."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import resvox
from resvox.errors import InferenceError, WeightsError
from resvox.prediction.segmenter import Segmenter
from resvox.volumes import Volume, read_volume
from resvox.workflow import export, predict

ENDINGS = {"torchscript": ".pt", "torch-export": ".pt2", "onnx": ".onnx", "openvino": ".xml"}


@pytest.fixture(scope="module")
def model(make_model, tmp_path_factory):
    """A 2D model, which exports in seconds, with weights that give several labels."""
    path = tmp_path_factory.mktemp("export") / "model.safetensors"
    from resvox.weights import read_header

    torch.manual_seed(1)
    network = resvox.load_model(make_model(spatial_dims=2))
    with torch.no_grad():  # logits around zero: every label wins somewhere
        network.head.weight.normal_(0, 3)
        logits = network(torch.randn(4, 1, 16, 16))
        network.head.bias -= logits.mean((0, 2, 3))
    resvox.save_model(network, path, metadata=read_header(make_model(spatial_dims=2)).metadata)
    return path


def picture():
    rng = np.random.default_rng(0)
    return Volume(rng.integers(-900, 900, (23, 31)).astype(np.int16), spacing_mm=(1.0, 1.0))


@pytest.mark.parametrize("kind", ENDINGS)
def test_an_exported_network_predicts_as_the_model(kind, model, tmp_path):
    done = export(model, tmp_path / f"net{ENDINGS[kind]}", format=kind)
    assert done.check.difference < 1e-4
    assert done.any_size
    expected = Segmenter(model, engine="torch-plain").segment(picture()).label_map.array
    assert len(np.unique(expected)) == 3
    made = Segmenter(done.path)
    np.testing.assert_array_equal(made.segment(picture()).label_map.array, expected)
    assert made.labels == {"background": 0, "dark": 3, "bright": 7}
    told = json.loads(done.description.read_text())
    assert (told["format"], told["file"], told["input"]["shape"]) == (
        kind,
        done.path.name,
        ["any", 1, "any", "any"],
    )
    # a torch.export program takes no map of one voxel for one of several, so its deepest map has at least two
    assert told["input"]["smallest"] == ([5, 5] if kind == "torch-export" else [1, 1])
    assert told["metadata"]["preprocessing"]["normalization"][0]["kind"] == "window"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("kind", list(ENDINGS))
def test_an_export_holds_no_folders_of_the_machine_that_wrote_it(kind, model, tmp_path):
    export(model, tmp_path / f"net{ENDINGS[kind]}", format=kind)
    folders = [str(Path(module.__file__).parent).encode() for module in (resvox, torch)]
    for path in tmp_path.iterdir():
        parts = [path.read_bytes()]
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                parts = [archive.read(name) for name in archive.namelist()]
        assert not [folder for folder in folders for part in parts if folder in part], path.name


def test_predict_takes_an_exported_network_as_model(model, tmp_path):
    from resvox.volumes import write_volume

    path = write_volume(picture().with_array(np.abs(picture().array).astype(np.uint16)), tmp_path / "scan.tif")
    done = export(model, tmp_path / "net.pt", format="torchscript")
    result = predict(done.path, path, tmp_path / "out")
    assert result.ok, result.cases[0].reason
    assert read_volume(tmp_path / "out" / "scan.png").array.shape == (23, 31)
    assert result.engine.startswith("torch, float32")


def test_a_file_lies_beside_its_model_and_is_not_replaced_unasked(model):
    done = export(model, format="torchscript")
    assert done.path == model.with_suffix(".pt")
    with pytest.raises(InferenceError, match=r"model\.pt: a file of this name exists.*--overwrite"):
        export(model, format="torchscript")
    assert export(model, format="torchscript", overwrite=True).path.exists()


def test_a_network_that_answers_otherwise_is_not_written(model, tmp_path, monkeypatch):
    import resvox.inference.engines as engines

    def other(*arguments, **options):
        return lambda windows: np.zeros((len(windows), 3, *windows.shape[2:]), np.float32)

    monkeypatch.setattr(engines, "engine_of_file", other)
    with pytest.raises(InferenceError, match=r"answers otherwise: by 1\.0e\+00 of the largest logit"):
        export(model, tmp_path / "net.pt", format="torchscript")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_refused(model, tmp_path):
    with pytest.raises(InferenceError, match=r"format='tensorrt'; expected 'openvino' or"):
        export(model, format="tensorrt")
    with pytest.raises(InferenceError, match=r"a file named 'net\.bin'; expected a name ending in \.onnx"):
        export(model, tmp_path / "net.bin", format="onnx")
    with pytest.raises(WeightsError, match="no such model"):
        export(tmp_path / "nothing.safetensors")
    done = export(model, tmp_path / "net.pt", format="torchscript")
    with pytest.raises(WeightsError, match=r"exported already \(torchscript\)"):
        export(done.path, tmp_path / "again.pt", format="torchscript")
    done.description.unlink()
    with pytest.raises(WeightsError, match=r"without a readable net\.json.*keep the files together"):
        Segmenter(done.path)


def test_two_exports_of_one_name_keep_a_description_each(model, tmp_path):
    scan = picture()
    first = export(model, tmp_path / "net.pt", format="torchscript")
    second = export(model, tmp_path / "net.onnx", format="onnx")
    assert [first.description.name, second.description.name] == ["net.json", "net.onnx.json"]
    for done in (first, second):
        assert json.loads(done.description.read_text())["file"] == done.path.name
        assert Segmenter(done.path).segment(scan).label_map.grid == scan.grid
    again = export(model, tmp_path / "net.onnx", format="onnx", overwrite=True)
    assert again.description == second.description
    assert json.loads(first.description.read_text())["file"] == "net.pt"
    with pytest.raises(InferenceError, match="a file of this name exists"):
        export(model, tmp_path / "net.pt", format="torchscript")
