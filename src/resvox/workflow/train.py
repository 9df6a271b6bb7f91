"""A dataset to a trained model: read, look, plan, fit."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resvox.errors import PlanError
from resvox.training.plans.from_weights import network_fields, with_strides_of
from resvox.workflow.train_tasks import draw_for, fields_for, read_for

if TYPE_CHECKING:
    from resvox.training import FitResult
    from resvox.training.plans.base import TrainingPlan

PLAN_FILE = "plan.yaml"


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """The plan that was used, its file, and what training gave (None where only a plan was asked for)."""

    plan: TrainingPlan
    plan_path: Path
    fit: FitResult | None


def train(
    dataset: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    task: str | None = None,
    model: str | None = None,
    encoder: str | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    patch_size: Sequence[int] | None = None,
    spacing_mm: Sequence[float] | None = None,
    batch_size: int | None = None,
    weights: str | os.PathLike[str] | None = None,
    weights_peer: str | None = None,
    frozen_stages: int | None = None,
    layer_decay: float | None = None,
    plan: str | os.PathLike[str] | TrainingPlan | None = None,
    plan_only: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    processes: int = 1,
    precision: str | None = None,
    seed: int | None = None,
    workers: int = 0,
    progress: bool = True,
    on_plan: Callable[[Any, TrainingPlan], object] | None = None,
) -> TrainResult:
    """Train a model; ``out/model.safetensors`` holds all that `predict` needs.

    Args:
        dataset: for segmentation a folder in MSD or nnU-Net layout, or a CSV manifest (columns image, label,
            split); for the other tasks see `read_classification` and `read_regression`.
        out: the folder of the run: plan.yaml, metrics.csv, checkpoints, model.safetensors.
        task: "segmentation", "classification" or "regression"; None takes the plan's, else segmentation.
        model, encoder: names of `resvox.list_models(task=...)` and, for those that take one, of a backbone.
        steps, minutes: when to stop, whichever comes first.
        patch_size: voxels (D, H, W), for classes the size of the whole image; spacing_mm: target spacing (D, H, W);
            batch_size: patches or images a step.
        weights: a file to begin from, of ours or of a peer: the plan's network is drawn to fit them, and what does not
            is refused. weights_peer: whose they are, where their names do not say.
        frozen_stages: how many of stem and four residual stages learn nothing; layer_decay: how much slower each
            stage learns than the one behind it.
        plan: a plan or its YAML file, instead of one drawn from the data; other arguments change it.
        plan_only: write ``out/plan.yaml`` for editing and stop there.
        resume: go on from the last checkpoint of ``out``; overwrite: begin anew where a run is.
        device: "auto", "cpu" or "cuda"; processes: how many train together (GPUs, or CPU processes).
        precision: "auto", "32-true", "bf16-mixed" or "16-mixed".
        workers: processes that cut patches, for each that trains; progress: show a bar or lines.
        on_plan: called with the dataset and the plan before training.

    Raises:
        DatasetError: data that cannot be used. PlanError: a plan that contradicts itself or the data.
    """
    from resvox.training.tasks import check_task

    out = Path(out)
    written = _written_plan(plan, out, resume=resume)
    task = check_task(task or (written.task if written is not None else "segmentation"))
    described = read_for(task, dataset)
    given = {
        "model": model,
        "encoder": encoder,
        "steps": steps,
        "max_minutes": minutes,
        "patch_size": None if patch_size is None else tuple(patch_size),
        "spacing_mm": None if spacing_mm is None else tuple(spacing_mm),
        "batch_size": batch_size,
        "precision": precision,
        "seed": seed,
        "weights": None if weights is None else os.fspath(weights),
        "weights_peer": weights_peer,
        "frozen_stages": frozen_stages,
        "layer_decay": layer_decay,
    }
    changes = fields_for(task, {name: value for name, value in given.items() if value is not None})
    settled = _drawn(task, described, changes, device=device) if written is None else _changed(written, task, changes)
    if on_plan is not None:
        on_plan(described, settled)
    if plan_only:
        path = _write_plan(settled, out, overwrite=overwrite)
        return TrainResult(plan=settled, plan_path=path, fit=None)
    # Not before it is needed: a wrong path should not wait for torch.
    from resvox.training import fit
    from resvox.viewer import label_colours

    result = fit(
        described,
        settled,
        out,
        resume=resume,
        overwrite=overwrite,
        devices=processes,
        accelerator=device,
        workers=workers,
        progress=progress,
        colours=label_colours(described.labels) if task == "segmentation" else {},
    )
    return TrainResult(plan=settled, plan_path=out / PLAN_FILE, fit=result)


def _written_plan(
    plan: str | os.PathLike[str] | TrainingPlan | None, out: Path, *, resume: bool
) -> TrainingPlan | None:
    """The plan that was handed in, or the one of the run that goes on; None where one is to be drawn."""
    from resvox.training.plans.base import TrainingPlan
    from resvox.training.segmentation.plan import load_plan

    if plan is None and resume and (out / PLAN_FILE).is_file():
        plan = out / PLAN_FILE
    return plan if plan is None or isinstance(plan, TrainingPlan) else load_plan(plan)


def _drawn(task: str, described: Any, changes: dict[str, Any], *, device: str) -> TrainingPlan:
    """A plan drawn from the data, on the network of the weights to begin from, where there are any."""
    weights, peer = changes.get("weights"), changes.get("weights_peer")
    if weights is None:
        return draw_for(task, described, device=device, changes=changes)
    changes = {**network_fields(task, weights, peer, changes.get("model")), **changes}
    return with_strides_of(draw_for(task, described, device=device, changes=changes), weights, peer)


def _changed(written: TrainingPlan, task: str, changes: dict[str, Any]) -> TrainingPlan:
    if written.task != task:
        raise PlanError(
            f"task {task} with a plan for {written.task}", expected=f"a plan for {task}", fix="leave --task out"
        )
    if "steps" in changes and written.warmup_steps >= changes["steps"]:
        changes = {**changes, "warmup_steps": changes["steps"] // 20}
    return written.with_changes(**changes) if changes else written


def _write_plan(plan: TrainingPlan, out: Path, *, overwrite: bool) -> Path:
    path = out / PLAN_FILE
    if path.exists() and not overwrite:
        raise PlanError(
            "a plan is there already",
            expected="a new folder",
            fix="use it with --plan, or draw a new one with --overwrite",
            path=path,
        )
    out.mkdir(parents=True, exist_ok=True)
    return plan.save(path)
