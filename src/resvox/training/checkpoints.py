"""Checkpoints: tensors and plain values only, written whole or not at all."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from resvox.errors import ResvoxError
from resvox.files import replacing

VERSION = 2
Members = Mapping[str, Mapping[str, int | None]]  # {"train": {case id: checksum of its files}, "validation": ...}


@dataclass
class Progress:
    """How far a run has come: what a checkpoint holds beside tensors. ``best`` are the scores at ``best_step``.

    ``validation_due``: the run was stopped at a step that validates, before it had. ``validations``: the fields of
    `ValidationTimes`.
    """

    step: int = 0
    seconds: float = 0.0
    best_score: float = -math.inf
    best_tie: float = -math.inf
    best_step: int = 0
    best: dict[str, float | None] = field(default_factory=dict)
    validation_due: bool = False
    validations: dict[str, Any] = field(default_factory=dict)

    def forget_best(self) -> None:
        """As if no validation had been: the next one chooses the best weights."""
        self.best_score = self.best_tie = -math.inf
        self.best_step, self.best = 0, {}


def save_checkpoint(
    path: Path,
    *,
    plan: Mapping[str, Any],
    progress: Progress,
    model: Mapping[str, torch.Tensor],
    optimizer: Mapping[str, Any] | None = None,
    precision: Mapping[str, Any] | None = None,
    cases: Members | None = None,
    average: Mapping[str, torch.Tensor] | None = None,
    origin: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint that `torch.load(weights_only=True)` reads; the best one needs no optimizer.

    Args:
        average: the moving average of the weights, where there is one.
        origin: where the weights came from that the training began from; None for new ones.

    Raises:
        ResvoxError: the disk is full or the folder cannot be written; what was there before is whole.
    """
    content = {
        "version": VERSION,
        "plan": dict(plan),
        "progress": dict(vars(progress)),
        "model": dict(model),
        "optimizer": optimizer,
        "precision": dict(precision or {}),
        "cases": {part: dict(members) for part, members in (cases or {}).items()},
    }
    if average is not None:
        content["average"] = dict(average)
    if origin is not None:
        content["origin"] = dict(origin)
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.values()) * (1 if optimizer is None else 3)
    with _naming_the_checkpoint(path, size), replacing(path) as temporary:
        torch.save(content, temporary)


def load_checkpoint(path: Path, *, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint; ``content["progress"]`` becomes a `Progress`.

    Raises:
        ResvoxError: a file that is missing, damaged or of another version.
    """
    if not path.is_file():
        raise ResvoxError("no such checkpoint", expected="a file that a training wrote", path=path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged files PyTorch remarks on their pickle protocol
            content = torch.load(path, map_location=device, weights_only=True)
        version = content["version"]
        content = dict(content)
        content["progress"] = Progress(**content["progress"]) if version == VERSION else None
        missing = {name for name in ("plan", "model") if not isinstance(content.get(name), Mapping)}
    # Whatever a damaged file makes the reader raise: its texts advise to read the file without its safeguards.
    except Exception as error:
        raise ResvoxError(
            f"not a readable checkpoint ({type(error).__name__}: damaged, or not written by resvox)",
            expected="a file that a training wrote",
            path=path,
        ) from error
    if version != VERSION:
        raise ResvoxError(f"a checkpoint of version {version}", expected=f"version {VERSION}", path=path)
    if missing:
        raise ResvoxError(f"a checkpoint without {' and '.join(sorted(missing))}", path=path)
    return content


def is_readable(path: Path) -> bool:
    """Whether `load_checkpoint` reads a file."""
    try:
        load_checkpoint(path)
    except ResvoxError:
        return False
    return True


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Turn what PyTorch raises for tensors of another network into one line that names the checkpoint."""
    try:
        yield
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ResvoxError(
            f"the checkpoint does not fit the plan's network ({first})",
            expected="the checkpoint of this run",
            fix="restore it from a copy",
            path=path,
        ) from error


@contextmanager
def _naming_the_checkpoint(path: Path, size: int) -> Iterator[None]:
    try:
        yield
    # PyTorch raises a RuntimeError where the disk is full.
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "PyTorch could not write the file; is the disk full?"
        raise ResvoxError(
            f"the checkpoint could not be written ({reason})",
            expected=f"a folder that can be written to, with {max(1, round(size / 2**20))} MiB of free space",
            fix="free space, then the same command with --resume: the checkpoint before it is whole",
            path=path,
        ) from error
