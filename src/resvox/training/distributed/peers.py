"""Machines that train together notice when one of them is lost.

A process that is killed closes its connections, and the others fail at once. A machine without power, or behind a cut
cable, closes nothing: the others would wait for its numbers until the timeout of the process group, half an hour. So
the first process and each other one exchange a line every few seconds over a connection of their own.

The main thread cannot be interrupted while it waits for a lost process inside the communication library. What is left
to do, the checkpoint and the message, is therefore done by the thread that watches, which then ends the process.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from lightning_fabric import Fabric

from resvox.errors import LostPeerError, ResvoxError

BEAT_SECONDS = 5.0
LOST_SECONDS = 60.0  # silence: RESVOX_LOST_SECONDS sets another
GRACE_SECONDS = 10.0  # for the main thread to end by itself, after another process has announced its end
KEEP_SECONDS = 600.0  # for the checkpoint, after which the process ends without it
BEAT, DONE, FAILED = "beat", "done", "failed"

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
    return "nothing was trained yet"


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
        self._links: list[_Link] = []
        self._lock = threading.Lock()
        self._end = threading.Event()

    def __enter__(self) -> Peers:
        if self.is_active:
            self._links = _connect(self.fabric, lost_seconds(), self._lost)
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
                self._end.wait(GRACE_SECONDS / 5)  # its last line may be on its way
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
        for link in self._links:  # the others learn it from the first process
            link.tell(f"{FAILED} {reason}")
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


class _Link:
    """A connection to one other process: sends a line every few seconds, and reads the other's."""

    def __init__(self, connection: socket.socket, lines: TextIO, name: str, silence: float, lost: Any) -> None:
        self.connection, self.lines, self.name, self.silence, self.lost = connection, lines, name, silence, lost
        self._end = threading.Event()
        self._sending = threading.Lock()
        connection.settimeout(silence)
        self.reading = threading.Thread(target=self._read, name=f"resvox-read-{name}", daemon=True)
        self.reading.start()
        threading.Thread(target=self._send, name=f"resvox-send-{name}", daemon=True).start()

    def tell(self, line: str) -> None:
        """Send a line; an error is left to the thread that reads."""
        with contextlib.suppress(OSError), self._sending:
            self.connection.sendall(f"{' '.join(line.split())}\n".encode())

    def close(self, last: str) -> None:
        """Send a last line and nothing more."""
        self._end.set()
        self.tell(last)
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)

    def _send(self) -> None:
        while not self._end.wait(min(BEAT_SECONDS, self.silence / 4)):
            self.tell(BEAT)

    def _read(self) -> None:
        try:
            for line in self.lines:
                word, _, text = line.strip().partition(" ")
                if word == DONE:
                    return
                if word == FAILED:
                    self.lost(text, is_silent=False)
                    return
            self.lost(f"{self.name} has ended", is_silent=False)
        except TimeoutError:
            self.lost(f"{self.name} has been silent for {self.silence:g} s", is_silent=True)
        except OSError as error:
            self.lost(f"{self.name}: {error.strerror or error}", is_silent=True)


def _origin(error: BaseException, fabric: Fabric) -> str:
    """An error for the other processes: where it was raised, and its first line."""
    if isinstance(error, LostPeerError):
        return error.got
    text = str(error).partition("\n")[0].strip() or type(error).__name__
    return f"process {fabric.global_rank} on {socket.gethostname()} has ended: {text}"


def _connect(fabric: Fabric, silence: float, lost: Any) -> list[_Link]:
    """From each process to the first one; the first process has a connection to each."""
    environment: Any = fabric.strategy.cluster_environment  # type: ignore[attr-defined]
    if fabric.is_global_zero:
        with socket.create_server(("", 0), backlog=fabric.world_size) as listener:
            listener.settimeout(LOST_SECONDS)
            fabric.broadcast(listener.getsockname()[1])
            links = []
            for _ in range(fabric.world_size - 1):
                connection, _ = listener.accept()
                lines = _lines(connection)
                links.append(_Link(connection, lines, lines.readline().strip(), silence, lost))
            return links
    port = fabric.broadcast(0)
    address = environment.main_address
    connection = _reach(address, int(port))
    own = f"process {fabric.global_rank} on {socket.gethostname()}"
    connection.sendall(f"{own}\n".encode())
    return [_Link(connection, _lines(connection), f"process 0 on {address}", silence, lost)]


def _lines(connection: socket.socket) -> TextIO:
    return connection.makefile("r", encoding="utf-8", errors="replace")


def _reach(address: str, port: int) -> socket.socket:
    """A connection to the first process.

    Raises:
        ResvoxError: the machine cannot be reached.
    """
    deadline = time.monotonic() + LOST_SECONDS
    while True:
        try:
            return socket.create_connection((address, port), timeout=10)
        except OSError as error:
            if time.monotonic() > deadline:
                raise ResvoxError(
                    f"{address}:{port} cannot be reached from {socket.gethostname()} ({error})",
                    expected="machines that reach each other on all ports",
                    fix="open the ports between them; see docs/scale.md",
                ) from error
            time.sleep(0.5)
