"""Stopping between two steps: Ctrl-C, a signal of the batch system, or a budget of time that is spent."""

from __future__ import annotations

import ctypes
import multiprocessing.process
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

import torch
from lightning_fabric import Fabric

# SIGTERM: docker stop, Kubernetes, scancel, a shutdown. SIGUSR1: Slurm's warning (sbatch --signal=USR1@300).
NAMES = ("SIGINT", "SIGTERM", "SIGUSR1")
PR_SET_PDEATHSIG = 1  # of Linux's prctl
SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))  # Windows has no SIGUSR1


class StopRequestedError(Exception):
    """A stop was requested while something ran that can be interrupted; never leaves the training package."""


class StopGuard:
    """Turns Ctrl-C, SIGTERM and SIGUSR1 into a flag, so that a step ends and its checkpoint is written.

    A second Ctrl-C interrupts at once; further SIGTERM and SIGUSR1 change nothing, because batch systems send several.
    Only the main thread can receive signals; elsewhere the guard does nothing.

    Args:
        forwards: whether the signal is sent on to the child processes: for a process that waits for those that train.
    """

    def __init__(self, *, forwards: bool = False) -> None:
        self.number: int | None = None
        self.forwards = forwards
        self._before: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal has arrived."""
        return self.number is not None

    @property
    def signal_name(self) -> str:
        """The name of the first signal, such as "SIGTERM"; empty where none has arrived."""
        return "" if self.number is None else signal.Signals(self.number).name

    def check(self) -> None:
        """Called inside long work that a stop may cut short.

        Raises:
            StopRequestedError: a signal has arrived.
        """
        if self.requested:
            raise StopRequestedError

    def __enter__(self) -> StopGuard:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = self.number or number
        if self.forwards:
            for child in multiprocessing.active_children():
                if child.pid is not None:
                    # A terminal sends Ctrl-C to all processes itself, and a second one would interrupt them at once.
                    os.kill(child.pid, signal.SIGTERM if number == signal.SIGINT else number)
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, self._before[signal.SIGINT])


@contextmanager
def signals_wait() -> Iterator[None]:
    """Signals that arrive in this block take effect after it.

    Processes that are started in it inherit the mask: a signal to all processes of a job does not end a loader worker
    that has not called `start_worker` yet.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_worker(worker: int) -> None:
    """Start of a loader worker: it ends when its training process does, not by a signal to all processes of a job."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    if sys.platform == "linux":
        # If the training process is killed, a worker would wait forever for its last sample to be read.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def end_workers(workers: Iterable[multiprocessing.process.BaseProcess]) -> None:
    """End loader workers at once: they ignore SIGTERM, for which Python would wait at its end."""
    ignore_ended_children()
    for worker in workers:
        worker.kill()


def ignore_ended_children() -> None:
    """Remove PyTorch's handler of SIGCHLD: it raises once more for a worker whose end is known, even while Python ends.

    A later loader of this process finds a lost worker when it waits for it.
    """
    if hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def agreed(fabric: Fabric, *wishes: bool) -> list[bool]:
    """Each wish, true everywhere as soon as one process has it: or some would wait for others forever."""
    if fabric.world_size == 1:
        return list(wishes)
    counts = torch.tensor([float(wish) for wish in wishes], device=fabric.device)
    return [bool(count > 0) for count in fabric.all_reduce(counts, reduce_op="sum")]
