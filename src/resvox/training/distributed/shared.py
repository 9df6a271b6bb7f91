"""Whether the machines of a training see the same folders."""

from __future__ import annotations

import socket
import uuid
from pathlib import Path

import torch
from lightning_fabric import Fabric

from resvox.errors import PlanError


def is_shared(fabric: Fabric, folder: Path) -> bool:
    """Whether every process sees what the first one writes into a folder; every process must call this."""
    name = fabric.broadcast(uuid.uuid4().hex)
    mark = folder / f".{name}.partial"
    if fabric.is_global_zero:
        folder.mkdir(parents=True, exist_ok=True)
        mark.touch()
    fabric.barrier()
    misses = fabric.all_reduce(torch.tensor(float(not mark.exists()), device=fabric.device), reduce_op="sum")
    if fabric.is_global_zero:
        mark.unlink(missing_ok=True)
    return not float(misses)  # type: ignore[arg-type]


def refuse_own_folders(fabric: Fabric, folder: Path) -> None:
    """Refuse a folder of the run that machines do not share: each would go on from its own checkpoint.

    Raises:
        PlanError: on every process.
    """
    if not is_shared(fabric, folder):
        raise PlanError(
            f"the folder on {socket.gethostname()} is not the one of the other machines",
            expected="a folder of the run that all machines share",
            fix="-o on a shared file system; prepared cases may be local: RESVOX_PREPARED",
            path=folder,
        )


def share_of_cases(fabric: Fabric, folder: Path, *, machines: int) -> slice:
    """Which cases this process prepares: its part of all, or of all on its machine where each has its own folder."""
    if machines == 1 or is_shared(fabric, folder):
        return slice(fabric.global_rank, None, fabric.world_size)
    return slice(fabric.local_rank, None, fabric.world_size // machines)
