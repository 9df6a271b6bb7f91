"""What machine and environment variables say: threads, which process this is, folders for files made again."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

from resvox.errors import ResvoxError

THREADS = "OMP_NUM_THREADS"
ENGINE_CACHE = "RESVOX_CACHE"
PREPARED_CASES = "RESVOX_PREPARED"


def usable_threads() -> int:
    """The value of OMP_NUM_THREADS, otherwise the number of processors that this process may use."""
    named = _named_threads()
    if named is not None:
        return named
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables in the block, for imports in it and for processes that are started in it.

    A process reads them before its first import: torch takes its number of threads when it is imported, which is
    before the function of the process is called.
    """
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def divided_threads(processes: int) -> Iterator[None]:
    """Give this process and each one that it starts meanwhile an equal part of its processors, by OMP_NUM_THREADS.

    A number that the user has set there is kept, and passed on as it is.

    Args:
        processes: how many they are, this one included.
    """
    if _named_threads() is not None:
        yield
        return
    whole = usable_threads()
    torch = sys.modules.get("torch")
    torch_threads = whole if torch is None else torch.get_num_threads()
    share = max(whole // processes, 1)
    with environment({THREADS: str(share)}):
        _limit_torch(share)
        try:
            yield
        finally:
            _limit_torch(torch_threads)


def _named_threads() -> int | None:
    named = os.environ.get(THREADS, "")
    return int(named) if named.isdigit() and int(named) > 0 else None


def _limit_torch(threads: int) -> None:
    """The threads of torch where it is imported already; it reads the variable only while it is imported."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)


def is_first_process() -> bool:
    """False in all but one of the processes that torchrun or srun started together."""
    return os.environ.get("RANK", _of_srun("SLURM_PROCID")) == "0"


def is_first_here() -> bool:
    """False in all but one of the processes on this machine that torchrun or srun started together."""
    return os.environ.get("LOCAL_RANK", _of_srun("SLURM_LOCALID")) == "0"


def _of_srun(name: str) -> str:
    """A variable of a step of several tasks; those of a whole job are set in every program of it."""
    return os.environ.get(name, "0") if int(os.environ.get("SLURM_STEP_NUM_TASKS") or 1) > 1 else "0"


def block_tensorflow_import() -> None:
    """Keep TensorBoard, which MONAI imports, from importing TensorFlow; to be called before MONAI is imported.

    TensorBoard loads all of TensorFlow, where that is installed, only to write files: it takes seconds, prints lines,
    and imports Keras with TensorFlow as its backend, after which `resvox.keras` cannot select another one. A module of
    this name is TensorBoard's own way to do without TensorFlow.
    """
    sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))


def engine_cache_folder() -> Path | None:
    """The folder of compiled networks: RESVOX_CACHE, otherwise the user's cache folder.

    Returns:
        None where RESVOX_CACHE is set and empty (no cache), or where this user has no home folder.

    Raises:
        ResvoxError: a ``~`` in RESVOX_CACHE that stands for no home folder.
    """
    named = _folder_of(ENGINE_CACHE)
    if named is not None or ENGINE_CACHE in os.environ:
        return named
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or os.path.expanduser("~/AppData/Local")
    elif sys.platform == "darwin":
        base = os.path.expanduser("~/Library/Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return None if base.startswith("~") else Path(base) / "resvox" / "engines"


def prepared_cases_folder() -> Path | None:
    """The folder in which training runs share prepared cases: RESVOX_PREPARED, otherwise RESVOX_CACHE/prepared.

    Returns:
        None where neither is set: each run then keeps its own. An empty RESVOX_PREPARED has the same effect.

    Raises:
        ResvoxError: a ``~`` in the variable that stands for no home folder.
    """
    named = _folder_of(PREPARED_CASES)
    if named is not None or PREPARED_CASES in os.environ:
        return named
    shared = _folder_of(ENGINE_CACHE)
    return None if shared is None else shared / "prepared"


def _folder_of(variable: str) -> Path | None:
    value = os.environ.get(variable, "").strip()
    if not value:
        return None
    path = os.path.expanduser(value)
    if path.startswith("~"):
        raise ResvoxError(
            f"{variable}={value!r}, and no home folder is known for it",
            expected="the path of a folder",
            fix="write the whole path",
        )
    return Path(path)


def return_freed_memory() -> None:
    """Hand memory that was freed back to the operating system, where the C library can (glibc).

    Weights are many allocations below the size that glibc maps on their own; freed ones would stay with the process.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library
        return
    trim(0)
