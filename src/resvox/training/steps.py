"""Step after step: a batch, a loss, an update; now and then a validation and a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from resvox.errors import ResvoxError
from resvox.training.batches import Batch, batch_loader
from resvox.training.checkpoints import Progress, save_checkpoint
from resvox.training.finetuning import train_mode
from resvox.training.logs import EventsFile, MetricsFile, ProgressDisplay
from resvox.training.plans.base import TrainingPlan
from resvox.training.randomness import Purpose, seed_number
from resvox.training.schedule import learning_rate, set_learning_rate
from resvox.training.stopping import InterruptGuard, agreed
from resvox.training.task import Cases, Job, State, StepReport

CHANNELS_LAST = {
    2: torch.channels_last,
    3: torch.channels_last_3d,
}  # measured faster on CPUs and tensor cores


def run_steps(
    state: State,
    job: Job,
    cases: Cases,
    display: ProgressDisplay,
) -> list[dict[str, Any]]:
    plan: TrainingPlan = job.plan
    fabric, progress = state.fabric, state.progress
    first_step = progress.step
    if first_step:
        display.say(f"resuming after step {first_step}")
    loader = batch_loader(
        job.task.samples(cases, job),
        plan,
        first_step=first_step,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        workers=job.workers,
    )
    loss_function = job.task.loss(cases, job).to(fabric.device)
    train_mode(state.model, plan)
    began = time.monotonic() - progress.seconds
    limit = None if plan.max_minutes is None else plan.max_minutes * 60
    with _Logs(job, fabric, first_step) as logs, display, InterruptGuard() as guard:
        batches: Iterator[Batch] = iter(loader)
        for step in range(first_step, plan.steps):
            if limit is not None and progress.seconds > limit and progress.best_step:
                break  # resumed after its time was spent
            rate = learning_rate(plan, step)
            batch = next(batches)
            loss = _one_step(state, plan, loss_function, batch, step, rate)
            progress.step, progress.seconds = step + 1, time.monotonic() - began
            out_of_time = limit is not None and progress.seconds > limit
            interrupted, out_of_time = agreed(fabric, guard.asked, out_of_time)
            ends = out_of_time or progress.step == plan.steps
            row: dict[str, Any] = {"step": progress.step, "loss": loss, "learning_rate": rate}
            if ends or (progress.step % plan.validation_interval == 0 and not interrupted):
                row.update(_validate(state, job, cases))
                progress.seconds = time.monotonic() - began
            row["seconds"] = round(progress.seconds, 3)
            logs.write(row)
            if ends or interrupted or progress.step % plan.checkpoint_interval == 0:
                _save_last(state, job)
            display.step(row, left_seconds=_left(progress, plan))
            _report(job, state, row, batch)
            if interrupted and not ends:
                _interrupt(job, progress, display)
            if ends:
                break
        return logs.rows


def _one_step(
    state: State, plan: TrainingPlan, loss_function: nn.Module, batch: Batch, step: int, rate: float
) -> float:
    """One optimizer step; the loss is the mean over processes."""
    fabric = state.fabric
    # Dropout and the like draw from torch's generator: set here, a resume draws the same numbers.
    torch.manual_seed(seed_number(plan.seed, Purpose.STEP, step, fabric.global_rank))
    set_learning_rate(state.optimizer, rate)
    image, target = fabric.to_device((batch.image, batch.target))
    image = image.to(memory_format=CHANNELS_LAST[plan.spatial_dims])
    loss = loss_function(state.model(image), target)
    _refuse_nan(loss, step, batch)
    state.optimizer.zero_grad(set_to_none=True)
    fabric.backward(loss)
    if plan.gradient_clip:
        fabric.clip_gradients(state.model, state.optimizer, max_norm=plan.gradient_clip, error_if_nonfinite=False)
    state.optimizer.step()
    mean = loss.detach()
    if fabric.world_size > 1:
        mean = fabric.all_reduce(mean, reduce_op="mean")
    return float(mean)


def _refuse_nan(loss: torch.Tensor, step: int, batch: Batch) -> None:
    if not torch.isfinite(loss):
        cases = ", ".join(sorted(set(batch.cases)))
        raise ResvoxError(
            f"the loss is {float(loss.detach())} at step {step + 1}, on patches of {cases}",
            expected="a number",
            fix="look at these cases; else lower learning_rate or set precision to 32-true",
        )


def _validate(state: State, job: Job, cases: Cases) -> dict[str, Any]:
    """The score columns of a row; the best weights so far are kept."""
    found = job.task.validate(cases, job, state)
    progress = state.progress
    if found.score is not None and (found.score, found.tie) > (progress.best_score, progress.best_tie):
        progress.best_score, progress.best_tie, progress.best_step = found.score, found.tie, progress.step
        progress.best = found.columns
        if state.fabric.is_global_zero:
            save_checkpoint(job.run.best, plan=job.plan.to_dict(), progress=progress, model=state.module.state_dict())
    return found.columns


def _save_last(state: State, job: Job) -> None:
    if state.fabric.is_global_zero:
        save_checkpoint(
            job.run.last,
            plan=job.plan.to_dict(),
            progress=state.progress,
            model=state.module.state_dict(),
            optimizer=state.optimizer.state_dict(),
            precision=state.fabric.strategy.precision.state_dict(),
        )


def _left(progress: Progress, plan: TrainingPlan) -> float:
    per_step = progress.seconds / progress.step
    left = per_step * (plan.steps - progress.step)
    return left if plan.max_minutes is None else min(left, plan.max_minutes * 60 - progress.seconds)


def _report(job: Job, state: State, row: Mapping[str, Any], batch: Batch) -> None:
    if job.on_step is not None:
        job.on_step(
            StepReport(
                step=row["step"],
                loss=row["loss"],
                learning_rate=row["learning_rate"],
                seconds=row["seconds"],
                cases=batch.cases,
                numbers=batch.numbers,
                rank=state.fabric.global_rank,
                score=row.get(job.task.shown),
            )
        )


def _interrupt(job: Job, progress: Progress, display: ProgressDisplay) -> None:
    display.say(f"stopped after step {progress.step}; go on with --resume ({job.run.last} is written)")
    raise KeyboardInterrupt


class _Logs:
    """metrics.csv and TensorBoard on the first process, nothing on the others."""

    def __init__(self, job: Job, fabric: Fabric, first_step: int) -> None:
        self.rows: list[dict[str, Any]] = []
        self._files: list[MetricsFile | EventsFile] = []
        if fabric.is_global_zero:
            columns = job.task.columns(job.dataset)
            metrics = MetricsFile(job.run.metrics, columns, keep_to_step=first_step)
            self._files = [metrics, EventsFile(job.run.events, first_step=first_step)]
            self.rows.extend(metrics.rows)

    def __enter__(self) -> _Logs:
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._files:
            file.close()

    def write(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        for file in self._files:
            file.write(row)
