"""The training of each fold: one after the other in this process, or several at once in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resvox.errors import ResvoxError, RunStoppedError
from resvox.machine import environment
from resvox.training.plans.options import TrainOptions
from resvox.training.run_folder import RunFolder
from resvox.workflow.folds.assignment import dataset_of_fold
from resvox.workflow.folds.folder import Folds, FoldsFolder
from resvox.workflow.folds.out_of_fold import forget_fold
from resvox.workflow.folds.shares import gpus_of, variables_of

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from resvox.training import FitResult
    from resvox.training.plans.base import TrainingPlan

POLL_SECONDS = 0.2
STOPPED = 75  # exit code of a process that a signal stopped, with its checkpoint written


@dataclass(frozen=True, kw_only=True)
class FoldsJob:
    """What the trainings of all folds have in common; it is sent to other processes as it is."""

    dataset: Any
    plan: TrainingPlan
    folder: FoldsFolder
    folds: Folds
    options: TrainOptions
    colours: Mapping[str, str]


def train_folds(job: FoldsJob, say: Callable[[str], None]) -> None:
    """Train the folds that are not finished yet.

    Args:
        say: called with a line where a fold begins or is passed over.

    Raises:
        RunStoppedError: a signal stopped a fold. ResvoxError: a fold that failed, see `resvox.training.fit`.
    """
    wanted = range(job.folds.count) if job.options.fold is None else [job.options.fold]
    left = []
    for fold in wanted:
        if is_finished(job.folder.run(fold), job.plan):
            say(f"fold {fold}: finished before")
        else:
            forget_fold(job.folder, job.folds, fold)
            left.append(fold)
    if job.options.folds_at_once > 1 and len(left) > 1:
        _train_at_once(job, left, say)
        return
    for fold in left:
        say(f"fold {fold} of {job.folds.count}: {job.folder.run(fold).path}")
        train_fold(job, fold)


def train_fold(job: FoldsJob, fold: int) -> FitResult:
    """Train one fold, from its last checkpoint where it has one and may be resumed."""
    from resvox.training import fit
    from resvox.workflow.training_report.following import after_step, report_of

    run, options = job.folder.run(fold), job.options
    result = fit(
        dataset_of_fold(job.dataset, job.folds.cases, fold),
        job.plan,
        run.path,
        resume=options.resume and run.is_used,
        finish=options.finish,
        devices=options.processes,
        accelerator=options.device,
        workers=options.workers,
        augment_on=options.augment_on,
        profile=options.profile,
        progress=options.progress,
        colours=job.colours,
        on_step=partial(after_step, folder=run.path),
    )
    report_of(run.path)
    return result


def is_finished(run: RunFolder, plan: TrainingPlan) -> bool:
    """Whether a run has its model and nothing left to train.

    Raises:
        PlanError: a run of another plan. ResvoxError: a damaged checkpoint.
    """
    if not run.model.is_file():
        return False
    from resvox.training.checkpoints import load_checkpoint

    run.check(plan, resume=True, overwrite=False)
    source = run.resume_source()
    if source is None:
        return False
    progress = load_checkpoint(source)["progress"]
    is_late = plan.max_minutes is not None and progress.seconds > plan.max_minutes * 60
    return (progress.step >= plan.steps or is_late) and not progress.validation_due


def _train_at_once(job: FoldsJob, left: list[int], say: Callable[[str], None]) -> None:
    """Several folds at a time, each in a process of its own, on a GPU that is free where there are several."""
    from resvox.training.stopping import StopGuard

    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    at_once = min(job.options.folds_at_once, len(left))
    gpus, waiting = gpus_of(job.options), list(left)
    running: dict[int, tuple[BaseProcess, str | None]] = {}
    codes: dict[int, int | None] = {}
    with StopGuard(forwards=True) as guard:
        while waiting or running:
            while waiting and len(running) < at_once and not guard.requested:
                fold, gpu = waiting.pop(0), gpus.take()
                process: BaseProcess = context.Process(target=_in_process, args=(job, fold))
                with environment(variables_of(gpu, at_once=at_once)):
                    process.start()
                running[fold] = process, gpu
                where = "" if gpu is None else f" on GPU {gpu}"
                say(f"fold {fold}: process {process.pid}{where}, its lines are in {job.folder.log(fold)}")
            if guard.requested:
                waiting.clear()
            time.sleep(POLL_SECONDS)
            for fold in [each for each, (process, _) in running.items() if not process.is_alive()]:
                process, gpu = running.pop(fold)
                gpus.give_back(gpu)
                codes[fold] = process.exitcode
                say(f"fold {fold}: {'finished' if codes[fold] == 0 else f'ended with exit code {codes[fold]}'}")
    _raise_for(job, codes, guard.signal_name)


def _raise_for(job: FoldsJob, codes: Mapping[int, int | None], signal_name: str) -> None:
    fix = "the same command with --resume goes on"
    if signal_name == "SIGINT":
        raise KeyboardInterrupt
    if signal_name or STOPPED in codes.values():
        raise RunStoppedError(f"stopped by {signal_name or 'a signal to a fold'}", fix=fix, path=job.folder.path)
    failed = [fold for fold, code in codes.items() if code != 0]
    if failed:
        last = _last_line(job.folder.log(failed[0]))
        raise ResvoxError(
            f"fold {failed[0]} ended with exit code {codes[failed[0]]}{f': {last}' if last else ''}",
            expected="folds that run to the end",
            fix=fix,
            path=job.folder.log(failed[0]),
        )


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _in_process(job: FoldsJob, fold: int) -> None:
    """Train one fold in this fresh process; its lines go to a file, its exit code is that of `resvox train`."""
    log = job.folder.log(fold)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8", buffering=1) as lines:
        os.dup2(lines.fileno(), sys.stdout.fileno())
        os.dup2(lines.fileno(), sys.stderr.fileno())
        try:
            train_fold(replace(job, options=replace(job.options, folds_at_once=1)), fold)
        except ResvoxError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            raise SystemExit(error.exit_code) from None
        except KeyboardInterrupt:
            raise SystemExit(STOPPED) from None
