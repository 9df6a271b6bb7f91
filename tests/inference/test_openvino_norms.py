"""OpenVINO compiles residual networks of every norm; in a process of its own, which it ends where it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import resvox

CHILD = """
import numpy as np
import torch
import resvox
from resvox.inference.engines.openvino_engine import OpenVinoEngine, from_torch

torch.manual_seed(0)
thin = {"widths": (8, 8, 8, 8), "stem_width": 8, "depths": (2, 2, 1, 1), "in_channels": 1, "num_classes": 2}
for dims in (2, 3):
    for norm in ("batch", "instance", ("instance", {"affine": False}), ("group", {"num_groups": 2})):
        for name, options in (("resnet18", {}), ("resnet18v2", {}), ("unet", {"decoder_filters": (8, 8, 8, 8, 4)})):
            network = resvox.create_model(name, spatial_dims=dims, norm=norm, **thin, **options).eval()
            window = torch.randn(1, 1, *(32, 64, 64)[-dims:])
            engine = OpenVinoEngine(
                lambda: from_torch(network, window.shape[2:], 1), roi_size=window.shape[2:], in_channels=1
            )
            with torch.no_grad():
                expected = network(window).numpy()
            np.testing.assert_allclose(engine(window.numpy()), expected, rtol=1e-3, atol=1e-3 * abs(expected).max())
            print(name, dims, norm, flush=True)
"""


def test_networks_of_every_norm_compile_and_answer_as_the_network(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(resvox.__file__).parents[1]), "RESVOX_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", CHILD], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout.splitlines()[-1:], done.stderr[-2000:])
    assert len(done.stdout.splitlines()) == 24
