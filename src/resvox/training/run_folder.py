"""The folder of a run: what lies where, and when it may be used again."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resvox.errors import PlanError
from resvox.files import remove_leftovers
from resvox.machine import prepared_cases_folder
from resvox.training.checkpoints import load_checkpoint
from resvox.training.plans.base import TrainingPlan


@dataclass(frozen=True)
class RunFolder:
    """RUN: plan.yaml, metrics.csv, model.safetensors, checkpoints/, tensorboard/ and cache/."""

    path: Path

    @property
    def plan(self) -> Path:
        """The plan as trained."""
        return self.path / "plan.yaml"

    @property
    def metrics(self) -> Path:
        """One row per step."""
        return self.path / "metrics.csv"

    @property
    def model(self) -> Path:
        """The best weights with blueprint, preprocessing and labels; written at the end."""
        return self.path / "model.safetensors"

    @property
    def events(self) -> Path:
        """TensorBoard's folder."""
        return self.path / "tensorboard"

    @property
    def last(self) -> Path:
        """What a resume begins from."""
        return self.path / "checkpoints" / "last.pt"

    @property
    def best(self) -> Path:
        """The weights with the highest mean Dice so far."""
        return self.path / "checkpoints" / "best.pt"

    @property
    def cache(self) -> Path:
        """Prepared cases: inside the run, or in the folder that RESVOX_PREPARED names, to be shared among runs."""
        return prepared_cases_folder() or self.path / "cache"

    @property
    def is_used(self) -> bool:
        """Whether a training has left something here; a plan alone does not count."""
        return any(path.exists() for path in (self.last, self.best, self.metrics, self.model))

    def check(self, plan: TrainingPlan, *, resume: bool, overwrite: bool) -> None:
        """Refuse before anything is written.

        Raises:
            PlanError: a used folder without ``resume`` or ``overwrite``, both at once, or a changed plan.
        """
        if resume and overwrite:
            raise PlanError("both --resume and --overwrite", expected="one of them", path=self.path)
        if self.is_used and not (resume or overwrite):
            raise PlanError(
                "the folder holds a training run already",
                expected="a new or empty folder",
                fix="--resume to go on with it, --overwrite to start again, or another folder",
                path=self.path,
            )
        if resume and self.last.is_file():
            _refuse_changed_plan(plan, load_checkpoint(self.last)["plan"], self.last)

    def clear(self) -> None:
        """Remove what an earlier run left here; the cache, the plan and files of others stay."""
        for path in (self.metrics, self.model, self.last, self.best):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.events, ignore_errors=True)

    def tidy(self) -> None:
        """Remove temporary files of a killed run."""
        for folder in (self.path, self.last.parent):
            remove_leftovers(folder)


def _refuse_changed_plan(plan: TrainingPlan, saved: Mapping[str, Any], path: Path) -> None:
    """A resumed run must follow the plan it began with, or its curve means nothing."""
    changed = plan.changes_since(saved, path=path)
    if changed:
        listed = ", ".join(f"{name} {then!r} -> {now!r}" for name, (now, then) in changed.items())
        raise PlanError(
            f"the plan has changed since the checkpoint: {listed}",
            expected="the plan that the run began with",
            fix="resume with the plan.yaml of the run, or start another folder",
            path=path,
        )
