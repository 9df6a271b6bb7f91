"""The command line: each command parses its arguments, calls one function of the workflow, and prints.

Nothing heavy is imported at the top: `resvox --help` does not load torch.
"""

from __future__ import annotations

import os
import warnings

# in the order in which `resvox --help` lists them
from resvox.cli import train  # isort: skip
from resvox.cli import pretrain  # isort: skip
from resvox.cli import predict  # isort: skip
from resvox.cli import status  # isort: skip
from resvox.cli import evaluate  # isort: skip
from resvox.cli import compare  # isort: skip
from resvox.cli import view  # isort: skip
from resvox.cli import models  # isort: skip
from resvox.cli import walkthrough  # isort: skip
from resvox.cli import convert  # isort: skip
from resvox.cli import convert_labels  # isort: skip
from resvox.cli import export  # isort: skip
from resvox.cli import publish  # isort: skip
from resvox.cli import serve  # isort: skip
from resvox.cli import demo  # isort: skip
from resvox.cli.app import app

__all__ = [
    "app",
    "compare",
    "convert",
    "convert_labels",
    "demo",
    "evaluate",
    "export",
    "main",
    "models",
    "predict",
    "pretrain",
    "publish",
    "serve",
    "status",
    "train",
    "view",
    "walkthrough",
]


def main() -> None:
    """The entry point of the ``resvox`` command."""
    # TensorBoard imports TensorFlow where it is installed, which logs to stderr; this silences it.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # OpenMP's threads wait by spinning, which made training 4 times slower beside other busy programs (five on two
    # cores). Sleeping costs microseconds. The variable is read when torch is first imported, so it is set here.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    warnings.formatwarning = _one_line
    app()


def _one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Warnings about files as the other lines are written; of other packages with their place in the source."""
    if category is UserWarning and f"{os.sep}resvox{os.sep}" in filename:
        return f"warning: {message}\n"
    return f"{filename}:{lineno}: {category.__name__}: {message}\n"
