"""Stopping between two steps: Ctrl-C, or a budget of time that is spent."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import torch
from lightning_fabric import Fabric


class InterruptGuard:
    """Turns the first Ctrl-C into a flag, so that a step ends and its checkpoint is written.

    The second one interrupts at once. Only the main thread can listen; elsewhere the guard does nothing.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> InterruptGuard:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, self._before)


def agreed(fabric: Fabric, *wishes: bool) -> list[bool]:
    """Each wish, true everywhere as soon as one process has it: or some would wait for others forever."""
    if fabric.world_size == 1:
        return list(wishes)
    counts = torch.tensor([float(wish) for wish in wishes], device=fabric.device)
    return [bool(count > 0) for count in fabric.all_reduce(counts, reduce_op="sum")]
