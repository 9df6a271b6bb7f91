"""The backend of Keras if the user has not chosen one."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import resvox

SOURCE = Path(resvox.__file__).parent


@pytest.fixture
def choosing(monkeypatch, tmp_path):
    """backend.py by itself, in a home without Keras; its function then returns what the environment says."""
    spec = importlib.util.spec_from_file_location("backend_alone", SOURCE / "keras" / "backend.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_BACKEND", "")
    monkeypatch.delitem(sys.modules, "keras", raising=False)

    def choose():
        module.choose_backend()
        return os.environ["KERAS_BACKEND"]

    return choose


def test_torch_when_nobody_has_chosen(choosing):
    assert choosing() == "torch"


def test_the_environment_chooses(choosing, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert choosing() == "jax"


def test_keras_that_is_imported_already_is_left_alone(choosing, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", object())
    assert choosing() == ""


DEFAULT = {"floatx": "float32", "epsilon": 1e-07, "backend": "tensorflow", "image_data_format": "channels_last"}


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        (json.dumps({**DEFAULT, "backend": "jax"}), ""),
        (json.dumps({**DEFAULT, "floatx": "float64"}), ""),
        (json.dumps(DEFAULT), "torch"),  # written by Keras itself at its first import
        (json.dumps({"floatx": "float32"}), "torch"),
        ("not json", "torch"),
    ],
)
def test_an_edited_file_chooses_and_keras_own_does_not(choosing, tmp_path, text, chosen):
    (tmp_path / "keras.json").write_text(text)
    assert choosing() == chosen


def test_torch_in_the_first_process_and_in_the_second(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KERAS")}
    environment |= {"KERAS_HOME": str(tmp_path), "PYTHONPATH": str(SOURCE.parent)}
    code = "import resvox.keras, keras; print(keras.backend.backend())"
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert done.stdout.split() == ["torch"], done.stderr[-2000:]
    assert json.loads((tmp_path / "keras.json").read_text()) == DEFAULT
