"""Files written whole or not at all, what an interrupted write leaves behind, and digests of contents."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import Future

# The first form is written today; the other two were written by resvox 0.1.
_LEFTOVER = re.compile(
    r"\.(?P<stem>.+)\.[0-9a-f]{8}\.partial(?P<ending>(?:\.\w+){0,2})"
    r"|\.(?P<old>.+)\.(?:\d+\.tmp|\w{8}\.partial)",
    re.DOTALL,
)
_ENDING = re.compile(r"(?<=.)(?:(?:\.\w{1,20})?\.(?:gz|bz2|xz|zst)|\.\w{1,20})\Z", re.IGNORECASE | re.DOTALL)
LONGEST_NAME = 255  # bytes, on every common file system
_State = tuple[str, int, int, int, int, int]
# Digests that threads compute, by the state of the file, with the time at which the state was read.
_BEGUN: dict[_State, tuple[Future[str], int]] = {}
_KNOWN: OrderedDict[_State, str] = OrderedDict()  # of files that were asked for before, the last used at the end
MOST_KNOWN = 64
SETTLED = 2e9  # nanoseconds after which a change of a file is sure to have another time than the one before
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_BEGUN.clear)  # a forked process has none of the threads


@contextmanager
def replacing(path: Path, *, check: Callable[[Path], object] | None = None) -> Iterator[Path]:
    """Yield a temporary file name beside ``path``; what is written there replaces ``path`` in one step.

    The temporary name keeps the ending of ``path``, because some libraries choose the format by it. The contents
    are flushed to the disk before the move. After an exception ``path`` is as it was and the temporary file is gone.

    Args:
        path: the file to write. Its parent folder is created.
        check: called with the temporary file before the move; what it raises stops the write.

    Raises:
        OSError: the folder cannot be written to, or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        yield temporary
        if check is not None:
            check(temporary)
        _flush(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def creating_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``path``; it is moved to ``path`` when all its files are written.

    Where another process has created ``path`` in the meantime, that folder stays and this one is removed: use it for
    contents that do not depend on who writes them.

    Raises:
        OSError: the folder cannot be written to, or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _flush(file)
        try:
            os.rename(temporary, path)
        except OSError:
            if not _names(temporary) <= _names(path):
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def replacing_all(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``path``; its files are moved beside ``path``, the one of that name last.

    For a file that needs companions (its weights, its description): a reader that finds ``path`` finds them too.

    Raises:
        OSError: the folder cannot be written to, or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    temporary.mkdir()
    try:
        yield temporary
        files = sorted(temporary.iterdir(), key=lambda file: file.name == path.name)
        for file in files:
            _flush(file)
        for file in files:
            os.replace(file, path.parent / file.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_atomically(path: Path, content: bytes | memoryview | str) -> Path:
    """Write ``content`` (a string as UTF-8, line ends as given) to ``path``, whole or not at all.

    Raises:
        OSError: the folder cannot be written to, or the disk is full.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return path


def remove_leftovers(
    folder: Path, *, of: Iterable[Path] | None = None, prefix: str = "", older_than_s: float = 0.0
) -> None:
    """Remove the temporary files and folders that interrupted writes have left in ``folder``.

    Args:
        folder: the folder; nothing is done if it does not exist.
        of: only what belongs to these targets. Needed where other processes may be writing into ``folder``.
        prefix: only what belongs to files whose names begin so.
        older_than_s: only what was last changed so many seconds ago.
    """
    if not folder.is_dir():
        return
    wanted = None if of is None else {name for path in of for name in (_parts(path), (path.name, ""))}
    newest = time.time() - older_than_s if older_than_s else float("inf")
    for path in folder.iterdir():
        found = _LEFTOVER.fullmatch(path.name)
        if found is None:
            continue
        target = (found["old"] or found["stem"], found["ending"] or "")
        if not target[0].startswith(prefix) or (wanted is not None and target not in wanted):
            continue
        with suppress(FileNotFoundError):  # removed by another process in the meantime
            if path.lstat().st_mtime > newest:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


def sha256_of(source: str | os.PathLike[str] | bytes) -> str:
    """The SHA-256 digest, in hexadecimal, of bytes or of the contents of a file (a path, as string or Path).

    Where `begin_sha256` has begun it, its result is waited for. The digests of some files are kept while these do not
    change, so that a file of weights is read once.

    Raises:
        OSError: a file that cannot be read.
    """
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    now, state = time.time_ns(), file_state(source)
    if state in _KNOWN:
        with suppress(KeyError):  # another thread has removed it
            _KNOWN.move_to_end(state)
            return _KNOWN[state]
    begun, now = _BEGUN.pop(state, (None, now))
    digest = _sha256_of_file(source) if begun is None else begun.result()
    if is_settled(state, now):
        _KNOWN[state] = digest
        while len(_KNOWN) > MOST_KNOWN:
            _KNOWN.popitem(last=False)
    return digest


def begin_sha256(path: str | os.PathLike[str]) -> None:
    """Begin the digest of a file in a thread, for a `sha256_of` that follows; a file that has changed is read anew.

    Hashing holds no interpreter lock: imports and other work of Python go on beside it.
    """
    from concurrent.futures import Future  # late: most imports of this module begin no digest

    begun: Future[str] = Future()

    def work() -> None:
        try:
            begun.set_result(_sha256_of_file(path))
        except BaseException as error:  # raised where the digest is asked for
            begun.set_exception(error)

    with suppress(OSError, RuntimeError):  # a missing file, or a limit on threads: it is computed when it is needed
        now, state = time.time_ns(), file_state(path)
        if state in _KNOWN:
            return
        threading.Thread(target=work, name="resvox-digest", daemon=True).start()
        _BEGUN[state] = begun, now


def file_state(path: str | os.PathLike[str]) -> _State:
    """What changes with a file: path, device, inode, size, the time of the last writing, and that of the last change.

    Raises:
        OSError: there is no such file.
    """
    found = os.stat(path)
    return os.path.abspath(path), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def is_settled(state: _State, now: int) -> bool:
    """Whether each later change of a file gives it another state.

    Args:
        state: of the file.
        now: the time in nanoseconds, taken before the state was read: a file that was changed a moment before can be
            changed again within the resolution of its times.

    Returns:
        False on Windows, where the last time is that of the creation of the file.
    """
    return sys.platform != "win32" and now - max(state[-2:]) > SETTLED


def _sha256_of_file(path: str | os.PathLike[str]) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _temporary(path: Path) -> Path:
    stem, ending = _parts(path)
    return path.with_name(f".{stem}.{secrets.token_hex(4)}.partial{ending}")


def _parts(path: Path) -> tuple[str, str]:
    """Stem and ending of a name, the stem cut so that the temporary name is not too long for a file system."""
    found = _ENDING.search(path.name)
    stem, ending = (path.name[: found.start()], found[0]) if found else (path.name, "")
    length = LONGEST_NAME - len(f"..01234567.partial{ending}".encode())
    return stem.encode()[:length].decode(errors="ignore"), ending


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
