"""The folder of a cross-validation: what lies where, and whether it may be used again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
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

    def has_others(self, fold: int) -> bool:
        """Whether folds beside this one have begun, here or in another job."""
        return any(path != self.run(fold).path for path in self._run_folders())

    def begin(self, folds: Folds, options: TrainOptions, say: Callable[[str], None] = lambda line: None) -> None:
        """Check that the folder may be used as asked, and write folds.json.

        With ``overwrite`` what an earlier call left is removed first: of a single ``fold`` beside which others have
        begun, its run and the results of all folds together; else everything.

        Args:
            say: called with a line where this has to wait for the lock of a run.

        Raises:
            PlanError: a folder that holds other folds or another run, or a fold to be removed that is training.
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
        keeps_others = options.fold is not None and self.has_others(options.fold)
        begins_anew = options.overwrite and not keeps_others
        before = self.read() if self.description.exists() and not begins_anew else None
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
        if options.overwrite:
            self._clear(options.fold if keeps_others else None, say)
        write_atomically(self.description, json.dumps(folds.to_dict(), indent=2, ensure_ascii=False) + "\n")

    def _clear(self, fold: int | None, say: Callable[[str], None]) -> None:
        """Remove a fold and the results of all folds together; its predictions go when it begins to train.

        Args:
            fold: None removes everything, also the folds of a larger number, which would be averaged.
            say: see `begin`.
        """
        runs = [RunFolder(path) for path in self._run_folders()] if fold is None else [self.run(fold)]
        with ExitStack() as locks:
            for run in runs:  # another job may be training one of them: then nothing is removed
                locks.enter_context(run.locked(say, check=lambda: None))
            for run in runs:
                run.clear()
        for path in (self.json, self.csv):
            path.unlink(missing_ok=True)
        if fold is None:
            shutil.rmtree(self.predictions, ignore_errors=True)
            self.description.unlink(missing_ok=True)

    def _run_folders(self) -> list[Path]:
        return [path for path in sorted(self.path.glob("fold_*")) if path.is_dir()]


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
