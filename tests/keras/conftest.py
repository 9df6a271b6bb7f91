"""PyTorch's answers once, then one process a backend; all of them run while pytest goes on."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import resvox

HERE = Path(__file__).parent
BACKENDS = ("torch", "jax", "tensorflow")


def twin_module(name):
    """A module of this folder, which is no package: ``twin_cases``."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def keras_environment(backend):
    """The environment of a process that runs Keras on a backend, on the CPU."""
    return {
        **os.environ,
        "KERAS_BACKEND": backend,
        "PYTHONPATH": os.pathsep.join([str(Path(resvox.__file__).parents[1]), str(HERE)]),
        "CUDA_VISIBLE_DEVICES": "",
        "JAX_PLATFORMS": "cpu",
        # compiling is most of JAX's time here; the numbers are the same without the optimizer
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "OMP_NUM_THREADS": "1",
    }


class Runs:
    """The processes of the backends, started together; ``of`` waits for one and reads its result."""

    def __init__(self, folder, answers, *words):
        self.folder, self.results = folder, {}
        self.processes = {
            backend: subprocess.Popen(
                [sys.executable, str(HERE / "twin_runner.py"), str(answers), str(folder / f"{backend}.json"), *words],
                env=keras_environment(backend),
                stdout=subprocess.DEVNULL,
                stderr=open(folder / f"{backend}.log", "w"),  # noqa: SIM115 (the process writes to it)
            )
            for backend in BACKENDS
        }

    def of(self, backend):
        if backend not in self.results:
            code = self.processes[backend].wait()
            assert code == 0, (self.folder / f"{backend}.log").read_text()[-3000:]
            self.results[backend] = json.loads((self.folder / f"{backend}.json").read_text())
        return self.results[backend]

    def stop(self):
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()


def start_runs(folder, *words):
    """PyTorch's answers, then every backend against them."""
    answers = folder / "answers"
    answers.mkdir()
    done = subprocess.run(
        [sys.executable, str(HERE / "twin_answers.py"), str(answers), *words],
        env=keras_environment("torch"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return Runs(folder, answers, *words)


def check_names():
    """The checks of twin_checks.py, read from its source: importing it would import Keras."""
    tree = ast.parse((HERE / "twin_checks.py").read_text(encoding="utf-8"))
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")]


def pytest_generate_tests(metafunc):
    if "twin" in metafunc.fixturenames:
        cases = twin_module("twin_cases").CASES
        metafunc.parametrize(
            "twin", [(backend, case.id) for backend in BACKENDS for case in cases[backend]], ids="-".join
        )
    if "check" in metafunc.fixturenames:
        metafunc.parametrize("check", [(backend, name) for backend in BACKENDS for name in check_names()], ids="-".join)


@pytest.fixture(scope="session")
def keras_runs(tmp_path_factory):
    runs = start_runs(tmp_path_factory.mktemp("twins"))
    yield runs
    runs.stop()


@pytest.fixture(scope="session")
def start_keras_runs():
    return start_runs


@pytest.fixture(scope="session")
def twin_table():
    return twin_module("twin_table").table
