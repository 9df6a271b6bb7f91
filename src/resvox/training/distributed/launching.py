"""A training started on every process, and what ended one of them as one error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from lightning_fabric import Fabric
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from resvox import errors
from resvox.errors import ResvoxError, RunStoppedError
from resvox.training.distributed.peers import LOST_PEER
from resvox.training.run_folder import RunFolder
from resvox.training.stopping import StopGuard


def launched(fabric: Fabric, train: Callable[[Fabric], dict[str, Any]], run: RunFolder) -> dict[str, Any]:
    """What ``train`` returns on every process; what ended one of them is raised as one error.

    Raises:
        RunStoppedError: a signal ended it. KeyboardInterrupt: Ctrl-C did.
        ResvoxError: a process was ended from outside, or the processes did not meet.
    """
    with StopGuard(forwards=True) as guard:
        try:
            result: dict[str, Any] = fabric.launch(train)
            return result
        except (ProcessRaisedException, ProcessExitedException) as error:
            stopped = _reason_of_the_end(error, run, guard)
            if guard.signal_name == "SIGINT" and isinstance(stopped, RunStoppedError):
                raise KeyboardInterrupt from stopped
            raise stopped from error
        except torch.distributed.DistError as error:
            raise ResvoxError(
                f"the processes did not meet, or lost each other ({str(error).partition(chr(10))[0]})",
                expected="as many as are to train together, on machines that reach each other on all ports",
                fix="see docs/scale.md",
                path=run.path,
            ) from error


def _reason_of_the_end(
    error: ProcessRaisedException | ProcessExitedException, run: RunFolder, guard: StopGuard
) -> Exception:
    """The error that a training of several processes raises when one of them has ended."""
    if guard.requested and isinstance(error, ProcessExitedException):
        # The signal came before they listened to it, and ended them.
        return RunStoppedError(
            f"stopped by {guard.signal_name} while its processes started",
            fix="the same command with --resume goes on from the last checkpoint, or begins",
            path=run.path,
        )
    return _original(error, run)


def _original(error: ProcessRaisedException | ProcessExitedException, run: RunFolder) -> Exception:
    """The error that ended a spawned process; its traceback ends with name and text."""
    last = str(error).strip().splitlines()[-1]
    name, _, text = last.partition(": ")
    kind = getattr(errors, name.removeprefix("resvox.errors."), None)
    if isinstance(kind, type) and issubclass(kind, ResvoxError):
        return kind(text)
    if isinstance(error, ProcessExitedException) or any(word in last for word in LOST_PEER):
        reason = last if isinstance(error, ProcessExitedException) else "its connection was closed"
        return ResvoxError(
            f"one of the training processes was ended from outside ({reason})",
            expected="processes that run to the end; the system kills one when memory is short",
            fix="the same command with --resume goes on from the last checkpoint",
            path=run.path,
        )
    return error
