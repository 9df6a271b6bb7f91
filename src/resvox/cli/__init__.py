"""The command line: every verb parses, calls one workflow function, prints.

Nothing heavy is imported at the top: `resvox --help` answers before torch would have been found.
"""

from __future__ import annotations

import os
import warnings

# in the order in which `resvox --help` lists them
from resvox.cli import train  # isort: skip
from resvox.cli import predict  # isort: skip
from resvox.cli import evaluate  # isort: skip
from resvox.cli import view  # isort: skip
from resvox.cli import models  # isort: skip
from resvox.cli import walkthrough  # isort: skip
from resvox.cli import convert  # isort: skip
from resvox.cli import convert_labels  # isort: skip
from resvox.cli import export  # isort: skip
from resvox.cli import demo  # isort: skip
from resvox.cli.app import app

__all__ = [
    "app",
    "convert",
    "convert_labels",
    "demo",
    "evaluate",
    "export",
    "main",
    "models",
    "predict",
    "train",
    "view",
    "walkthrough",
]


def main() -> None:
    """The entry point of the ``resvox`` command."""
    # Where TensorFlow is installed, TensorBoard loads it and it greets; a report of ours must not begin with that.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # OpenMP's threads wait by spinning: beside other busy programs that made training 4 times slower, measured on two
    # cores shared by five. Sleeping instead costs microseconds. It is read when torch is first imported, so here.
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
