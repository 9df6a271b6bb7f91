"""Where the time of a training goes: waiting for data, forward, backward, optimizer, validation."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from resvox.files import write_atomically

STAGES = ("data", "forward", "backward", "optimizer", "validation")
OTHER = "other"  # checkpoints, logs


class StageClock:
    """Seconds in each stage of the steps of one process, where they are asked for.

    Args:
        enabled: otherwise nothing is measured, and nothing waits for a GPU.
        device: on CUDA the end of a stage waits until its work is done, which costs a little speed.
    """

    def __init__(self, *, enabled: bool, device: torch.device) -> None:
        self.enabled = enabled
        self._waits = enabled and device.type == "cuda"
        self._device = device
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._began = time.monotonic()
        self._steps = 0

    def begin(self) -> None:
        """The first step begins now."""
        self._began = time.monotonic()

    def count(self) -> None:
        """A step is done."""
        self._steps += 1

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time of what is within to a stage."""
        if not self.enabled:
            yield
            return
        self._wait()
        began = time.monotonic()
        try:
            yield
        finally:
            self._wait()
            self._seconds[stage] += time.monotonic() - began

    def _wait(self) -> None:
        if self._waits:
            torch.cuda.synchronize(self._device)

    def result(self) -> Profile:
        """What was measured since `begin`."""
        total = time.monotonic() - self._began
        return Profile({**self._seconds, OTHER: max(0.0, total - sum(self._seconds.values()))}, self._steps, total)


class Profile:
    """Seconds per stage.

    Args:
        seconds: of each stage, the rest as "other".
        steps: how many were measured.
        total: seconds of all.
    """

    def __init__(self, seconds: dict[str, float], steps: int, total: float) -> None:
        self.seconds, self.steps, self.total = seconds, steps, total

    @property
    def data_share(self) -> float:
        """The share of the time of the steps, without validations and checkpoints, that is spent waiting for data."""
        in_steps = sum(self.seconds[stage] for stage in STAGES if stage != "validation")
        return self.seconds["data"] / in_steps if in_steps else 0.0

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Stage, seconds, milliseconds per step and share of the whole, as text."""
        steps, total = max(1, self.steps), self.total or 1.0
        return [
            (stage, f"{seconds:.2f}", f"{1000 * seconds / steps:.1f}", f"{100 * seconds / total:.1f} %")
            for stage, seconds in self.seconds.items()
        ]

    def __str__(self) -> str:
        parts = ", ".join(f"{stage} {seconds} s ({share})" for stage, seconds, _, share in self.rows())
        return (
            f"{self.steps} steps in {self.total:.1f} s: {parts}; {100 * self.data_share:.1f} % of a step waits for data"
        )

    def save(self, path: Path) -> None:
        """Write it as JSON, atomically."""
        values = {"steps": self.steps, "total": self.total, "seconds": self.seconds, "data_share": self.data_share}
        write_atomically(path, (json.dumps(values, indent=2) + "\n").encode())
