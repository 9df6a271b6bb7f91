"""The training loop: prepared cases in, a model file out, resumable after any kill."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.multiprocessing import ProcessRaisedException

from resvox import errors
from resvox.catalog import get_blueprint
from resvox.errors import PlanError, ResvoxError
from resvox.factory import create_model
from resvox.training.bfloat16 import check_bfloat16
from resvox.training.checkpoints import Progress, load_checkpoint
from resvox.training.finetuning import begin_from_weights, freeze
from resvox.training.logs import ProgressDisplay
from resvox.training.plans.base import TrainingPlan
from resvox.training.processes import choose_precision, make_fabric
from resvox.training.randomness import Purpose, seed_number
from resvox.training.run_folder import RunFolder
from resvox.training.schedule import make_optimizer
from resvox.training.steps import CHANNELS_LAST, run_steps
from resvox.training.task import Cases, Job, State, StepReport
from resvox.training.tasks import TASKS, task_of
from resvox.weights import save_model


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

    @property
    def best_score(self) -> float | None:
        """The best of the scores that are shown: mean Dice, balanced accuracy, or MAE."""
        return self.best[self.shown]

    @property
    def best_dice(self) -> float:
        """Of a segmentation, the best mean Dice."""
        return float(self.best["dice_mean"] or 0.0)


def fit(
    dataset: Any,
    plan: TrainingPlan,
    run_folder: str | os.PathLike[str],
    *,
    resume: bool = False,
    overwrite: bool = False,
    devices: int | str = 1,
    num_nodes: int = 1,
    accelerator: str = "auto",
    precision: str | None = None,
    workers: int = 0,
    progress: bool = True,
    on_step: Callable[[StepReport], None] | None = None,
    colours: Mapping[str, str] | None = None,
) -> FitResult:
    """Train the plan's network on the dataset and write RUN/model.safetensors from the best weights.

    Args:
        dataset: as the plan's task reads it: `Dataset`, `ClassificationDataset` or `RegressionDataset`.
        resume: go on from RUN/checkpoints/last.pt; where there is none yet, begin.
        overwrite: begin again in a folder that was used before.
        devices: processes on this machine, or "auto"; under `torchrun` its own number counts. Several are
            spawned: keep the call under ``if __name__ == "__main__":``.
        precision: instead of the plan's: "32-true", "bf16-mixed" or "16-mixed".
        workers: processes that cut and augment patches; changes the speed, not the samples.
        progress: show a bar on a terminal, plain lines elsewhere; False is silent.
        on_step: called after each step on every process.
        colours: ``{label name: "#rrggbb"}`` to keep in the model file.

    Returns:
        The result, on every process under `torchrun`.

    Raises:
        PlanError: a plan that does not fit the data or the folder, a changed plan on resume.
        DatasetError: a case that cannot be used.
        ResvoxError: a loss that is not a number; the message names the step and the cases.
        KeyboardInterrupt: after Ctrl-C, once the checkpoint is written.
    """
    task = task_of(plan)
    task.check(dataset, plan)
    check_model(plan)
    run = RunFolder(Path(run_folder))
    run.check(plan, resume=resume, overwrite=overwrite)
    fabric = make_fabric(plan, devices=devices, num_nodes=num_nodes, accelerator=accelerator, precision=precision)
    chosen = choose_precision(precision or plan.precision, is_cuda=fabric.device.type == "cuda")
    check_bfloat16(plan, chosen, is_cuda=fabric.device.type == "cuda")
    job = Job(
        task=task,
        dataset=dataset,
        plan=plan,
        run=run,
        resume=resume,
        precision=chosen,
        workers=workers,
        shown=progress,
        on_step=on_step,
        colours=dict(colours or {}),
    )
    # A partial, not arguments: Fabric refuses frozen dataclasses among what it hands to spawned processes.
    try:
        told = fabric.launch(partial(_train, job=job))
    except ProcessRaisedException as error:
        raise _original(error) from error
    return FitResult(run_folder=run.path, model_path=run.model, shown=task.shown, title=task.title, **told)


def _original(error: ProcessRaisedException) -> Exception:
    """The error of ours that ended a spawned process; its traceback ends with name and text."""
    name, _, text = str(error).strip().splitlines()[-1].partition(": ")
    kind = getattr(errors, name.removeprefix("resvox.errors."), None)
    return kind(text) if isinstance(kind, type) and issubclass(kind, ResvoxError) else error


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
    torch.manual_seed(seed_number(job.plan.seed, Purpose.WEIGHTS))
    if fabric.is_global_zero:
        job.run.tidy()
        if not job.resume:
            job.run.clear()
        job.plan.save(job.run.plan)
    fabric.barrier()
    shown = job.shown and fabric.is_global_zero
    state = _start(fabric, job)
    display = ProgressDisplay(
        shown=shown,
        steps=job.plan.steps,
        first_step=state.progress.step,
        score=job.task.shown,
        title=job.task.title,
    )
    if state.loaded:
        display.say(state.loaded)
    cases = _prepare(fabric, job, display)
    history = run_steps(state, job, cases, display)
    if fabric.is_global_zero:
        _export(state, job)
    fabric.barrier()
    return {
        "best": state.progress.best,
        "history": history,
        "seconds": state.progress.seconds,
    }


def _prepare(fabric: Fabric, job: Job, display: ProgressDisplay) -> Cases:
    """The cases as the network sees them; every process prepares its share and opens all."""
    split = job.dataset.split(fraction=job.plan.validation_fraction, seed=job.plan.seed)
    display.say(f"cases to train {len(split.train)}, to validate {len(split.validation)}: {split.reason}")
    for line in job.task.remarks(job):
        display.say(line)
    everyone = list({case.id: case for case in (*split.train, *split.validation)}.values())
    share = slice(fabric.global_rank, None, fabric.world_size)
    job.task.prepare(everyone, job, share=share, progress=display.preparing)
    fabric.barrier()
    prepared = dict(zip((case.id for case in everyone), job.task.prepared(everyone, job), strict=True))
    return Cases(
        train=[prepared[case.id] for case in split.train],
        validation=[prepared[case.id] for case in split.validation],
    )


def _start(fabric: Fabric, job: Job) -> State:
    """A new network, one that begins from weights, or the one of the last checkpoint."""
    module = build_model(job.plan)
    resumes = job.resume and job.run.last.is_file()
    loaded = "" if resumes else begin_from_weights(module, job.plan)
    freeze(module, job.plan)
    module.to(memory_format=CHANNELS_LAST[job.plan.spatial_dims])  # type: ignore[call-overload]
    optimizer = make_optimizer(module, job.plan, fabric.device)
    progress = Progress()
    content: dict[str, Any] | None = None
    if resumes:
        content = load_checkpoint(job.run.last)
        module.load_state_dict(content["model"])
        progress = content["progress"]
    model, wrapped = fabric.setup(module, optimizer)
    if content is not None:
        # After setup: the moments must land on the device where the parameters now are.
        wrapped.load_state_dict(content["optimizer"])
        fabric.strategy.precision.load_state_dict(content["precision"])
    return State(fabric=fabric, module=module, model=model, optimizer=wrapped, progress=progress, loaded=loaded)


def build_model(plan: TrainingPlan) -> nn.Module:
    """The plan's network, newly initialised."""
    model = create_model(plan.model, **plan.built_options())
    assert isinstance(model, nn.Module)
    return model


def _export(state: State, job: Job) -> None:
    """RUN/model.safetensors from the best weights, with all that a prediction needs."""
    content = load_checkpoint(job.run.best)
    state.module.load_state_dict(content["model"])
    best = content["progress"]
    training = {"dataset": job.dataset.name, "step": best.best_step, "steps": state.progress.step}
    card = job.task.card(job, training, best.best)
    save_model(state.module, job.run.model, metadata=card.to_dict())
