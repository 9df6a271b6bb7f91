"""C libraries that print to standard error, silenced for the calling code alone.

File descriptor 2 belongs to the whole process: redirecting it also discards what other threads write. On Linux a
thread can have a table of descriptors of its own, so such a library runs in a thread whose descriptor 2 leads nowhere.
Where that is not possible (other systems, containers that forbid it) the library prints, and nothing is lost.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")
CLONE_FILES = 0x400  # of sched.h
MOST_DESCRIPTORS = 1 << 16
_POOL: ThreadPoolExecutor | None = None
_LOCK = threading.Lock()


def silently(call: Callable[[], Result]) -> Result:
    """The result of `call`, discarding what it prints to standard error where the system supports it.

    `call` must not use files or sockets that were opened before it.
    """
    return _pool().submit(call).result()


def _pool() -> ThreadPoolExecutor:
    global _POOL
    with _LOCK:
        if _POOL is None:
            _POOL = ThreadPoolExecutor(os.cpu_count(), "silent", initializer=_leave_standard_error)
        return _POOL


def _leave_standard_error() -> None:
    """Give this thread a table of descriptors of its own, which contains only a silent standard error."""
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(CLONE_FILES) != 0:
        return  # forbidden here; the library prints
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    os.closerange(3, MOST_DESCRIPTORS)  # copies, which would keep other threads' pipes and files open


def _forget_pool() -> None:
    """After a fork: the child has none of the pool's threads, and perhaps a lock that is never released."""
    global _POOL, _LOCK
    _POOL, _LOCK = None, threading.Lock()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forget_pool)
