"""NNCF quantizes without a word: nothing is sent, nothing is printed, nothing is left in the home folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import resvox
from resvox.errors import InferenceError
from resvox.inference.engines.openvino_engine import converted
from resvox.inference.engines.quantization.networks import is_quantized, outer_layers, without_last_layer

# In a process of its own: under pytest NNCF sends nothing in any case. Events are sent by forked processes.
CHILD = """
import json, logging, os, socket, sys, time

def refused(*arguments, **options):
    with open("tried", "a") as file:
        file.write(f"{arguments}\\n")
    raise OSError("no network")

socket.getaddrinfo = socket.create_connection = socket.socket.connect = refused

import numpy as np

def tried():
    from openvino_telemetry import Telemetry
    while Telemetry().sender.queue_size:
        time.sleep(0.02)
    return open("tried").read() if os.path.exists("tried") else ""

environment, logger_class = dict(os.environ), logging.getLoggerClass()
windows = [np.random.default_rng(seed).normal(size=(1, 1, 16, 16)).astype(np.float32) for seed in range(3)]
if sys.argv[2] == "ours":
    from resvox.inference.engines.openvino_engine import from_file
    network = from_file(sys.argv[1])
    found = {}
else:
    import nncf, openvino
    network = openvino.Core().read_model(sys.argv[1])
    found = {"imported": tried()}
    nncf.quantize(network, nncf.Dataset(windows), subset_size=3)
    found["quantized"] = tried()
print("quiet from here on")
from resvox.inference.engines.quantization.nncf_quantization import quantized
progress = []
made = quantized(network, windows, progress=lambda done, total: progress.append((done, total)))
found |= {
    "tried": tried(),
    "progress": progress,
    "quantizers": sum(each.get_type_name() == "FakeQuantize" for each in made.get_ops()),
    "is_kept": logging.getLoggerClass() is logger_class and dict(os.environ) == environment,
    "home": os.listdir(os.environ["HOME"]),
}
from openvino_telemetry import Telemetry
Telemetry().send_event("a", "b", "c", force_send=True)
found["sent"] = tried()
with open("result.json", "w") as file:
    json.dump(found, file)
"""


@pytest.fixture(scope="module")
def network_file(tmp_path_factory):
    import openvino

    network = resvox.create_model("resnet10", widths=(4, 4, 4, 4), stem_width=4, in_channels=1, num_classes=2).eval()
    path = tmp_path_factory.mktemp("nncf") / "network.xml"
    openvino.save_model(converted(network, torch.zeros(1, 1, 16, 16)), path, compress_to_fp16=False)
    return path


def run(path, way, folder):
    """What a process that quantizes tried to send at each step, and what it printed before and after the last one."""
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "NNCF_CI", "TF_BUILD")}
    (folder / "home").mkdir()
    environment |= {"PYTHONPATH": str(Path(resvox.__file__).parents[1]), "HOME": str(folder / "home")}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, path, way],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    before, after = done.stdout.split("quiet from here on\n")
    return json.loads((folder / "result.json").read_text()), before, after + done.stderr


def test_nothing_is_sent_and_nothing_is_printed(network_file, tmp_path):
    found, _, printed = run(network_file, "ours", tmp_path)
    assert (found["tried"], found["home"], printed) == ("", [], "")
    assert "google" in found["sent"]  # what is sent is seen
    assert found["quantizers"] > 0
    assert found["progress"][-1] == [3, 3]
    assert found["is_kept"]


@pytest.mark.slow
def test_nothing_is_sent_where_the_program_has_imported_nncf_before(network_file, tmp_path):
    """The same program sends and prints where NNCF is called directly, so the test above would find it."""
    found, before, printed = run(network_file, "after another import", tmp_path)
    assert "google" in found["imported"]
    assert found["quantized"].count("google") > found["imported"].count("google")
    assert found["tried"] == found["quantized"]
    assert before
    assert printed == ""


def test_the_outer_layers_are_found(network_file):
    import openvino

    assert not is_quantized(network_file)
    network = openvino.Core().read_model(network_file)
    first, last = outer_layers(network)
    assert "conv1" in first
    assert "fc" in last
    with pytest.raises(InferenceError, match="last layer is not a convolution"):
        without_last_layer(network)
    assert not is_quantized(network_file.with_suffix(".bin"))
    np.testing.assert_array_equal(network.inputs[0].partial_shape.rank.get_length(), 4)
