"""Step after step: a batch, a loss, an update; now and then a validation and a checkpoint."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from resvox.errors import ResvoxError, RunStoppedError
from resvox.training.batches import Batch, batch_loader
from resvox.training.checkpoints import Members, Progress, save_checkpoint
from resvox.training.distributed.norms import FEWEST_VALUES, too_few_values
from resvox.training.finetuning import train_mode
from resvox.training.logs import EventsFile, MetricsFile, ProgressDisplay
from resvox.training.optimization.pacing import place_in_plan
from resvox.training.optimization.schedule import learning_rate, set_learning_rate
from resvox.training.plans.base import TrainingPlan
from resvox.training.randomness import Purpose, seed_number
from resvox.training.records import write_scores, write_snapshots
from resvox.training.stopping import StopRequestedError, agreed, end_workers, ignore_ended_children, signals_wait
from resvox.training.task import Cases, Job, State, StepReport
from resvox.weights import origin_of

CHANNELS_LAST = {
    2: torch.channels_last,
    3: torch.channels_last_3d,
}  # measured faster on CPUs and tensor cores


def run_steps(state: State, job: Job, cases: Cases, display: ProgressDisplay) -> list[dict[str, Any]]:
    """Train from the state's step to the end of the plan; the rows of metrics.csv.

    Raises:
        RunStoppedError: a signal stopped the run; its checkpoint is written.
    """
    fabric, first_step = state.fabric, state.progress.step
    if first_step:
        display.say(f"resuming after step {first_step}")
    with _Logs(job, fabric, first_step) as logs, display, naming_a_lost_worker(job), state.peers.naming_the_lost():
        _validate_late(state, job, cases, logs)
        if not job.finish:
            with _batches(state, job, cases) as batches:
                _train_steps(state, job, cases, batches, logs, display)
        return logs.rows


def _train_steps(
    state: State, job: Job, cases: Cases, batches: Iterator[Batch], logs: _Logs, display: ProgressDisplay
) -> None:
    plan: TrainingPlan = job.plan
    fabric, progress, members = state.fabric, state.progress, cases.members()
    loss_function = job.task.loss(cases, job).to(fabric.device)
    train_mode(state.model, plan)
    _warn_of_few_values(state, plan, display)
    began = time.monotonic() - progress.seconds
    state.clock.begin()
    state.peers.keep = partial(_keep_for_others, state, job, members, logs)
    for step in range(progress.step, plan.steps):
        if _time_is_over(plan, progress) and progress.best_step:
            break  # resumed after its time was spent
        rate = learning_rate(plan, place_in_plan(plan, step, progress.seconds))
        with state.clock.measure("data"):
            batch = next(batches)
        loss = _one_step(state, plan, loss_function, batch, step, rate)
        progress.seconds = _seconds(state, plan, began)
        state.clock.count()
        row: dict[str, Any] = {"step": progress.step, "loss": loss, "learning_rate": rate}
        logs.pending = row
        ends, stopped = _validate_if_due(state, job, cases, row, began)
        logs.write(row)
        finished = ends and not progress.validation_due
        stopped = stopped and not finished
        if finished or stopped or progress.step % plan.checkpoint_interval == 0:
            _save_last(state, job, members)
        display.step(row, left_seconds=_left(progress, plan))
        _report(job, state, row, batch)
        if stopped:
            fabric.barrier()  # a process that ends earlier would end the others before the checkpoint is written
            raise _stopped(state, job, display)
        if ends:
            break


def _seconds(state: State, plan: TrainingPlan, began: float) -> float:
    """Seconds of training, the same in all processes where the learning rate follows from them."""
    seconds, fabric = time.monotonic() - began, state.fabric
    if fabric.world_size == 1 or plan.max_minutes is None:
        return seconds
    counted = fabric.all_reduce(torch.tensor(seconds, dtype=torch.float64, device=fabric.device), reduce_op="max")
    return float(counted)  # type: ignore[arg-type]


def _time_is_over(plan: TrainingPlan, progress: Progress) -> bool:
    return plan.max_minutes is not None and progress.seconds > plan.max_minutes * 60


def _validate_if_due(state: State, job: Job, cases: Cases, row: dict[str, Any], began: float) -> tuple[bool, bool]:
    """Complete the row of a step; whether it is the last step of the plan, and whether the run is to be stopped."""
    plan, fabric, progress = job.plan, state.fabric, state.progress
    due = state.validations.is_due(plan, progress.step, progress.seconds)
    stopped, out_of_time, due = agreed(fabric, state.stop.requested, _time_is_over(plan, progress), due)
    ends = out_of_time or progress.step == plan.steps
    progress.validation_due = ends or due
    if progress.validation_due and not stopped:
        before = progress.seconds
        row.update(_validate(state, job, cases))
        progress.seconds = _seconds(state, plan, began)
        _note_validation(state, began=before, took=progress.seconds - before)
        (stopped,) = agreed(fabric, state.stop.requested)
    row["seconds"] = round(progress.seconds, 3)
    return ends, stopped


def _note_validation(state: State, *, began: float, took: float) -> None:
    """Keep in checkpoints when the validation was: a resumed run of limited time does not begin with another."""
    progress = state.progress
    state.validations.note(progress.step, began=began, took=took, ended=progress.seconds)
    progress.validations = dict(vars(state.validations))


def _validate_late(state: State, job: Job, cases: Cases, logs: _Logs) -> None:
    """The validation that a run was stopped before; with `finish`, one of the last checkpoint in any case."""
    progress = state.progress
    if progress.step and (progress.validation_due or (job.finish and not logs.last_has_scores)):
        began = time.monotonic()
        logs.amend(_validate(state, job, cases))
        _note_validation(state, began=progress.seconds, took=time.monotonic() - began)
        if progress.validation_due:
            raise _stopped(state, job, None)
    if job.finish and not progress.step:
        raise ResvoxError("no step has been trained", fix="--resume", path=job.run.path)


@contextmanager
def _batches(state: State, job: Job, cases: Cases) -> Iterator[Iterator[Batch]]:
    """The batches of the steps that are left; an exception ends the workers that cut them."""
    samples: Any = job.task.samples(cases, job)
    device = job.augment_on
    loader = batch_loader(
        samples,
        job.plan,
        first_step=state.progress.step,
        rank=state.fabric.global_rank,
        world_size=state.fabric.world_size,
        workers=job.workers,
        cuts_only=device is not None,
    )
    others = multiprocessing.active_children()
    with signals_wait():
        batches = iter(loader)
    workers = [child for child in multiprocessing.active_children() if child not in others]
    try:
        yield batches if device is None else (cuts.on(device, samples) for cuts in batches)
    except BaseException:
        end_workers(workers)
        raise


@contextmanager
def naming_a_lost_worker(job: Job) -> Iterator[None]:
    """Turn PyTorch's error of a worker that was killed into one line.

    PyTorch raises it from the handler of SIGCHLD, so wherever the main thread is: around the steps, and around all that
    closes behind them.
    """
    try:
        yield
    except (RuntimeError, OSError, EOFError) as error:
        if job.workers == 0 or not _is_of_a_lost_worker(error):
            raise
        ignore_ended_children()
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ResvoxError(
            f"a worker process that cuts patches was ended from outside ({reason})",
            expected="workers that run to the end; the system kills them when memory is short",
            fix="the same command with --resume goes on from the last checkpoint; use fewer --workers",
            path=job.run.path,
        ) from error


def _is_of_a_lost_worker(error: Exception) -> bool:
    """Name a worker that was killed: PyTorch raises a RuntimeError, or a pipe breaks while a tensor is passed."""
    return isinstance(error, (ConnectionError, EOFError)) or "DataLoader worker (pid" in str(error)


def _one_step(
    state: State, plan: TrainingPlan, loss_function: nn.Module, batch: Batch, step: int, rate: float
) -> float:
    """One optimizer step; the loss is the mean over processes."""
    fabric, measure = state.fabric, state.clock.measure
    # Dropout and the like draw from torch's generator: set here, a resume draws the same numbers.
    torch.manual_seed(seed_number(plan.seed, Purpose.STEP, step, fabric.global_rank))
    set_learning_rate(state.optimizer, rate)
    state.keep_buffers()
    with measure("forward"):
        image, target = fabric.to_device((batch.image, batch.target))
        image = image.to(memory_format=CHANNELS_LAST[plan.spatial_dims])
        known = () if batch.known is None else (fabric.to_device(batch.known),)
        loss = loss_function(state.model(image), target, *known)
        _refuse_nan(loss, step, batch)
    with measure("backward"):
        state.optimizer.zero_grad(set_to_none=True)
        fabric.backward(loss)
    mean = loss.detach()
    if fabric.world_size > 1:
        # Before the weights change: where another process is lost, they are still those of the step before.
        mean = fabric.all_reduce(mean, reduce_op="mean").cpu()  # type: ignore[union-attr]
    with measure("optimizer"):
        if plan.gradient_clip:
            fabric.clip_gradients(state.model, state.optimizer, max_norm=plan.gradient_clip, error_if_nonfinite=False)
        with state.steady:
            state.optimizer.step()
            if state.average is not None:
                state.average.update(state.module, step)
            state.progress.step, state.buffers = step + 1, []
            state.mark_whole()
    return float(mean)


def _warn_of_few_values(state: State, plan: TrainingPlan, display: ProgressDisplay) -> None:
    """A warning where a batch norm gets very few values; processes that train together share their statistics."""
    blueprint: Any = state.module.blueprint
    found = too_few_values(state.module, blueprint, plan.batch_size, plan.sample_size)
    if found is not None:
        name, count = found
        display.say(
            f"warning: the batch norm {name} sees {count} values per channel in a batch; fewer than {FEWEST_VALUES} "
            "give no reliable variance: set norm to instance or group, or take a larger batch or patch"
        )


def _keep_for_others(state: State, job: Job, members: Members, logs: _Logs) -> str:
    """Keep the last finished step when another process is lost; what was kept, in words."""
    with state.steady, state.aside():
        state.undo_unfinished()
        if logs.pending is not None and state.progress.step:
            logs.write({**logs.pending, "seconds": round(state.progress.seconds, 3)})
        _save_last(state, job, members)
    step = state.progress.step
    return f"the checkpoint of step {step} is written" if state.fabric.is_global_zero else f"the last step was {step}"


def _refuse_nan(loss: torch.Tensor, step: int, batch: Batch) -> None:
    if not torch.isfinite(loss):
        cases = ", ".join(sorted(set(batch.cases)))
        raise ResvoxError(
            f"the loss is {float(loss.detach())} at step {step + 1}, on patches of {cases}",
            expected="a number",
            fix="look at these cases; else lower learning_rate or set precision to 32-true",
        )


def _validate(state: State, job: Job, cases: Cases) -> dict[str, Any]:
    """The score columns of a row, none where a signal cut the validation short; the best weights so far are kept."""
    with state.clock.measure("validation"), state.answering():
        return _validate_answers(state, job, cases)


def _validate_answers(state: State, job: Job, cases: Cases) -> dict[str, Any]:
    progress = state.progress
    try:
        found = job.task.validate(cases, job, state)
    except StopRequestedError:
        return {}
    progress.validation_due = False
    if found.score is not None and (found.score, found.tie) > (progress.best_score, progress.best_tie):
        progress.best_score, progress.best_tie, progress.best_step = found.score, found.tie, progress.step
        progress.best = {**found.columns, **found.kept}
        write_snapshots(job.run.snapshots / str(state.fabric.global_rank), progress.step, found.snapshots)
        if state.fabric.is_global_zero:
            if found.cases:
                write_scores(job.run.validation, progress.step, found.cases)
            save_checkpoint(
                job.run.best,
                plan=job.plan.to_dict(),
                progress=progress,
                model=state.module.state_dict(),
                origin=origin_of(state.module),
            )
    return found.columns


def _save_last(state: State, job: Job, members: Members) -> None:
    if state.fabric.is_global_zero:
        # During a validation the network has the averaged weights, and the optimizer's moments are of its own ones.
        own = None if state.average is None else state.average.own
        save_checkpoint(
            job.run.last,
            plan=job.plan.to_dict(),
            progress=state.progress,
            model=state.module.state_dict() if own is None else own,
            optimizer=state.optimizer.state_dict(),
            precision=state.fabric.strategy.precision.state_dict(),
            cases=members,
            average=None if state.average is None else state.average.values,
            origin=origin_of(state.module),
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


def _stopped(state: State, job: Job, display: ProgressDisplay | None) -> RunStoppedError:
    step, name = state.progress.step, state.stop.signal_name or "a signal to another process"
    if display is not None:
        display.say(f"stopped after step {step}; go on with --resume ({job.run.last} is written)")
    return RunStoppedError(
        f"stopped by {name} after step {step}; the checkpoint is written",
        fix="the same command with --resume goes on; with --finish it writes the model of the best weights so far",
        path=job.run.path,
    )


class _Logs:
    """metrics.csv and TensorBoard on the first process, nothing on the others."""

    def __init__(self, job: Job, fabric: Fabric, first_step: int) -> None:
        self.rows: list[dict[str, Any]] = []
        self.pending: dict[str, Any] | None = None  # of a step that is finished and not written yet
        self._files: list[MetricsFile | EventsFile] = []
        self._metrics: MetricsFile | None = None
        if fabric.is_global_zero:
            columns = job.task.columns(job.dataset)
            keep_to_step = job.plan.steps if job.finish else first_step
            self._metrics = MetricsFile(job.run.metrics, columns, keep_to_step=keep_to_step)
            self._files = [self._metrics, EventsFile(job.run.events, first_step=first_step)]
            self.rows.extend(self._metrics.rows)

    def __enter__(self) -> _Logs:
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._files:
            file.close()

    @property
    def last_has_scores(self) -> bool:
        """Whether the last row is one of a validation."""
        named = ("step", "loss", "learning_rate", "seconds")
        return bool(self.rows) and any(v is not None for n, v in self.rows[-1].items() if n not in named)

    def amend(self, scores: dict[str, Any]) -> None:
        """Add scores that came late to the last row."""
        if self._metrics is None or not self.rows or not scores:
            return
        self.rows[-1] = self._metrics.amend(scores)
        for file in self._files[1:]:
            file.write({"step": self.rows[-1]["step"], **scores})

    def write(self, row: dict[str, Any]) -> None:
        self.pending = None
        self.rows.append(row)
        for file in self._files:
            file.write(row)
