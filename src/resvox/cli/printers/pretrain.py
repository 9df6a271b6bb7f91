"""What `resvox pretrain` prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from resvox.cli.printers.console import line
from resvox.cli.printers.train import show_profile
from resvox.machine import is_first_process

if TYPE_CHECKING:
    from resvox.workflow.pretrain import PretrainResult


def show_pretrained(result: PretrainResult, scans: Path, out: Path) -> None:
    """Where the weights are, and what to do with them.

    Args:
        out: as it was given: the file of the weights or the folder of the run.
    """
    if not is_first_process():
        return
    if result.fit is None:
        path = result.plan_path
        line(f"Wrote {path}. Edit it, then: resvox pretrain {scans} -o {out} --plan {path}")
        return
    if result.fit.profile is not None:
        show_profile(result.fit.profile)
    best = result.fit.best
    error, nothing = (best.get(name) for name in ("hidden_error", "error_of_zero"))
    if error is not None and nothing is not None:
        took = f"after {result.fit.seconds:.0f} s"
        line(f"Error of hidden voxels {error:.3f}, of their mean alone {nothing:.3f}, {took}", style="bold")
    line(f"Wrote {result.weights}. Now: resvox train DATASET -o RUN --weights {result.weights}")
