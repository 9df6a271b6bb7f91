"""Seconds and memory of this process, for the paths that are compared."""

from __future__ import annotations

import os
import pathlib
import platform
import resource
import time
from collections.abc import Callable
from typing import Any


def memory_gb() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e9


def cpu_seconds() -> float:
    """Processor seconds of all threads of this process, which depend little on other work on the machine."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_gb() -> float:
    """The most main memory of this program; `ru_maxrss` of a process includes what its parent held before it."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e9


class Watch:
    """Seconds per stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, stage: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        made = work()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start
        return made


def processor() -> str:
    """The name of the processor, and the vector units that matter here."""
    text = pathlib.Path("/proc/cpuinfo").read_text() if pathlib.Path("/proc/cpuinfo").exists() else ""
    names = [line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name")]
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    has = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags.split()]
    return f"{names[0] if names else platform.processor()} ({', '.join(has)})"


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16; without such units it is far slower than float32."""
    return "bf16" in processor()
