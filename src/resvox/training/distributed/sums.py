"""Sums over the processes that train together, with gradients."""

from __future__ import annotations

import atexit
from functools import cache
from typing import Any

import torch
from torch import distributed


def process_count() -> int:
    """How many processes train together; 1 where there is no group of processes."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


@cache
def leave_group_at_exit() -> None:
    """After a training that succeeded, end the threads of the group before the interpreter ends.

    A thread of gloo that releases a Python object while the interpreter ends is terminated, and the process with it:
    torchrun would report a training that failed. After an error the group is left as it is, since its end may wait for
    processes that are lost.
    """
    if distributed.is_available() and distributed.is_initialized():
        atexit.register(_leave_group)


def _leave_group() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def summed(values: torch.Tensor) -> torch.Tensor:
    """The sum of each value over all processes, the same on each; with one process the values themselves.

    Every process must call this at the same place. A loss that each process computes from such sums is that of the
    whole batch, and the mean of its gradients over processes is its gradient.
    """
    if process_count() == 1:
        return values
    total: torch.Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return total


class _Sum(torch.autograd.Function):
    """The sum over processes; its gradient is the sum over processes, too."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        total = values.detach().clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        total = gradients[0].detach().clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total
