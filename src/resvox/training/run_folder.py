"""The folder of a run: what lies where, and when it may be used again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resvox.errors import PlanError, ResvoxError
from resvox.files import remove_leftovers
from resvox.locks import Claims
from resvox.machine import prepared_cases_folder
from resvox.training.checkpoints import Members, is_readable, load_checkpoint
from resvox.training.plans.base import TrainingPlan
from resvox.training.prepared import is_full_disk

LOCK = "training"  # the name of the run's lock
NAMED = 5  # cases named in a message, at most


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
    def profile(self) -> Path:
        """Where the time went, where it was measured."""
        return self.path / "profile.json"

    @property
    def events(self) -> Path:
        """The folder of TensorBoard."""
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
    def validation(self) -> Path:
        """The score of each case at the best validation."""
        return self.path / "validation.json"

    @property
    def snapshots(self) -> Path:
        """Slices of its worst cases, in a folder for each process."""
        return self.path / "validation"

    @property
    def cache(self) -> Path:
        """Prepared cases: inside the run, or in the folder that RESVOX_PREPARED names, to be shared among runs."""
        return prepared_cases_folder() or self.path / "cache"

    @property
    def is_used(self) -> bool:
        """Whether a training has left something here; a plan alone does not count."""
        return any(path.exists() for path in (self.last, self.best, self.metrics, self.model))

    def check(self, plan: TrainingPlan, *, resume: bool, overwrite: bool, finish: bool = False) -> None:
        """Check before anything is written that the folder may be used as asked.

        Raises:
            PlanError: a used folder without ``resume`` or ``overwrite``, both at once, or a changed plan.
            ResvoxError: a checkpoint that is missing or damaged.
        """
        if (resume or finish) and overwrite:
            raise PlanError("both --resume and --overwrite", expected="one of them", path=self.path)
        if self.is_used and not (resume or finish or overwrite):
            raise PlanError(
                "the folder holds a training run already",
                expected="a new or empty folder",
                fix="--resume to go on with it, --overwrite to start again, or another folder",
                path=self.path,
            )
        if finish and not (self.last.exists() or self.best.exists()):
            raise PlanError("no checkpoint to make a model of", expected="a run that was stopped", path=self.path)
        source = self.resume_source(finish=finish) if resume or finish else None
        if source is not None:
            _refuse_changed_plan(plan, load_checkpoint(source)["plan"], source)

    def resume_source(self, *, finish: bool = False) -> Path | None:
        """The checkpoint to go on from: last.pt; None if it does not exist yet.

        Args:
            finish: best.pt is enough where last.pt is missing or damaged.

        Raises:
            ResvoxError: last.pt is damaged, or missing beside the best.pt of the same run.
        """
        if not self.last.exists() and not self.best.exists():
            return None
        try:
            load_checkpoint(self.last)
        except ResvoxError as error:
            has_best = is_readable(self.best)
            if finish and has_best:
                return self.best
            way_on = "--finish writes the model of the best weights so far; " if has_best else ""
            raise ResvoxError(
                error.got,
                expected=error.expected,
                fix=f"{way_on}put back a copy of the file and --resume, or start again in another folder",
                path=self.last,
            ) from error
        return self.last

    @contextmanager
    def locked(self, say: Callable[[str], None], check: Callable[[], None]) -> Iterator[Claims]:
        """Keep other processes from training in this folder for as long as the block runs.

        Yields the claims, which hold `LOCK`.

        Where the run's lock belongs to a process of another machine, this waits until its heartbeat is seen, or until
        it has been silent for two minutes: a job that was put back into the queue may find the lock of its first part.

        Args:
            say: called with a line where this has to wait.
            check: called while this waits; what it raises ends the wait.

        Raises:
            PlanError: another process trains here.
        """
        with Claims(self.path) as claims:
            if not claims.take(LOCK):
                self._wait_for(claims, say, check)
            try:
                yield claims
            finally:
                claims.release(LOCK)

    def _wait_for(self, claims: Claims, say: Callable[[str], None], check: Callable[[], None]) -> None:
        owner, beat = claims.holder(LOCK), claims.beat_of(LOCK)
        if not claims.is_local(LOCK):
            say(f"waiting up to {claims.stale_seconds:.0f} s to see whether {owner} still trains in {self.path}")
        while claims.beat_of(LOCK) == beat and not claims.is_local(LOCK):
            check()
            time.sleep(min(1.0, claims.beat_seconds))
            if claims.take(LOCK):
                return
        raise PlanError(
            f"{claims.holder(LOCK)} is training in this folder",
            expected="one training per folder",
            fix="choose another folder with -o, or stop that process with SIGTERM, then --resume",
            path=self.path,
        )

    def clear(self) -> None:
        """Remove what an earlier run left here; the cache, the plan and files of others stay."""
        for path in (self.metrics, self.model, self.last, self.best, self.validation):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.snapshots, ignore_errors=True)
        shutil.rmtree(self.events, ignore_errors=True)

    def tidy(self) -> None:
        """Remove temporary files of a killed run."""
        for folder in (self.path, self.last.parent):
            remove_leftovers(folder)


@contextmanager
def naming_a_full_disk(path: Path) -> Iterator[None]:
    """Turn the error of a full disk into one line with the file, the reason and the way on."""
    try:
        yield
    except OSError as error:
        if not is_full_disk(error):
            raise
        raise ResvoxError(
            f"the disk is full ({error.strerror or error})",
            expected="space for checkpoints, logs and prepared cases",
            fix="free space, then the same command with --resume goes on from the last checkpoint",
            path=error.filename or path,
        ) from error


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


def refuse_other_cases(saved: Members, now: Members, path: Path) -> None:
    """A resumed run must see the cases it began with: which case makes which sample follows from their list.

    Raises:
        PlanError: cases that were added or removed, or that train now and validated before; it names them.
    """
    if not saved:  # a checkpoint of an older version
        return
    before = {case: part for part, members in saved.items() for case in members}
    after = {case: part for part, members in now.items() for case in members}
    changes = {
        "added": sorted(set(after) - set(before)),
        "removed": sorted(set(before) - set(after)),
        "moved between training and validation": sorted(c for c in before if c in after and before[c] != after[c]),
    }
    found = [f"{len(cases)} {what} ({_listed(cases)})" for what, cases in changes.items() if cases]
    if found:
        raise PlanError(
            f"the dataset has changed since the checkpoint, cases: {', '.join(found)}",
            expected="the cases that the run began with",
            fix="put them back; or write this run's model with --finish and train a new folder with "
            "--weights RUN/model.safetensors",
            path=path,
        )


def changed_files(saved: Members, now: Members) -> str:
    """A remark on cases whose files hold other bytes than when the run began; empty if no file has changed."""
    before = {case: checksum for members in saved.values() for case, checksum in members.items()}
    after = {case: checksum for members in now.values() for case, checksum in members.items()}
    changed = [
        case
        for case, checksum in after.items()
        if checksum is not None and before.get(case) is not None and before[case] != checksum
    ]
    if not changed:
        return ""
    return f"warning: the files of {len(changed)} cases have changed since the checkpoint ({_listed(sorted(changed))})"


def _listed(cases: list[str]) -> str:
    return ", ".join(cases[:NAMED]) + (", ..." if len(cases) > NAMED else "")
