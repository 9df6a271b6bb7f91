"""How many threads this process may use."""

from __future__ import annotations

import os


def usable_threads() -> int:
    """As many as OMP_NUM_THREADS says, else as many as the process may run on."""
    named = os.environ.get("OMP_NUM_THREADS", "")
    if named.isdigit() and int(named) > 0:
        return int(named)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
