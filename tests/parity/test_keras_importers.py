"""Peers' weights in Keras models on three backends, each backend a process of its own."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from parity.importer_peers import PEERS
from parity.test_importers import made
from safetensors.torch import save_file

HERE = Path(__file__).parent
BACKENDS = ("torch", "jax", "tensorflow")
# one of every kind; the others differ from them in numbers alone
CHOSEN = ("torchvision-bottleneck", "torchvision-dilated", "torchvision-r3d_18", "timm-18d", "timm-se", "timm-v2",
          "timm-group-norm", "monai-a", "monai-3d-stride-2", "medicalnet-10", "kenshohara", "smp-resnet18")  # fmt: skip
KERAS = ("applications-v1", "applications-v1-notop", "applications-v2", "medicai-v1-3d", "medicai-se", "medicai-vd",
         "medicai-v2")  # fmt: skip
LIMIT = 1e-4


def environment(backend):
    spec = importlib.util.spec_from_file_location("keras_conftest", HERE.parent / "keras" / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = module.keras_environment(backend)
    return {**found, "PYTHONPATH": os.pathsep.join([found["PYTHONPATH"], str(HERE)])}


def write_case(folder, name):
    """A peer's weights and its own answers, for the processes to read."""
    peer, module = PEERS[name], made(name)
    state = {key.removeprefix("module."): value for key, value in module.state_dict().items()}
    state = {key: value.contiguous() for key, value in state.items() if "conv_seg" not in key}
    save_file(state, folder / f"{name}.safetensors")
    said = peer.peer or ("medicalnet" if name.startswith("medicalnet") else None)
    told = {"peer": said, "options": peer.options, "export": peer.export}
    (folder / f"{name}.json").write_text(json.dumps(told))
    for index, size in enumerate(peer.sizes):
        x = torch.randn(1, peer.channels, *size, generator=torch.Generator().manual_seed(index))
        with torch.no_grad():
            np.savez(folder / f"{name}-answer-{index}.npz", x=x.numpy(), y=module(x).numpy())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("importers")
    for name in CHOSEN:
        write_case(folder, name)
    processes = {}
    for backend in BACKENDS:
        with open(folder / f"{backend}.log", "w") as log:
            processes[backend] = subprocess.Popen(
                [sys.executable, str(HERE / "keras_importers.py"), str(folder), str(folder / f"{backend}.result")],
                env=environment(backend), stdout=subprocess.DEVNULL, stderr=log,
            )  # fmt: skip
    results = {}

    def of(backend):
        if backend not in results:
            assert processes[backend].wait() == 0, (folder / f"{backend}.log").read_text()[-3000:]
            results[backend] = json.loads((folder / f"{backend}.result").read_text())
        return results[backend]

    yield of
    for process in processes.values():
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.mark.parametrize("name", [*CHOSEN, "adapted", *KERAS])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_same_numbers_as_the_peers_own_code(runs, backend, name, record_property):
    result = runs(backend)[name]
    assert "failed" not in result, result["failed"]
    record_property("differences", result["differences"])
    assert result["differences"]
    assert max(result["differences"].values()) < LIMIT, result["differences"]
    assert result.get("identical", True), "the way back changed a weight"
    in_torch = [value for key, value in result["differences"].items() if key.endswith(" torch")]
    assert max(in_torch, default=0.0) <= 1e-5
