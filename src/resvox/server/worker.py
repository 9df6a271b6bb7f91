"""The worker process of one device: it owns the models; while one job is computed, the next is read, the last written.

It ends when its server does: the pipe between them closes, however the server ended.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resvox.errors import ResvoxError
from resvox.server.folders import FolderLock
from resvox.server.jobs import Order
from resvox.server.running import JobCancelledError, Running, Task, kind_of, public_reason

if TYPE_CHECKING:
    from resvox.prediction.segmenter import Segmenter
    from resvox.server.settings import ServeSettings

REPORT_SECONDS = 0.1  # between two reports of a job's progress
LOCK_SECONDS = 60.0  # until the worker of a server that was killed must have noticed
STOP = "stop"


def work(pipe: Connection, settings: ServeSettings, device: str, lock: str) -> None:
    """The main function of a worker process.

    Args:
        pipe: orders come in, progress and outcomes go out.
        device: of the engines.
        lock: a file; held while this process lives, so that a job is never run by two.
    """
    if threading.current_thread() is threading.main_thread():
        for each in (signal.SIGINT, signal.SIGTERM):  # of the whole process group; the server decides what they mean
            signal.signal(each, signal.SIG_IGN)
    held = FolderLock(Path(lock))
    if not held.take(wait_s=LOCK_SECONDS):
        pipe.send(("broken", "another worker process holds this device"))
        return
    try:
        Worker(pipe, settings, device).run()
    finally:
        held.release()


class Worker:
    """The threads of a worker: one receives, one reads, this one computes, one writes.

    Args:
        leave: ends this process when the server has ended.
    """

    def __init__(
        self, pipe: Connection, settings: ServeSettings, device: str, *, leave: Callable[[int], object] = os._exit
    ) -> None:
        self.pipe, self.settings, self.device, self.leave = pipe, settings, device, leave
        self.orders: queue.Queue[Order | None] = queue.Queue()
        self.ready: queue.Queue[Task | None] = queue.Queue(1)
        self.behind: queue.Queue[Task | None] = queue.Queue(1)
        self.cancelled: set[str] = set()
        self.reported: dict[str, tuple[str, float]] = {}
        self.problems: dict[str, str] = {}
        self._sending = threading.Lock()

    def run(self) -> None:
        """Load the models, then work until the server stops this process or ends."""
        threading.Thread(target=self._receive, name="receive", daemon=True).start()
        self.running = Running(self._load(), self.settings, self._check)
        threads = [threading.Thread(target=each, name=each.__name__, daemon=True) for each in (self._read, self._write)]
        for thread in threads:
            thread.start()
        while (task := self.ready.get()) is not None:
            made = self._stage(task.order, self.running.compute, task)
            if made is not None:
                self.behind.put(made)
            task = made = None
        self.behind.put(None)
        threads[1].join()

    def _load(self) -> dict[str, Segmenter]:
        from resvox.prediction.segmenter import Segmenter

        predictors, words = {}, {}
        for name, path in self.settings.named_models.items():
            try:
                predictor = Segmenter(self.settings.predict_options(path, self.device), notify=lambda text: None)
            except (ResvoxError, OSError, MemoryError, RuntimeError) as error:  # jobs for the other models are done
                self.problems[name] = " ".join(str(error).split())
                continue
            predictors[name], words[name] = predictor, predictor.engine_words
        self._send("loaded", words, dict(self.problems))
        return predictors

    # ------------------------------------------------------------------------------------------ threads

    def _receive(self) -> None:
        try:
            while True:
                kind, *values = self.pipe.recv()
                if kind == "job":
                    self.orders.put(values[0])
                elif kind == "cancel":
                    self.cancelled.add(values[0])
                else:
                    self.orders.put(None)
        except (EOFError, OSError):
            self.leave(0)  # the server has ended; results are complete or absent

    def _read(self) -> None:
        while (order := self.orders.get()) is not None:
            if order.model in self.problems:
                self._send("failed", order.id, f"the model cannot be used: {self.problems[order.model]}", "model")
                continue
            task = self._stage(order, self.running.read, order)
            if task is not None:
                self.ready.put(task)
            task = None
        self.ready.put(None)

    def _write(self) -> None:
        while (task := self.behind.get()) is not None:
            outcome = self._stage(task.order, self.running.write, task)
            if outcome is not None:
                self._send("done", task.order.id, outcome)
            task = outcome = None

    def _stage(self, order: Order, stage: Any, value: Any) -> Any:
        """What a stage makes; None after an exception, which is the end of this job alone."""
        try:
            return stage(value)
        except JobCancelledError:
            self._send("cancelled", order.id)
        except Exception as error:  # whatever a scan does, the others go on
            self._send("failed", order.id, public_reason(error, Path(order.folder)), kind_of(error))
        self.reported.pop(order.id, None)
        return None

    def _check(self, job: str, stage: str, done: int, total: int) -> None:
        if job in self.cancelled:
            self.cancelled.discard(job)
            raise JobCancelledError
        before, moment = self.reported.get(job, ("", 0.0))
        now = time.monotonic()
        if stage != before or now - moment > REPORT_SECONDS:
            self.reported[job] = (stage, now)
            self._send("progress", job, stage, done, total)
        if stage == "writing":
            self.reported.pop(job, None)

    def _send(self, *message: Any) -> None:
        try:
            with self._sending:
                self.pipe.send(message)
        except OSError:
            self.leave(0)
