"""What `resvox pretrain` prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from resvox.cli.printers.console import is_first_process, line
from resvox.cli.printers.train import show_profile

if TYPE_CHECKING:
    from resvox.workflow.pretrain import PretrainResult


def show_pretrained(result: PretrainResult, scans: Path) -> None:
    """Where the weights are, and what to do with them."""
    if not is_first_process():
        return
    if result.fit is None:
        folder, path = result.plan_path.parent, result.plan_path
        line(f"Wrote {path}. Edit it, then: resvox pretrain {scans} -o {folder} --plan {path}")
        return
    if result.fit.profile is not None:
        show_profile(result.fit.profile)
    best = result.fit.best
    error, nothing = (best.get(name) for name in ("hidden_error", "error_of_zero"))
    if error is not None and nothing is not None:
        took = f"after {result.fit.seconds:.0f} s"
        line(f"Error of hidden voxels {error:.3f}, of their mean alone {nothing:.3f}, {took}", style="bold")
    line(f"Wrote {result.weights}. Now: resvox train DATASET -o RUN --weights {result.weights}")
