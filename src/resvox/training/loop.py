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

import resvox
from resvox import errors
from resvox.errors import PlanError, ResvoxError
from resvox.training.cache import PreparedCase, prepare_cases
from resvox.training.checkpoints import Progress, load_checkpoint
from resvox.training.dataset import Dataset
from resvox.training.drawing import safe_mirror_axes
from resvox.training.logs import ProgressDisplay
from resvox.training.plan import Plan
from resvox.training.processes import choose_precision, make_fabric
from resvox.training.randomness import Purpose, seed_number
from resvox.training.run_folder import RunFolder
from resvox.training.schedule import make_optimizer
from resvox.training.steps import CHANNELS_LAST, Job, State, StepReport, run_steps


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """Where a run ended: its folder, its model file, its best mean Dice, and the rows of metrics.csv."""

    run_folder: Path
    model_path: Path
    best_dice: float
    history: list[dict[str, Any]] = field(repr=False)
    seconds: float


def fit(
    dataset: Dataset,
    plan: Plan,
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
    _check_fit(dataset, plan)
    run = RunFolder(Path(run_folder))
    run.check(plan, resume=resume, overwrite=overwrite)
    fabric = make_fabric(plan, devices=devices, num_nodes=num_nodes, accelerator=accelerator, precision=precision)
    job = Job(
        dataset=dataset,
        plan=plan,
        run=run,
        resume=resume,
        precision=choose_precision(precision or plan.precision, is_cuda=fabric.device.type == "cuda"),
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
    return FitResult(run_folder=run.path, model_path=run.model, **told)


def _original(error: ProcessRaisedException) -> Exception:
    """The error of ours that ended a spawned process; its traceback ends with name and text."""
    name, _, text = str(error).strip().splitlines()[-1].partition(": ")
    kind = getattr(errors, name.removeprefix("resvox.errors."), None)
    return kind(text) if isinstance(kind, type) and issubclass(kind, ResvoxError) else error


def _check_fit(dataset: Dataset, plan: Plan) -> None:
    for name, planned, found in (
        ("spatial_dims", plan.spatial_dims, dataset.spatial_dims),
        ("in_channels", plan.in_channels, len(dataset.channel_names)),
        ("num_classes", plan.num_classes, dataset.num_classes),
    ):
        if planned != found:
            raise PlanError(
                f"{name}={planned} in the plan",
                expected=f"{found}, as in the dataset {dataset.name!r}",
                fix="draw the plan from this dataset",
                path=dataset.source,
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
    display = ProgressDisplay(shown=shown, steps=job.plan.steps, first_step=state.progress.step)
    train_cases, validation_cases = _prepare(fabric, job, display)
    history = run_steps(state, job, train_cases, validation_cases, display)
    if fabric.is_global_zero:
        _export(state, job)
    fabric.barrier()
    return {
        "best_dice": state.progress.best_dice,
        "history": history,
        "seconds": state.progress.seconds,
    }


def _start(fabric: Fabric, job: Job) -> State:
    """A new network, or the one of the last checkpoint."""
    module = build_model(job.plan)
    module.to(memory_format=CHANNELS_LAST[job.plan.spatial_dims])  # type: ignore[call-overload]
    optimizer = make_optimizer(module, job.plan, fabric.device)
    progress = Progress()
    content: dict[str, Any] | None = None
    if job.resume and job.run.last.is_file():
        content = load_checkpoint(job.run.last)
        module.load_state_dict(content["model"])
        progress = content["progress"]
    model, wrapped = fabric.setup(module, optimizer)
    if content is not None:
        # After setup: the moments must land on the device where the parameters now are.
        wrapped.load_state_dict(content["optimizer"])
        fabric.strategy.precision.load_state_dict(content["precision"])
    return State(fabric=fabric, module=module, model=model, optimizer=wrapped, progress=progress)


def build_model(plan: Plan) -> nn.Module:
    """The plan's network, newly initialised."""
    model = resvox.create_model(plan.model, **plan.model_options())
    assert isinstance(model, nn.Module)
    return model


def _prepare(fabric: Fabric, job: Job, display: ProgressDisplay) -> tuple[list[PreparedCase], list[PreparedCase]]:
    """Every process prepares its share of the cases, then all open all of them."""
    split = job.dataset.split(fraction=job.plan.validation_fraction, seed=job.plan.seed)
    display.say(f"cases to train {len(split.train)}, to validate {len(split.validation)}: {split.reason}")
    _warn_of_mirroring(job, display)
    everyone = list({case.id: case for case in (*split.train, *split.validation)}.values())
    preprocessing = job.plan.preprocessing()
    mine = everyone[fabric.global_rank :: fabric.world_size]
    prepare_cases(mine, job.dataset, preprocessing, job.run.cache, progress=display.preparing)
    fabric.barrier()
    prepared = {case.id: case for case in prepare_cases(everyone, job.dataset, preprocessing, job.run.cache)}
    return [prepared[case.id] for case in split.train], [prepared[case.id] for case in split.validation]


def _warn_of_mirroring(job: Job, display: ProgressDisplay) -> None:
    """A plan edited by hand may mirror what its labels tell apart; it may also know better than their names."""
    plan = job.plan
    safe = safe_mirror_axes(list(job.dataset.foreground), plan.orientation, plan.spatial_dims)
    risky = [axis for axis in plan.mirror_axes if axis not in safe]
    if risky:
        names = ", ".join(job.dataset.foreground)
        display.say(f"warning: mirror_axes {risky} may swap the sides that labels name ({names})")


def _export(state: State, job: Job) -> None:
    """RUN/model.safetensors from the best weights, with all that a prediction needs."""
    plan, dataset = job.plan, job.dataset
    content = load_checkpoint(job.run.best)
    state.module.load_state_dict(content["model"])
    metadata = {
        "preprocessing": plan.preprocessing().to_dict(),
        "labels": dict(dataset.labels),
        "colours": job.colours,
        "channel_names": list(dataset.channel_names),
        "inference": {
            "roi_size": list(plan.patch_size),
            "overlap": plan.overlap,
            "mirror_axes": list(plan.mirror_axes),
        },
        "task": "segmentation",
        "training": {
            "dataset": dataset.name,
            "step": content["progress"].best_step,
            "steps": state.progress.step,
            "dice": content["progress"].dice,
        },
    }
    resvox.save_model(state.module, job.run.model, metadata=metadata)
