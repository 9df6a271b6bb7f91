"""Checkpoints: tensors and plain values only, written whole or not at all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from resvox.errors import ResvoxError
from resvox.files import replacing

VERSION = 2


@dataclass
class Progress:
    """How far a run has come: what a checkpoint holds beside tensors. ``best`` are the scores at ``best_step``."""

    step: int = 0
    seconds: float = 0.0
    best_score: float = -math.inf
    best_tie: float = -math.inf
    best_step: int = 0
    best: dict[str, float | None] = field(default_factory=dict)


def save_checkpoint(
    path: Path,
    *,
    plan: Mapping[str, Any],
    progress: Progress,
    model: Mapping[str, torch.Tensor],
    optimizer: Mapping[str, Any] | None = None,
    precision: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint that `torch.load(weights_only=True)` reads; the best one needs no optimizer."""
    content = {
        "version": VERSION,
        "plan": dict(plan),
        "progress": dict(vars(progress)),
        "model": dict(model),
        "optimizer": optimizer,
        "precision": dict(precision or {}),
    }
    with replacing(path) as temporary:
        torch.save(content, temporary)


def load_checkpoint(path: Path, *, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint; ``content["progress"]`` becomes a `Progress`.

    Raises:
        ResvoxError: a file that is not a checkpoint of this version.
    """
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        version = content["version"]
        progress = Progress(**content["progress"]) if version == VERSION else None
        complete = isinstance(content["plan"], Mapping) and isinstance(content["model"], Mapping)
    except Exception as error:  # torch.load names none: what a damaged file raises depends on the byte that is wrong
        reason = error.strerror if isinstance(error, OSError) else "damaged, or another kind of file"
        raise ResvoxError(
            f"not a readable checkpoint ({reason})", fix="start again with --overwrite", path=path
        ) from error
    if progress is None or not complete:
        raise ResvoxError(f"a checkpoint of version {version}", expected=f"version {VERSION}, whole", path=path)
    content["progress"] = progress
    return dict(content)
