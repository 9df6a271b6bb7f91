"""A connection between the first process of a training and each other one: lines every few seconds, and a last one."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, TextIO

from lightning_fabric import Fabric

from resvox.errors import ResvoxError

BEAT_SECONDS = 5.0
CONNECT_SECONDS = 60.0  # for all processes to connect to the first one
GREETING_SECONDS = 5.0  # for the first line of a connection: a process sends it at once
LONGEST_GREETING = 1000  # characters
BEAT, DONE, FAILED = "beat", "done", "failed"


class Link:
    """A connection to one other process: sends a line every few seconds, and reads the other's.

    Args:
        lines: of the connection, as `lines_of` reads them.
        name: of the other process, for messages.
        silence: seconds after which the other machine is lost.
        lost: called with a reason and ``is_silent`` when the other process or its machine is lost, at most once.
    """

    def __init__(
        self, connection: socket.socket, lines: TextIO, name: str, silence: float, lost: Callable[..., None]
    ) -> None:
        self.connection, self.lines, self.name, self.silence, self.lost = connection, lines, name, silence, lost
        self.ended = threading.Event()  # the other process sends nothing more
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
        """Read to the end, also after an announced one: the other process may still have a checkpoint to write."""
        announced = False
        try:
            for line in self.lines:
                word, _, text = line.strip().partition(" ")
                if word == FAILED and not announced:
                    self.lost(text, is_silent=False)
                announced = announced or word in (DONE, FAILED)
            reason, is_silent = f"{self.name} has ended", False
        except TimeoutError:
            reason, is_silent = f"{self.name} has been silent for {self.silence:g} s", True
        except OSError as error:
            reason, is_silent = f"{self.name}: {error.strerror or error}", True
        self.ended.set()
        if not announced:
            self.lost(reason, is_silent=is_silent)


def lines_of(connection: socket.socket) -> TextIO:
    """The lines that the other process sends."""
    return connection.makefile("r", encoding="utf-8", errors="replace")


def connect(fabric: Fabric, silence: float, lost: Callable[..., None]) -> list[Link]:
    """From each process to the first one; the first process has a connection to each.

    Raises:
        ResvoxError: processes that do not reach the first one.
    """
    if fabric.is_global_zero:
        with socket.create_server(("", 0), backlog=max(128, fabric.world_size)) as listener:
            token = secrets.token_hex(16)
            fabric.broadcast((listener.getsockname()[1], token))
            return [Link(*each, silence, lost) for each in _accepted(listener, token, fabric.world_size - 1)]
    environment: Any = fabric.strategy.cluster_environment  # type: ignore[attr-defined]
    port, token = fabric.broadcast((0, ""))
    address = environment.main_address
    own = f"process {fabric.global_rank} on {socket.gethostname()}"
    connection = _reached(address, int(port), f"{token} {own}\n")
    return [Link(connection, lines_of(connection), f"process 0 on {address}", silence, lost)]


def _accepted(listener: socket.socket, token: str, count: int) -> list[tuple[socket.socket, TextIO, str]]:
    """The connections of ``count`` processes, which all send the token first; others, as of port scanners, are closed.

    Raises:
        ResvoxError: some did not connect in time.
    """
    deadline = time.monotonic() + CONNECT_SECONDS
    found: list[tuple[socket.socket, TextIO, str]] = []
    try:
        while len(found) < count:
            listener.settimeout(max(0.01, deadline - time.monotonic()))
            connection, _ = listener.accept()
            greeted = _greeted(connection, token)
            if greeted is None:
                connection.close()
            else:
                found.append((connection, *greeted))
    except OSError as error:
        for connection, _, _ in found:
            connection.close()
        raise ResvoxError(
            f"{count - len(found)} of {count} processes did not connect to "
            f"{socket.gethostname()}:{listener.getsockname()[1]} within {CONNECT_SECONDS:.0f} s",
            expected="machines that reach each other on all ports",
            fix="open the ports between them; see docs/scale.md",
        ) from error
    return found


def _greeted(connection: socket.socket, token: str) -> tuple[TextIO, str] | None:
    """The lines of a connection and the name of the process behind it; None where it does not send the token."""
    connection.settimeout(GREETING_SECONDS)
    lines = lines_of(connection)
    try:
        sent, _, name = lines.readline(LONGEST_GREETING).strip().partition(" ")
    except OSError:
        return None
    return (lines, name) if secrets.compare_digest(sent.encode(), token.encode()) else None


def _reached(address: str, port: int, greeting: str) -> socket.socket:
    """A connection to the first process, which has been sent the greeting.

    Raises:
        ResvoxError: the machine cannot be reached.
    """
    deadline = time.monotonic() + CONNECT_SECONDS
    while True:
        try:
            connection = socket.create_connection((address, port), timeout=10)
            connection.sendall(greeting.encode())
            return connection
        except OSError as error:
            if time.monotonic() > deadline:
                raise ResvoxError(
                    f"{address}:{port} cannot be reached from {socket.gethostname()} ({error})",
                    expected="machines that reach each other on all ports",
                    fix="open the ports between them; see docs/scale.md",
                ) from error
            time.sleep(0.5)
