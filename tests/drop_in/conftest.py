"""Runs programs with the drop-in's import names, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import resvox

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def run_program():
    """(program, its arguments, folder, Keras's backend or None) -> what it printed; a failure shows its traceback."""

    def run(program, *arguments, cwd, backend="torch"):
        paths = [str(ROOT / "drop-in" / "src"), str(Path(resvox.__file__).parents[1])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "120", "KERAS_HOME": str(cwd)}
        environment.pop("KERAS_BACKEND", None)
        done = subprocess.run(
            [sys.executable, "-c", program, *map(str, arguments)],
            env={**environment, **({"KERAS_BACKEND": backend} if backend else {})},
            capture_output=True,
            text=True,
            cwd=cwd,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout

    return run
