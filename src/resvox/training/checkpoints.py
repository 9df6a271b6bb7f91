"""Checkpoints: tensors and plain values only, written whole or not at all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from resvox.errors import PlanError, ResvoxError
from resvox.files import replacing
from resvox.training.plans.base import MAY_CHANGE_ON_RESUME, TrainingPlan
from resvox.training.segmentation.plan import plan_from_dict

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
    plan: TrainingPlan,
    progress: Progress,
    model: Mapping[str, torch.Tensor],
    optimizer: Mapping[str, Any] | None = None,
    precision: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint that `torch.load(weights_only=True)` reads; the best one needs no optimizer."""
    content = {
        "version": VERSION,
        "plan": plan.to_dict(),
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
        known = content["version"] == VERSION
    except (RuntimeError, OSError, KeyError, TypeError, EOFError, ValueError) as error:
        raise ResvoxError(
            f"not a readable checkpoint ({error})", fix="start again with --overwrite", path=path
        ) from error
    if not known:
        raise ResvoxError(f"a checkpoint of version {content['version']}", expected=f"version {VERSION}", path=path)
    content["progress"] = Progress(**content["progress"])
    return dict(content)


def refuse_changed_plan(plan: TrainingPlan, saved: Mapping[str, Any], path: Path) -> None:
    """A resumed run must follow the plan it began with, or its curve means nothing."""
    changed = {
        name: values
        for name, values in plan.differences(plan_from_dict(saved, path=path)).items()
        if name not in MAY_CHANGE_ON_RESUME
    }
    if changed:
        told = ", ".join(f"{name} {was!r} -> {now!r}" for name, (now, was) in changed.items())
        raise PlanError(
            f"the plan has changed since the checkpoint: {told}",
            expected="the plan that the run began with",
            fix="resume with the plan.yaml of the run, or start another folder",
            path=path,
        )
