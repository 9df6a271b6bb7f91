"""The two streams, and lines that are never wrapped."""

from __future__ import annotations

import os

from rich.console import Console

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def line(text: str, *, style: str = "", stderr: bool = False) -> None:
    """Print one line without wrapping it: who reads or searches a log needs it whole."""
    (err if stderr else out).print(text, style=style or None, markup=False, soft_wrap=True)


def is_first_process() -> bool:
    """False in all but one of the processes that torchrun or srun started together."""
    return os.environ.get("RANK", _of_srun("SLURM_PROCID")) == "0"


def is_first_here() -> bool:
    """False in all but one of the processes on this machine that torchrun or srun started together."""
    return os.environ.get("LOCAL_RANK", _of_srun("SLURM_LOCALID")) == "0"


def _of_srun(name: str) -> str:
    """A variable of a step of several tasks; those of a whole job are set in every program of it."""
    return os.environ.get(name, "0") if int(os.environ.get("SLURM_STEP_NUM_TASKS") or 1) > 1 else "0"
