"""`resvox serve` as a process of its own, with its worker processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import requests
from server.toy import until


class ServerProcess:
    """A server that is started, killed and started again on one folder."""

    def __init__(self, data: Path, *arguments: str) -> None:
        self.data, self.arguments, self.port = data, arguments, 0
        self.process: subprocess.Popen[str] | None = None
        self.logs: list[Path] = []
        self.url = ""

    def start(self, *, ready: bool = True) -> ServerProcess:
        log = (
            self.data.parent / f"{self.data.name}-{id(self)}-{len(self.logs)}.log"
        )  # a server on the same data has its own
        self.logs.append(log)
        command = [sys.executable, "-m", "resvox", "serve", *self.arguments, "--data", str(self.data)]
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port)], stdout=subprocess.PIPE, stderr=errors, text=True
            )
        line = self.process.stdout.readline()
        assert line.startswith("Serving on "), log.read_text()[-3000:]
        self.url = line.split()[2]
        self.port = int(self.url.rpartition(":")[2])
        if ready:
            until(lambda: requests.get(f"{self.url}/healthz", timeout=60).ok, 120)
        return self

    @property
    def workers(self) -> list[int]:
        """Numbers of the worker processes."""
        found = []
        for each in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((each / "stat").read_text().rpartition(")")[2].split()[1])
                is_worker = b"spawn_main" in (each / "cmdline").read_bytes()
            except OSError:
                continue
            if parent == self.process.pid and is_worker:
                found.append(int(each.name))
        return found

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(60)
        self.process.stdout.close()

    def kill_worker(self) -> bool:
        workers = self.workers
        for each in workers:
            os.kill(each, signal.SIGKILL)
        return bool(workers)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(120)
        self.process.stdout.close()
        return code

    def memory_mb(self) -> float:
        """Resident memory of the server and its workers."""
        total = 0
        for each in (self.process.pid, *self.workers):
            try:
                total += int(Path(f"/proc/{each}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            except OSError:
                continue
        return total / 1e6
