"""A model of nnU-Net as one file: the same numbers in Keras on every backend, the same labels when exported."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import resvox
from resvox.prediction.segmenter import Segmenter
from resvox.volumes import find_cases, read_case
from resvox.workflow import convert, export

REFERENCES = Path(__file__).parent / "references"
CASE = "thick_slices"
TWIN = """
import sys
import keras, numpy as np, resvox
answers = np.load(sys.argv[2])
model = resvox.load_model(sys.argv[1], framework="keras")
for name in ("own", "other"):
    found = keras.ops.convert_to_numpy(model(np.moveaxis(answers[f"{name}_in"], 1, -1), training=False))
    wanted = np.moveaxis(answers[f"{name}_out"], 1, -1)
    assert found.shape == wanted.shape
    difference = np.abs(found - wanted).max() / np.abs(wanted).max()
    assert difference < 1e-4, (name, difference)
print("equal on", keras.backend.backend())
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    (folder,) = (REFERENCES / CASE / "models" / "Dataset001_Toy").iterdir()
    return convert(folder, tmp_path_factory.mktemp("converted") / "model.safetensors", to="torch").path


@pytest.fixture(scope="module")
def answers(model, tmp_path_factory):
    """PyTorch's outputs for a window of the model's size and one of another."""
    network, random = resvox.load_model(model), np.random.default_rng(0)
    arrays = {}
    for name, size in {"own": (12, 16, 16), "other": (7, 10, 13)}.items():
        x = random.standard_normal((1, 1, *size)).astype(np.float32)
        arrays |= {f"{name}_in": x, f"{name}_out": network(torch.from_numpy(x)).detach().numpy()}
    path = tmp_path_factory.mktemp("answers") / "answers.npz"
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    "backend",
    ["torch", pytest.param("jax", marks=pytest.mark.slow), pytest.param("tensorflow", marks=pytest.mark.slow)],
)
def test_keras_computes_the_same(backend, model, answers):
    source = str(Path(resvox.__file__).parents[1])
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": source, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", TWIN, str(model), str(answers)], env=environment, capture_output=True, text=True
    )
    assert done.stdout.endswith(f"equal on {backend}\n"), done.stderr[-3000:]


@pytest.mark.parametrize(("kind", "ending"), [("onnx", ".onnx"), ("openvino", ".xml")])
def test_an_exported_network_gives_the_same_labels(kind, ending, model, tmp_path):
    scan = read_case(find_cases(REFERENCES / CASE / "scans", channels=1)[0])
    expected = Segmenter(model, engine="torch-plain", mirror=False).segment(scan).label_map.array
    done = export(model, tmp_path / f"model{ending}", format=kind)
    exported = Segmenter(done.path, mirror=False)
    assert exported.card == Segmenter(model).card
    assert len(np.unique(expected)) > 2
    np.testing.assert_array_equal(exported.segment(scan).label_map.array, expected)
