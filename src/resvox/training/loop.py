"""The training loop: prepared cases in, a model file out, resumable after any kill."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from resvox.blueprint.staged.networks import StagedUNet
from resvox.catalog import get_blueprint
from resvox.errors import PlanError, RunStoppedError
from resvox.factory import create_model
from resvox.training.bfloat16 import check_bfloat16
from resvox.training.checkpoints import Members, Progress, fitting, is_readable, load_checkpoint
from resvox.training.distributed.launching import launched
from resvox.training.distributed.norms import share_batch_norms
from resvox.training.distributed.peers import Peers
from resvox.training.distributed.shared import refuse_own_folders, share_of_cases
from resvox.training.distributed.sums import leave_group_at_exit
from resvox.training.finetuning import begin_from_weights, freeze
from resvox.training.logs import ProgressDisplay
from resvox.training.optimization.averaging import WeightAverage
from resvox.training.optimization.narrow_shortcuts import slice_narrow_shortcuts
from resvox.training.optimization.pacing import ValidationTimes
from resvox.training.optimization.schedule import make_optimizer
from resvox.training.plans.base import TrainingPlan
from resvox.training.processes import (
    augments_on_device,
    choose_precision,
    choose_workers,
    fastest_convolutions,
    machines_of,
    make_fabric,
    quiet_libraries,
)
from resvox.training.profiling import Profile, StageClock
from resvox.training.randomness import Purpose, seed_number
from resvox.training.run_folder import LOCK, RunFolder, changed_files, naming_a_full_disk, refuse_other_cases
from resvox.training.steps import CHANNELS_LAST, naming_a_lost_worker, run_steps
from resvox.training.stopping import StopGuard, StopRequestedError
from resvox.training.task import Cases, Job, State, StepReport, Task
from resvox.training.tasks import TASKS, task_of
from resvox.weights import origin_of, save_model
from resvox.weights.provenance import remember


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """Where a run ended: its folder, its model file, its best scores, and the rows of metrics.csv.

    ``best`` are the scores of the weights in the model file, by their columns in metrics.csv; ``shown`` is the one
    that the progress shows and ``title`` its name there.
    """

    run_folder: Path
    model_path: Path
    best: dict[str, float | None]
    shown: str
    title: str
    history: list[dict[str, Any]] = field(repr=False)
    seconds: float
    profile: Profile | None = None

    @property
    def best_score(self) -> float | None:
        """The best of the scores that are shown: mean Dice, balanced accuracy, or MAE."""
        return self.best.get(self.shown)

    @property
    def best_dice(self) -> float:
        """The best mean Dice of a segmentation."""
        return float(self.best.get("dice_mean") or 0.0)


def fit(
    dataset: Any,
    plan: TrainingPlan,
    run_folder: str | os.PathLike[str],
    *,
    resume: bool = False,
    overwrite: bool = False,
    finish: bool = False,
    devices: int | str = 1,
    num_nodes: int = 1,
    accelerator: str = "auto",
    precision: str | None = None,
    workers: int | str | None = None,
    augment_on: str = "auto",
    profile: bool = False,
    progress: bool = True,
    on_step: Callable[[StepReport], None] | None = None,
    colours: Mapping[str, str] | None = None,
) -> FitResult:
    """Train the plan's network on the dataset and write RUN/model.safetensors from the best weights.

    Args:
        dataset: as the plan's task reads it: `Dataset`, `ClassificationDataset`, `RegressionDataset` or `ScanDataset`.
        resume: go on from RUN/checkpoints/last.pt; if it does not exist yet, begin, with a remark.
        overwrite: begin again in a folder that was used before.
        finish: train no further: validate the last checkpoint of a stopped run and write the model of the best
            weights so far. A later ``resume`` goes on from the same checkpoint.
        devices: processes on this machine, or "auto"; under `torchrun` its own number counts. Several are
            spawned: keep the call under ``if __name__ == "__main__":``.
        num_nodes: machines; `torchrun` or srun starts the program on each, and all share the folder of the run.
        accelerator: "auto" takes CUDA where there is a GPU, else the CPU; "cuda" or "cpu".
        precision: instead of the plan's: "32-true", "bf16-mixed" or "16-mixed".
        workers: processes that cut and augment patches, or "auto", see `choose_workers`; changes the speed, not the
            samples. None: "auto" on a GPU, none on a processor.
        augment_on: "processor", "device" or "auto", see `augments_on_device`.
        profile: measure where the time goes, for `FitResult.profile`, the log and RUN/profile.json.
        progress: show a bar on a terminal, plain lines elsewhere; False is silent.
        on_step: called after each step on every process.
        colours: ``{label name: "#rrggbb"}`` to keep in the model file.

    Returns:
        The result, on every process under `torchrun`.

    Raises:
        PlanError: a plan that does not fit the data or the folder, a changed plan on resume.
        DatasetError: a case that cannot be used.
        ResvoxError: a loss that is not a number; the message names the step and the cases.
        RunStoppedError: after SIGTERM or SIGUSR1, once the checkpoint is written.
        LostPeerError: another machine is lost, once the checkpoint of the last step is written.
        KeyboardInterrupt: after Ctrl-C, once the checkpoint is written.
    """
    task = task_of(plan)
    task.check(dataset, plan)
    check_model(plan)
    run = RunFolder(Path(run_folder).expanduser())
    run.check(plan, resume=resume, overwrite=overwrite, finish=finish)
    fabric = make_fabric(plan, devices=devices, num_nodes=num_nodes, accelerator=accelerator, precision=precision)
    chosen = choose_precision(precision or plan.precision, is_cuda=fabric.device.type == "cuda")
    check_bfloat16(plan, chosen, is_cuda=fabric.device.type == "cuda")
    job = Job(
        task=task,
        dataset=dataset,
        plan=plan,
        run=run,
        resume=resume or finish,
        overwrite=overwrite,
        finish=finish,
        precision=chosen,
        workers=choose_workers(
            workers, processes=fabric.world_size // machines_of(fabric), is_cuda=fabric.device.type == "cuda"
        ),
        augments_on_device=_augments_on_device(task, augment_on, plan, fabric.device.type),
        shown=progress,
        on_step=on_step,
        colours=dict(colours or {}),
        profile=profile,
        machines=machines_of(fabric),
    )
    # A partial, not arguments: Fabric refuses frozen dataclasses among what it hands to spawned processes.
    result = launched(fabric, partial(_train, job=job), run)
    return FitResult(run_folder=run.path, model_path=run.model, shown=task.shown, title=task.title, **result)


def _augments_on_device(task: Task, choice: str, plan: TrainingPlan, device: str) -> bool:
    """See `augments_on_device`; not every task can.

    Raises:
        PlanError: another word, or "device" for a task that cannot.
    """
    chosen = augments_on_device(choice, plan, device)
    if choice == "device" and not task.augments_on_device:
        raise PlanError(
            f"augment_on='device' for a {plan.task}",
            expected="a task whose patches can be augmented on the device",
            fix="leave --augment-on out",
        )
    return chosen and task.augments_on_device


def check_model(plan: TrainingPlan) -> None:
    """Refuse a model that does not exist, is not for the task or takes other options, before anything is prepared.

    Raises:
        UnknownModelError, BlueprintError, PlanError
    """
    blueprint = get_blueprint(plan.model, **plan.built_options())
    if blueprint.task not in TASKS[plan.task].models:
        raise PlanError(
            f"model={plan.model!r}, which is for {blueprint.task}",
            expected=f"a model for {plan.task}",
            fix=f"choose one of resvox models --task {plan.task}, or train with --task {blueprint.task}",
        )


def _train(fabric: Fabric, job: Job) -> dict[str, Any]:
    """The whole run on one process; what `FitResult` is made of."""
    quiet_libraries()
    if job.augments_on_device:
        job = replace(job, augment_on=fabric.device)
    display = ProgressDisplay(
        shown=job.shown and fabric.is_global_zero, steps=job.plan.steps, score=job.task.shown, title=job.task.title
    )
    with (
        fastest_convolutions(fabric.device),
        StopGuard() as guard,
        naming_a_full_disk(job.run.path),
        naming_a_lost_worker(job),
    ):
        try:
            peers = Peers(fabric, machines=job.machines, run=job.run.path)
            lock = job.run.locked(display.say, guard.check) if fabric.is_global_zero else nullcontext()
            # The lock outside: another run may take the folder once it is free, and the checkpoint is written before.
            with peers, lock as held, peers.naming_the_lost():
                if held is not None:
                    peers.give_back = partial(held.release, LOCK)
                result = _locked_train(fabric, job, display, guard, peers)
            if fabric.world_size > 1:
                leave_group_at_exit()
            return result
        except StopRequestedError:
            raise _stopped_before_training(job, guard) from None
        except RunStoppedError as error:
            if guard.signal_name == "SIGINT" and fabric.world_size == 1:
                raise KeyboardInterrupt from error
            raise


def _locked_train(fabric: Fabric, job: Job, display: ProgressDisplay, guard: StopGuard, peers: Peers) -> dict[str, Any]:
    torch.manual_seed(seed_number(job.plan.seed, Purpose.WEIGHTS))
    if fabric.is_global_zero:
        # Again, now that no other process writes: another run may have ended here since.
        job.run.check(job.plan, resume=job.resume and not job.finish, overwrite=job.overwrite, finish=job.finish)
        job.run.tidy()
        if not job.resume:
            job.run.clear()
        job.plan.save(job.run.plan)
    fabric.barrier()
    if job.machines > 1:
        refuse_own_folders(fabric, job.run.path)
    state, members = _start(fabric, job, guard, display, peers)
    if state.loaded:
        display.say(state.loaded)
    cases = _prepare(job, state, members, display)
    display.start(state.progress.step)
    history = run_steps(state, job, cases, display)
    measured = state.clock.result() if job.profile and not job.finish else None
    if measured is not None and fabric.is_global_zero:
        display.say(f"profile: {measured}")
        measured.save(job.run.profile)
    if fabric.is_global_zero:
        _export(state, job, display)
    fabric.barrier()
    return {
        "best": state.progress.best,
        "history": history,
        "seconds": state.progress.seconds,
        "profile": measured,
    }


def _stopped_before_training(job: Job, guard: StopGuard) -> BaseException:
    if guard.signal_name == "SIGINT":
        return KeyboardInterrupt()
    return RunStoppedError(
        f"stopped by {guard.signal_name} before the first step; what is prepared is kept",
        fix="run the same command again",
        path=job.run.path,
    )


def _prepare(job: Job, state: State, saved: Members, display: ProgressDisplay) -> Cases:
    """The cases as the network sees them; every process prepares its share and opens all."""
    split = job.dataset.split(fraction=job.plan.validation_fraction, seed=job.plan.seed)
    if not job.finish:
        now = {"train": split.train, "validation": split.validation}
        refuse_other_cases(saved, {part: {c.id: None for c in cases} for part, cases in now.items()}, job.run.last)
    display.say(f"cases to train {len(split.train)}, to validate {len(split.validation)}: {split.reason}")
    for line in job.task.remarks(job):
        display.say(line)

    def progress(done: int, total: int, case: str) -> None:
        state.stop.check()
        display.preparing(done, total, case)

    everyone = list({case.id: case for case in (*split.train, *split.validation)}.values())
    share = share_of_cases(state.fabric, job.run.cache, machines=job.machines)
    job.task.prepare(everyone, job, share=share, progress=progress)
    state.fabric.barrier()
    prepared = dict(zip((case.id for case in everyone), job.task.prepared(everyone, job), strict=True))
    cases = Cases(
        train=[prepared[case.id] for case in split.train],
        validation=[prepared[case.id] for case in split.validation],
    )
    remark = changed_files(saved, cases.members())
    if remark:
        display.say(remark)
    return cases


def _start(fabric: Fabric, job: Job, guard: StopGuard, display: ProgressDisplay, peers: Peers) -> tuple[State, Members]:
    """A new network, one that begins from weights, or the one of a checkpoint; and the cases of that checkpoint."""
    module = build_model(job.plan)
    source = job.run.resume_source(finish=job.finish) if job.resume else None
    loaded = begin_from_weights(module, job.plan, job.task.names(job.dataset)) if source is None else ""
    freeze(module, job.plan)
    if fabric.world_size > 1:
        share_batch_norms(module, fabric.device)
    module.to(memory_format=CHANNELS_LAST[job.plan.spatial_dims])  # type: ignore[call-overload]
    slice_narrow_shortcuts(module)
    optimizer = make_optimizer(module, job.plan, fabric.device)
    progress = Progress()
    content: dict[str, Any] = {}
    if source is not None:
        content = load_checkpoint(source)
        with fitting(source):
            module.load_state_dict(content["model"])
        progress = content["progress"]
        if content.get("origin") is not None:
            remember(module, content["origin"])
        _expect_best(job, progress, display)
    elif job.resume:
        display.say(f"no checkpoint in {job.run.path}: the training begins anew")
    model, wrapped = fabric.setup(module, optimizer)
    if content.get("optimizer") is not None:
        # After setup: the moments must land on the device where the parameters now are.
        with fitting(job.run.last):
            wrapped.load_state_dict(content["optimizer"])
            fabric.strategy.precision.load_state_dict(content["precision"])
    average = WeightAverage(module, job.plan.ema_decay) if job.plan.ema_decay else None
    if average is not None and content:
        with fitting(job.run.last):
            average.load(content.get("average") or content["model"])  # best.pt holds the average as its weights
    state = State(
        fabric=fabric, module=module, model=model, optimizer=wrapped, progress=progress, stop=guard, peers=peers,
        average=average, clock=StageClock(enabled=job.profile, device=fabric.device), loaded=loaded,
        validations=ValidationTimes(**progress.validations),
    )  # fmt: skip
    return state, content.get("cases") or {}


def _expect_best(job: Job, progress: Progress, display: ProgressDisplay) -> None:
    """Where the best weights are gone, the next validation chooses new ones: it comes at once."""
    if progress.best_step and not is_readable(job.run.best):
        display.say(
            f"warning: {job.run.best} of step {progress.best_step} is missing or damaged; "
            "the best of the validations from now on is kept"
        )
        progress.forget_best()
        progress.validation_due = True


def build_model(plan: TrainingPlan) -> nn.Module:
    """The plan's network, newly initialised."""
    model: Any = create_model(plan.model, **plan.built_options())
    if isinstance(model.blueprint.network, StagedUNet):  # as nnU-Net trains its networks
        model.keep_level_sizes()
    assert isinstance(model, nn.Module)
    return model


def _export(state: State, job: Job, display: ProgressDisplay) -> None:
    """RUN/model.safetensors from the best weights, with all that a prediction needs."""
    best = state.progress
    module = build_model(job.plan)  # with plain norms: those of several processes are not stored
    origin = origin_of(state.module)
    if origin is not None:
        remember(module, origin)
    if best.best_step:
        content = load_checkpoint(job.run.best)
        with fitting(job.run.best):
            module.load_state_dict(content["model"])
        best = content["progress"]
    else:
        module.load_state_dict(state.module.state_dict() if state.average is None else state.average.values)
        display.say(f"warning: no validation gave a score; the model holds the weights of step {best.step}")
    training = {
        "dataset": job.dataset.name,
        "step": best.best_step or best.step,
        "steps": state.progress.step,
    }
    card = job.task.card(job, training, best.best)
    save_model(module, job.run.model, metadata=card.to_dict())
