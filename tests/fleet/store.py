"""A server with the protocol of S3 (moto), in a process of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from contextlib import contextmanager

# Takes -H ADDRESS and -p PORT.
SERVER = "import sys; from moto.server import main; main(sys.argv[1:])"


@contextmanager
def s3_server(seconds: float = 60):
    """The port of a server on this machine that answers, for the time of the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    child = subprocess.Popen(
        [sys.executable, "-c", SERVER, "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + seconds
        while not _answers(port):
            if child.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server of moto does not answer at port {port}")
            time.sleep(0.1)
        yield port
    finally:
        child.terminate()
        child.wait()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
