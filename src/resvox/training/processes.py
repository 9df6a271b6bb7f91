"""Devices, precision and processes, by Lightning Fabric."""

from __future__ import annotations

import os

import torch
from lightning_fabric import Fabric

from resvox.errors import PlanError
from resvox.training.plans.base import TrainingPlan
from resvox.training.plans.precision import Precision


def make_fabric(
    plan: TrainingPlan, *, devices: int | str, num_nodes: int, accelerator: str, precision: str | None
) -> Fabric:
    """A Fabric for one process, for several spawned ones, or for those that `torchrun` has started.

    Args:
        devices: processes on this machine, or "auto": one for each GPU, one on a CPU.
        accelerator: "auto" takes CUDA, else the CPU; others by name as in Fabric.

    Raises:
        PlanError: a batch that the processes cannot share evenly, or an unknown precision.
    """
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    is_cuda = accelerator in ("cuda", "gpu")
    if devices == "auto":
        devices = torch.cuda.device_count() if is_cuda else 1
    elastic = "TORCHELASTIC_RUN_ID" in os.environ  # started by torchrun, which says how many there are
    if elastic:
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        num_nodes = int(os.environ["WORLD_SIZE"]) // devices
    total = int(devices) * num_nodes
    if plan.batch_size % total:
        raise PlanError(
            f"batch_size={plan.batch_size} over {total} processes",
            expected="a batch that they share evenly",
            fix=f"set batch_size to {-(-plan.batch_size // total) * total}",
        )
    # Spawned processes run the loop alone; running the user's script again in each would read all data anew.
    strategy = "auto" if total == 1 else ("ddp" if elastic or num_nodes > 1 else "ddp_spawn")
    return Fabric(
        accelerator=accelerator,
        devices=int(devices),
        num_nodes=num_nodes,
        strategy=strategy,
        precision=choose_precision(precision or plan.precision, is_cuda=is_cuda).value,  # type: ignore[arg-type]
    )


def choose_precision(precision: str, *, is_cuda: bool) -> Precision:
    """The precision; of "auto", bfloat16 on a GPU that computes in it, else float32."""
    words = [each.value for each in Precision]
    if precision not in words:
        raise PlanError(f"precision={precision!r}", expected=f"one of {', '.join(words)}")
    chosen = Precision(precision)
    if chosen is not Precision.auto:
        return chosen
    has_bfloat16 = is_cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    return Precision.bfloat16 if has_bfloat16 else Precision.float32
