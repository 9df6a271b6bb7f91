"""The folder of a cross-validation: what lies where, and whether it may be used again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resvox.errors import PlanError
from resvox.files import write_atomically
from resvox.training.plans.options import TrainOptions
from resvox.training.run_folder import RunFolder

FOLDS = "folds.json"
NAMED = 5  # cases named in a message, at most


@dataclass(frozen=True, kw_only=True)
class Folds:
    """Which case validates in which fold.

    Args:
        count: how many folds there are.
        cases: fold of each case, from 0.
    """

    count: int
    cases: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """As folds.json holds it."""
        return {"folds": self.count, "cases": dict(self.cases)}


@dataclass(frozen=True)
class FoldsFolder:
    """RUN: folds.json, plan.yaml, fold_0/, fold_1/, ..., out_of_fold/, cross_validation.json and .csv."""

    path: Path

    @property
    def description(self) -> Path:
        """Which case validates in which fold."""
        return self.path / FOLDS

    @property
    def plan(self) -> Path:
        """The plan of all folds."""
        return self.path / "plan.yaml"

    @property
    def predictions(self) -> Path:
        """The prediction for each case by the fold that did not train on it."""
        return self.path / "out_of_fold"

    @property
    def json(self) -> Path:
        """Scores out of fold, and the post-processing that they chose."""
        return self.path / "cross_validation.json"

    @property
    def csv(self) -> Path:
        """Scores out of fold, one row per case and label."""
        return self.path / "cross_validation.csv"

    def run(self, fold: int) -> RunFolder:
        """The run of a fold."""
        return RunFolder(self.path / f"fold_{fold}")

    def log(self, fold: int) -> Path:
        """The lines of a fold that trains in a process of its own."""
        return self.run(fold).path / "train.log"

    def read(self) -> Folds | None:
        """The folds of an earlier call; None where there was none.

        Raises:
            PlanError: a file that resvox did not write.
        """
        if not self.description.is_file():
            return None
        try:
            found = json.loads(self.description.read_text(encoding="utf-8"))
            cases = {str(case): int(fold) for case, fold in found["cases"].items()}
            return Folds(count=int(found["folds"]), cases=cases)
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            raise PlanError(
                f"not a readable list of folds ({type(error).__name__})",
                expected="the file that resvox train --folds wrote",
                fix="put a copy back, or start again with --overwrite",
                path=self.description,
            ) from error

    def begin(self, folds: Folds, options: TrainOptions) -> None:
        """Check that the folder may be used as asked, and write folds.json.

        Raises:
            PlanError: a folder that holds other folds or another run.
        """
        if options.resume and options.overwrite:
            raise PlanError("both --resume and --overwrite", expected="one of them", path=self.path)
        if RunFolder(self.path).is_used:
            raise PlanError(
                "the folder holds a training run without folds",
                expected="a new or empty folder, or one that resvox train --folds made",
                fix="choose another folder with -o",
                path=self.path,
            )
        before = self.read() if self.description.exists() and not options.overwrite else None
        if options.overwrite:
            self._clear()
        if before is not None:
            goes_on = options.resume or options.finish or options.fold is not None
            if not goes_on and any(self.run(fold).is_used for fold in range(before.count)):
                raise PlanError(
                    "the folder holds a cross-validation already",
                    expected="a new or empty folder",
                    fix="--resume to go on with it, --overwrite to start again, or another folder",
                    path=self.path,
                )
            refuse_other_folds(before, folds, self.description)
        write_atomically(self.description, json.dumps(folds.to_dict(), indent=2, ensure_ascii=False) + "\n")

    def _clear(self) -> None:
        """Remove what an earlier cross-validation left, also its further folds, which would be averaged."""
        for folder in self.path.glob("fold_*"):
            RunFolder(folder).clear()
        shutil.rmtree(self.predictions, ignore_errors=True)
        for path in (self.json, self.csv, self.description):
            path.unlink(missing_ok=True)


def refuse_other_folds(before: Folds, now: Folds, path: Path) -> None:
    """A resumed cross-validation must divide the cases as it did before.

    Raises:
        PlanError: another number of folds, or cases that were added, removed or moved; it names them.
    """
    if before.count != now.count:
        raise PlanError(
            f"{now.count} folds in a folder with {before.count}",
            expected=f"--folds {before.count}",
            fix="choose another folder with -o for another number of folds",
            path=path,
        )
    changes = {
        "added": [case for case in now.cases if case not in before.cases],
        "removed": [case for case in before.cases if case not in now.cases],
        "moved": [case for case, fold in now.cases.items() if before.cases.get(case, fold) != fold],
    }
    found = [f"{len(cases)} {what} ({_listed(cases)})" for what, cases in changes.items() if cases]
    if found:
        raise PlanError(
            f"the cases of the folds have changed: {', '.join(found)}",
            expected="the cases that the cross-validation began with, and its seed",
            fix="put them back, or begin again in another folder",
            path=path,
        )


def _listed(cases: list[str]) -> str:
    return ", ".join(cases[:NAMED]) + (", ..." if len(cases) > NAMED else "")
