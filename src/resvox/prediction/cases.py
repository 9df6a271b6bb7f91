"""The cases of a batch, and the state of their files, which shows whether a name still means the same scan."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

CHUNK = 1 << 20  # bytes that are read at once for a digest


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case of a batch.

    Args:
        id: its name, unlike any other of the batch.
        inputs: where it came from, as it stands in the log.
        files: its files and DICOM folders.
        item: what the predictor's ``read`` takes: a `resvox.volumes.InputCase` or a row of a dataset.
        series: of a DICOM folder.
        is_picture: a 2-D picture (PNG, JPEG, TIFF, BMP), whose result may be a picture.
    """

    id: str
    inputs: tuple[str, ...]
    files: tuple[Path, ...]
    item: Any
    series: str | None = None
    is_picture: bool = False


@dataclass(frozen=True, kw_only=True)
class Found:
    """The cases of the inputs, and notes on what was left out."""

    cases: tuple[Case, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Work:
    """What the processes of one call have in common.

    Args:
        cases: found once: a process that looks later would find what the others have written.
        since: what is older (seconds, the folder's clock) is to be done again.
    """

    cases: tuple[Case, ...]
    since: float = 0.0


def state_of(files: Sequence[Path]) -> list[dict[str, Any]]:
    """Size, time and digest of each file or DICOM folder, which show whether it has changed."""
    states = []
    for path in files:
        size, moment = _size_and_time(Path(path))
        states.append({"bytes": size, "modified": moment, "digest": _digest(Path(path), size, moment)})
    return states


def is_same(files: Sequence[Path], state: Sequence[Any]) -> bool:
    """Whether the files are those of which a state was noted.

    A file of the same size and time is taken for the same; one of the same size alone is read.
    """
    if len(files) != len(state):
        return False
    for path, known in zip(files, state, strict=True):
        if not isinstance(known, dict):
            return False
        size, moment = _size_and_time(Path(path))
        if size != known.get("bytes"):
            return False
        if moment != known.get("modified") and _digest(Path(path), size, moment) != known.get("digest"):
            return False
    return True


def _size_and_time(path: Path) -> tuple[int, float]:
    """Bytes and newest time of a file, or of all files of a folder."""
    try:
        stats = [each.stat() for each in _files(path)]
    except OSError:
        return -1, 0.0
    return sum(each.st_size for each in stats), max((each.st_mtime for each in stats), default=0.0)


def _files(path: Path) -> list[Path]:
    return sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]


@lru_cache(maxsize=64)
def _digest(path: Path, size: int, moment: float) -> str:
    """A digest of the contents; "" of what cannot be read. The rows of one ``.npz`` share it, hence the cache."""
    digest = hashlib.blake2b(digest_size=16)
    try:
        for each in _files(path):
            if path.is_dir():
                digest.update(f"{each.relative_to(path)} {each.stat().st_size} ".encode())
            with each.open("rb") as file:
                while chunk := file.read(CHUNK):
                    digest.update(chunk)
    except OSError:
        return ""
    return digest.hexdigest()
