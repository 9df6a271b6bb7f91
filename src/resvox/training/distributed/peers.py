"""Machines that train together notice when one of them is lost.

A process that is killed closes its connections, and the others fail at once. A machine without power, or behind a cut
cable, closes nothing: the others would wait for its numbers until the timeout of the process group, half an hour. So
the first process and each other one exchange a line every few seconds over a connection of their own.

The main thread cannot be interrupted while it waits for a lost process inside the communication library. What is left
to do, the checkpoint and the message, is therefore done by the thread that watches, which then ends the process.

The first process writes the checkpoint. The others end after it: torchrun and srun send SIGTERM to all processes of a
machine or a job when one of them has failed, and SIGKILL about 30 seconds later. That the lost process itself has
failed cannot be helped: where a launcher ends the first process for it, writing must take less than these seconds.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

from lightning_fabric import Fabric

from resvox.errors import LostPeerError, ResvoxError
from resvox.training.distributed.links import DONE, FAILED, Link, connect

LOST_SECONDS = 60.0  # silence: RESVOX_LOST_SECONDS sets another
GRACE_SECONDS = 10.0  # for the main thread to end by itself, after another process has announced its end
NAMING_SECONDS = 2.0  # for the reason, which another process may be about to send
KEEP_SECONDS = 600.0  # for the checkpoint, after which the process ends without it

# what gloo and NCCL say where another process is gone
LOST_PEER = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Connection timed out",
    "No route to host",
    "Network is unreachable",
    "Timed out waiting",
    "Broken pipe",
    "remote process exited",
)


def _nothing() -> str:
    return "no further step was trained; the last checkpoint is unchanged"


def is_of_a_lost_peer(error: BaseException) -> bool:
    """Whether the communication library raised an error because another process is gone."""
    return isinstance(error, RuntimeError) and any(word in str(error) for word in LOST_PEER)


def lost_seconds() -> float:
    """How long a machine may be silent: RESVOX_LOST_SECONDS, else a minute."""
    try:
        return max(0.1, float(os.environ["RESVOX_LOST_SECONDS"]))
    except (KeyError, ValueError):
        return LOST_SECONDS


class Peers:
    """The other machines of a training; a context manager around all that needs them.

    With one machine there is nothing to watch: its launcher ends its processes together.

    Args:
        fabric: launched.
        machines: on which the processes run.
        run: the folder of the run, for the message.
    """

    def __init__(self, fabric: Fabric, *, machines: int, run: Path) -> None:
        self.fabric, self.run = fabric, run
        self.is_active = machines > 1
        self.reason = ""  # why the training ends, where another process is to blame
        # Writes what is worth keeping, and returns in words what that is: set while steps are trained.
        self.keep: Callable[[], str] = _nothing
        self.give_back: Callable[[], object] = _nothing  # the lock on the run
        self._links: list[Link] = []
        self._lock = threading.Lock()
        self._named = threading.Event()  # there is a reason
        self._end = threading.Event()

    def __enter__(self) -> Peers:
        if self.is_active:
            self._links = connect(self.fabric, lost_seconds(), self._lost)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        last = DONE if error is None else f"{FAILED} {_origin(error, self.fabric)}"
        for link in self._links:
            link.close(last)

    @contextlib.contextmanager
    def naming_the_lost(self) -> Iterator[None]:
        """Turn the communication library's error about another process into one line, once the checkpoint is kept.

        Raises:
            LostPeerError: with the reason that the other process gave, where it could.
        """
        try:
            yield
        except RuntimeError as error:
            if not self.is_active or not is_of_a_lost_peer(error):
                raise
            if not self.reason:
                self._named.wait(NAMING_SECONDS)
            self._wait_for_the_first()
            with self._lock:  # one thread writes the checkpoint
                self._end.set()
                raise self._error(self.reason or "the connection to another process was closed") from error

    def _error(self, reason: str) -> LostPeerError:
        return LostPeerError(
            f"{reason}; {self.keep()}",
            expected="processes and machines that stay until the end",
            fix="the same command with --resume goes on, with any number of processes that share the batch evenly",
            path=self.run,
        )

    def _lost(self, reason: str, *, is_silent: bool) -> None:
        with self._lock:
            if self.reason or self._end.is_set():
                return
            self.reason = reason
            self._named.set()
        self._tell(f"{FAILED} {reason}")  # the others learn it from the first process
        # In a thread of its own: this one reads on, to see when the other process has ended.
        threading.Thread(
            target=self._end_by_force, args=(reason,), kwargs={"is_silent": is_silent}, daemon=True
        ).start()

    def _tell(self, line: str) -> None:
        for link in self._links:
            link.tell(line)

    def _wait_for_the_first(self) -> None:
        """In another process, wait until the first one has ended or is lost itself."""
        if not self._links or self.fabric.is_global_zero:
            return
        if not self.reason:  # the first process may have lost nothing
            self._tell(f"{FAILED} {_own_name(self.fabric)} has lost its connection to another process")
        self._links[0].ended.wait(GRACE_SECONDS + KEEP_SECONDS)

    def _end_by_force(self, reason: str, *, is_silent: bool) -> None:
        """Write the checkpoint and end the process, unless the main thread does so by itself."""
        self._wait_for_the_first()
        if not is_silent and self._end.wait(GRACE_SECONDS):
            return
        with self._lock:
            if self._end.is_set():
                return
            # In a thread of its own: where the lost machine held the disk, writing to it may never end.
            last = threading.Thread(target=self._last_words, args=(reason,), daemon=True)
            last.start()
            last.join(KEEP_SECONDS)
            os._exit(1)  # the main thread waits inside the communication library, where nothing interrupts it

    def _last_words(self, reason: str) -> None:
        try:
            error: Exception = self._error(reason)
            self.give_back()
        except (ResvoxError, OSError, RuntimeError) as failed:
            error = LostPeerError(f"{reason}; no checkpoint of the last step: {failed}", path=self.run)
        if self.fabric.local_rank == 0:
            print(f"error: {error}", file=sys.stderr, flush=True)


def _origin(error: BaseException, fabric: Fabric) -> str:
    """An error for the other processes: where it was raised, and its first line."""
    if isinstance(error, LostPeerError):
        return error.got
    text = str(error).partition("\n")[0].strip() or type(error).__name__
    return f"{_own_name(fabric)} has ended: {text}"


def _own_name(fabric: Fabric) -> str:
    return f"process {fabric.global_rank} on {socket.gethostname()}"
