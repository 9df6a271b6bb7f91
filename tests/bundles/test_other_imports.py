"""What uses parts of MONAI imports neither TensorFlow nor Keras: `resvox.keras` can still choose its backend."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from bundles.making import write_bundle

CHECK = "found = sorted({'tensorflow', 'keras'} & set(sys.modules)); assert not found, found"
CHOICE = "import resvox.keras, keras; assert keras.backend.backend() == 'torch', keras.backend.backend()"
BUNDLE = "from resvox.workflow import predict; predict('bundle', 'scans', 'out', engine='torch')"
# after a bundle: its prediction imports nothing of MONAI, so that this import is the first
VALUES = """
import numpy as np
from resvox.evaluation.regression import score_values
from resvox.volumes import Volume
assert "monai" not in sys.modules
volume = Volume(np.arange(4096.0).reshape(16, 16, 16), spacing_mm=(1, 1, 1))
score_values(volume, volume)
assert "monai" in sys.modules
"""
TRAINING = "import resvox.training.loop, resvox.training.segmentation.losses"


def run(folder: Path, *lines: str) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KERAS", "TF_"))}
    kept |= {"PYTHONPATH": os.pathsep.join(sys.path), "KERAS_HOME": str(folder / "keras"), "RESVOX_CACHE": ""}
    code = "\n".join(["import sys", *lines])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=kept, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_bundle_and_scores_of_values_leave_keras_to_choose(tmp_path: Path, scan_of):
    write_bundle(tmp_path / "bundle", "spleen")
    scan_of("spleen")
    run(tmp_path, BUNDLE, CHECK, VALUES, CHECK, CHOICE)


@pytest.mark.slow
def test_training_leaves_keras_to_choose(tmp_path: Path):
    run(tmp_path, TRAINING, CHECK, CHOICE)
