"""Scans without labels to weights that another training begins from."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resvox.errors import PlanError
from resvox.files import replacing
from resvox.machine import is_first_process
from resvox.training.plans.options import TrainOptions
from resvox.workflow.train import train

if TYPE_CHECKING:
    from resvox.training import FitResult
    from resvox.training.plans.base import TrainingPlan

TASK = "restoration"
ENDING = ".safetensors"
DEFAULTS = TrainOptions(task=TASK)


@dataclass(frozen=True, kw_only=True)
class PretrainResult:
    """The plan that was used, its file, the result of the training and the file of the weights.

    ``fit`` and ``weights`` are None where only a plan was asked for.
    """

    plan: TrainingPlan
    plan_path: Path
    fit: FitResult | None
    weights: Path | None


def pretrain(
    scans: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    model: str | None = DEFAULTS.model,
    encoder: str | None = DEFAULTS.encoder,
    steps: int | None = DEFAULTS.steps,
    minutes: float | None = DEFAULTS.minutes,
    patch_size: Sequence[int] | None = DEFAULTS.patch_size,
    spacing_mm: Sequence[float] | None = DEFAULTS.spacing_mm,
    batch_size: int | None = DEFAULTS.batch_size,
    weights: str | os.PathLike[str] | None = DEFAULTS.weights,
    weights_peer: str | None = DEFAULTS.weights_peer,
    plan: str | os.PathLike[str] | TrainingPlan | None = DEFAULTS.plan,
    plan_only: bool = DEFAULTS.plan_only,
    resume: bool = DEFAULTS.resume,
    overwrite: bool = DEFAULTS.overwrite,
    finish: bool = DEFAULTS.finish,
    device: str = DEFAULTS.device,
    processes: int = DEFAULTS.processes,
    num_nodes: int = DEFAULTS.num_nodes,
    precision: str | None = DEFAULTS.precision,
    seed: int | None = DEFAULTS.seed,
    workers: int | str | None = DEFAULTS.workers,
    profile: bool = DEFAULTS.profile,
    progress: bool = DEFAULTS.progress,
    on_plan: Callable[[Any, TrainingPlan], object] | None = None,
) -> PretrainResult:
    """Train a network to restore hidden blocks of scans; `train(..., weights=)` takes what it has learned.

    Args:
        scans: a folder of scans, or a dataset whose labels are left aside, see `resvox.datasets.read_scans`.
        out: the file of the weights, ``NAME.safetensors``, beside which the folder ``NAME`` holds the run; or the
            folder of the run, which then holds ``model.safetensors``.
        model, encoder, steps, minutes, patch_size, spacing_mm, batch_size, weights, weights_peer, plan, plan_only,
            resume, overwrite, finish, device, processes, num_nodes, precision, seed, workers, profile, progress: see
            `TrainOptions`.
        on_plan: called with the scans and the plan before training.

    Raises:
        DatasetError: scans that cannot be used. PlanError: a plan that contradicts itself or the data, or a file of
            the weights that exists already.
    """
    out = Path(out).expanduser()
    folder = out.with_suffix("") if out.suffix == ENDING else out
    options = TrainOptions(
        task=TASK,
        model=model,
        encoder=encoder,
        steps=steps,
        minutes=minutes,
        patch_size=None if patch_size is None else tuple(patch_size),
        spacing_mm=None if spacing_mm is None else tuple(spacing_mm),
        batch_size=batch_size,
        weights=weights,
        weights_peer=weights_peer,
        plan=plan,
        plan_only=plan_only,
        resume=resume,
        overwrite=overwrite,
        finish=finish,
        device=device,
        processes=processes,
        num_nodes=num_nodes,
        precision=precision,
        seed=seed,
        workers=workers,
        profile=profile,
        progress=progress,
    )
    if out != folder and out.exists() and not (plan_only or resume or finish or overwrite):
        raise PlanError(f"{out} exists", expected="a new file", fix="--overwrite, --resume, or another name")
    made = train(scans, folder, options=options, on_plan=on_plan)
    if made.fit is None:
        return PretrainResult(plan=made.plan, plan_path=made.plan_path, fit=None, weights=None)
    if out == folder:
        return PretrainResult(plan=made.plan, plan_path=made.plan_path, fit=made.fit, weights=made.fit.model_path)
    if is_first_process():
        with replacing(out) as temporary:
            shutil.copyfile(made.fit.model_path, temporary)
    return PretrainResult(plan=made.plan, plan_path=made.plan_path, fit=made.fit, weights=out)
