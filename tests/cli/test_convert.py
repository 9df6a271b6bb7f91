"""`resvox convert`: one line in, one file out, or one line of error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import resvox
from resvox.cli import app

THIN = {"widths": (4, 4, 6, 8), "stem_width": 4, "depths": (1, 1, 1, 1), "num_classes": 3}


@pytest.fixture
def call(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    return lambda *words: CliRunner().invoke(app, ["convert", *map(str, words)])


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    return resvox.export_weights(resvox.create_model("resnet50", **THIN), tmp_path / "net.pth", peer="torchvision")


def test_help_has_examples(call):
    result = call("--help")
    assert result.exit_code == 0
    assert "$ resvox convert resnet50.pth -o resnet50.keras --to keras" in result.stdout


def test_to_a_model_file_and_on_to_a_peer_bit_for_bit(call, weights, tmp_path):
    result = call(weights, "-o", tmp_path / "net.safetensors", "--to", "torch")
    assert result.exit_code == 0, result.stderr
    assert "tensors of torchvision-style" in result.stdout
    assert f"wrote {tmp_path / 'net.safetensors'}" in result.stdout
    for to, name in (("timm", "timm.safetensors"), ("torchvision", "back.pth"), ("torch", "ours.pth")):
        assert call(tmp_path / "net.safetensors", "-o", tmp_path / name, "--to", to).exit_code == 0
    given = torch.load(weights, weights_only=True)
    for name in ("back.pth", "ours.pth"):
        back = torch.load(tmp_path / name, weights_only=True)
        assert all(torch.equal(back[key], given[key]) for key in given if "num_batches" not in key)


TO_KERAS = """
import sys
from resvox.workflow import convert
source, folder = sys.argv[1:]
convert(source, f"{folder}/ours.safetensors", to="torch")
convert(f"{folder}/ours.safetensors", f"{folder}/net.keras", to="keras")
convert(f"{folder}/net.keras", f"{folder}/net.weights.h5", to="keras")
"""


def test_through_torch_and_keras_and_back_bit_for_bit(call, weights, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(resvox.__file__).parents[1]), "KERAS_BACKEND": "torch"}
    done = subprocess.run([sys.executable, "-c", TO_KERAS, str(weights), str(tmp_path)], env=environment,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    result = call(tmp_path / "net.keras", "-o", tmp_path / "back.pth", "--to", "torchvision")
    assert result.exit_code == 0, result.stderr
    given, back = (torch.load(path, weights_only=True) for path in (weights, tmp_path / "back.pth"))
    assert set(back) == set(given)
    assert all(torch.equal(back[key], given[key]) for key in given)
    model = resvox.create_model("resnet50", **THIN)
    report = resvox.load_weights(model, tmp_path / "net.weights.h5")
    assert report.peer == "resvox"
    assert all(torch.equal(value, given[key]) for key, value in model.state_dict().items())
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_options_adapt_on_the_way(call, weights, tmp_path):
    result = call(weights, "spatial_dims=3", "in_channels=1", "--inflate", "centre", "--first-conv", "sum",
                  "-o", tmp_path / "deep.safetensors")  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "adapted: 1 (3 input channels to 1, sum and inflated along axis 0, centre)" in result.stdout
    assert resvox.load_model(tmp_path / "deep.safetensors").blueprint.spatial_dims == 3


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["nowhere.pth", "-o", "x.safetensors"], "nowhere.pth: no such file"),
        (["net.pth", "-o", "x.safetensors", "--to", "caffe"], "to='caffe'; expected one of torch, keras, torchvision"),
        (["net.pth", "-o", "x.onnx"], "the ending of 'x.onnx' for torch; expected one of .safetensors, .pth, .pt"),
        (["net.pth", "-o", "net.pth"], "net.pth: a file of this name exists; expected a new name; fix: --overwrite"),
        (["net.pth", "-o", "x.h5", "--to", "keras.applications"], "keras.applications computes something else than"),
        (["net.pth", "spatial_dims=3", "-o", "x.safetensors"], "2D weights for a 3D model"),
        (["net.pth", "-o", "x.safetensors", "--peer", "unknown"], "peer='unknown'; expected one of torchvision"),
    ],
)
def test_one_line_of_error_and_no_file(call, weights, tmp_path, monkeypatch, words, error):
    monkeypatch.chdir(tmp_path)
    result = call(*words)
    assert result.exit_code == 1
    assert error in result.stderr
    assert result.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["net.pth"]
