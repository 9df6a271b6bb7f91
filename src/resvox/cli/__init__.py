"""The command line: each command parses its arguments, calls one function of the workflow, and prints.

Nothing heavy is imported at the top: `resvox --help` does not load torch, and a command imports no other command
(`resvox.cli.commands`).
"""

from __future__ import annotations

import os
import sys
import warnings

from resvox.cli.app import app

__all__ = ["app", "main"]


def main() -> None:
    """The entry point of the ``resvox`` command."""
    # TensorBoard imports TensorFlow where it is installed, which logs to stderr; this silences it.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # OpenMP's threads wait by spinning, which made training 4 times slower beside other busy programs (five on two
    # cores). Sleeping costs microseconds. The variable is read when torch is first imported, so it is set here.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # The model converter of OpenVINO, which is not used here, takes longer to import than all of OpenVINO besides, and
    # reports its import over the network. openvino does without it where it cannot be imported.
    sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]  # None: not to be imported
    warnings.formatwarning = _one_line
    app()


def _one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Warnings about files as the other lines are written; of other packages with their place in the source."""
    if category is UserWarning and f"{os.sep}resvox{os.sep}" in filename:
        return f"warning: {message}\n"
    return f"{filename}:{lineno}: {category.__name__}: {message}\n"
