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
# what the short tests run on every backend, and what the long ones add
# (JAX compiles every operation of every shape: a network costs it seconds)
QUICK = ("torchvision-bottleneck", "timm-v2", "monai-3d-stride-2", "kenshohara")
QUICK_KERAS = ("applications-v1", "applications-v2", "medicai-se", "medicai-v2")
MORE = ("torchvision-dilated", "torchvision-video", "timm-18d", "timm-se", "timm-group-norm", "monai-a",
        "medicalnet-10", "smp-resnet18")  # fmt: skip
MORE_KERAS = ("applications-v1-notop", "medicai-v1-3d", "medicai-vd")
ON_JAX = ("timm-v2", "kenshohara", "applications-v2", "adapted")
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


class Runs:
    """The processes of the backends, started together; ``of`` waits for one and reads its result."""

    def __init__(self, folder, names, keras_names, *, full):
        self.folder, self.results = folder, {}
        for name in names:
            write_case(folder, name)
        self.processes = {}
        for backend in BACKENDS:
            words = [str(HERE / "keras_importers.py"), str(folder), str(folder / f"{backend}.result")]
            words += [name for name in (*names, *keras_names) if full or backend != "jax" or name in ON_JAX]
            with open(folder / f"{backend}.log", "w") as log:
                self.processes[backend] = subprocess.Popen(
                    [sys.executable, *words], env=environment(backend), stdout=subprocess.DEVNULL, stderr=log
                )

    def of(self, backend):
        if backend not in self.results:
            code = self.processes[backend].wait()
            assert code == 0, (self.folder / f"{backend}.log").read_text()[-3000:]
            self.results[backend] = json.loads((self.folder / f"{backend}.result").read_text())
        return self.results[backend]

    def stop(self):
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    runs = Runs(tmp_path_factory.mktemp("importers"), QUICK, QUICK_KERAS, full=False)
    yield runs
    runs.stop()


@pytest.fixture(scope="module")
def more(tmp_path_factory):
    runs = Runs(tmp_path_factory.mktemp("importers"), (*QUICK, *MORE), (*QUICK_KERAS, *MORE_KERAS), full=True)
    yield runs
    runs.stop()


def check(result):
    assert "failed" not in result, result["failed"]
    assert result["differences"]
    assert max(result["differences"].values()) < LIMIT, result["differences"]
    assert result.get("identical", True), "the way back changed a weight"
    in_torch = [value for key, value in result["differences"].items() if key.endswith(" torch")]
    assert max(in_torch, default=0.0) <= 1e-5


SHORT = [(backend, name) for backend in BACKENDS for name in (*QUICK, "adapted", *QUICK_KERAS)
         if backend != "jax" or name in ON_JAX]  # fmt: skip


@pytest.mark.parametrize(("backend", "name"), SHORT)
def test_the_same_numbers_as_the_peers_own_code(quick, backend, name, record_property):
    result = quick.of(backend)[name]
    record_property("differences", result.get("differences"))
    check(result)


@pytest.mark.laws
@pytest.mark.parametrize("name", [*QUICK, *MORE, "adapted", *QUICK_KERAS, *MORE_KERAS])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_same_numbers_for_every_kind_of_network(more, backend, name, record_property):
    result = more.of(backend)[name]
    record_property("differences", result.get("differences"))
    check(result)
