"""A dataset to a trained model: read, fingerprint, plan, fit."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resvox.errors import PlanError
from resvox.hub import pinned
from resvox.machine import is_first_process
from resvox.storage import local_copy
from resvox.training.plans.from_weights import network_fields, strides_of
from resvox.training.plans.options import TrainOptions
from resvox.training.tasks import DEFAULT_TASK, TASKS, check_task, fields_for, plan_for, read_for

if TYPE_CHECKING:
    from resvox.training import FitResult
    from resvox.training.plans.base import TrainingPlan
    from resvox.workflow.folds.run import FoldsResult

PLAN_FILE = "plan.yaml"
DEFAULTS = TrainOptions()


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """The plan that was used, its file, and the result of the training.

    ``fit`` is None where only a plan was asked for, and for a cross-validation, whose result is ``folds``.
    """

    plan: TrainingPlan
    plan_path: Path
    fit: FitResult | None
    folds: FoldsResult | None = None


def train(
    dataset: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    task: str | None = DEFAULTS.task,
    model: str | None = DEFAULTS.model,
    encoder: str | None = DEFAULTS.encoder,
    norm: str | None = DEFAULTS.norm,
    steps: int | None = DEFAULTS.steps,
    minutes: float | None = DEFAULTS.minutes,
    patch_size: Sequence[int] | None = DEFAULTS.patch_size,
    spacing_mm: Sequence[float] | None = DEFAULTS.spacing_mm,
    batch_size: int | None = DEFAULTS.batch_size,
    weights: str | os.PathLike[str] | None = DEFAULTS.weights,
    weights_peer: str | None = DEFAULTS.weights_peer,
    frozen_stages: int | None = DEFAULTS.frozen_stages,
    layer_decay: float | None = DEFAULTS.layer_decay,
    recipe: str = DEFAULTS.recipe,
    preset: str | None = DEFAULTS.preset,
    memory_gb: float | None = DEFAULTS.memory_gb,
    optimizer: str | None = DEFAULTS.optimizer,
    schedule: str | None = DEFAULTS.schedule,
    deep_supervision: bool | None = DEFAULTS.deep_supervision,
    ema: float | None = DEFAULTS.ema,
    augmentation: str | None = DEFAULTS.augmentation,
    oversample: float | None = DEFAULTS.oversample,
    batch_dice: bool | None = DEFAULTS.batch_dice,
    label_smoothing: float | None = DEFAULTS.label_smoothing,
    class_weights: bool | None = DEFAULTS.class_weights,
    balanced: bool | None = DEFAULTS.balanced,
    channel_dropout: float | None = DEFAULTS.channel_dropout,
    plan: str | os.PathLike[str] | TrainingPlan | None = DEFAULTS.plan,
    plan_only: bool = DEFAULTS.plan_only,
    resume: bool = DEFAULTS.resume,
    overwrite: bool = DEFAULTS.overwrite,
    finish: bool = DEFAULTS.finish,
    folds: int | None = DEFAULTS.folds,
    fold: int | None = DEFAULTS.fold,
    folds_at_once: int = DEFAULTS.folds_at_once,
    device: str = DEFAULTS.device,
    processes: int = DEFAULTS.processes,
    num_nodes: int = DEFAULTS.num_nodes,
    precision: str | None = DEFAULTS.precision,
    seed: int | None = DEFAULTS.seed,
    workers: int | str | None = DEFAULTS.workers,
    augment_on: str = DEFAULTS.augment_on,
    profile: bool = DEFAULTS.profile,
    progress: bool = DEFAULTS.progress,
    options: TrainOptions | None = None,
    on_plan: Callable[[Any, TrainingPlan], object] | None = None,
) -> TrainResult:
    """Train a model; ``out/model.safetensors`` holds all that `predict` needs.

    Args:
        dataset: also the address of one (``s3://`` and others), which is copied into the cache as a whole;
            for segmentation a folder in MSD or nnU-Net layout, or a CSV manifest (columns image, label,
            split); for the other tasks see `read_classification` and `read_regression`.
        out: the folder of the run: plan.yaml, metrics.csv, checkpoints, model.safetensors.
        task, model, encoder, norm, steps, minutes, patch_size, spacing_mm, batch_size, weights, weights_peer,
            frozen_stages, layer_decay, recipe, preset, memory_gb, optimizer, schedule, deep_supervision, ema,
            augmentation, oversample, batch_dice, label_smoothing, class_weights, balanced, channel_dropout, plan,
            plan_only, resume, overwrite, finish, folds, fold, folds_at_once, device, processes, num_nodes,
            precision, seed, workers, augment_on, profile, progress: see `TrainOptions`.
        options: all of these at once, instead of keywords.
        on_plan: called with the dataset and the plan before training.

    Raises:
        DatasetError: data that cannot be used. PlanError: a plan that contradicts itself or the data.
    """
    given = TrainOptions(
        task=task,
        model=model,
        encoder=encoder,
        norm=norm,
        steps=steps,
        minutes=minutes,
        patch_size=None if patch_size is None else tuple(patch_size),
        spacing_mm=None if spacing_mm is None else tuple(spacing_mm),
        batch_size=batch_size,
        weights=weights,
        weights_peer=weights_peer,
        frozen_stages=frozen_stages,
        layer_decay=layer_decay,
        recipe=recipe,
        preset=preset,
        memory_gb=memory_gb,
        optimizer=optimizer,
        schedule=schedule,
        deep_supervision=deep_supervision,
        ema=ema,
        augmentation=augmentation,
        oversample=oversample,
        batch_dice=batch_dice,
        label_smoothing=label_smoothing,
        class_weights=class_weights,
        balanced=balanced,
        channel_dropout=channel_dropout,
        plan=plan,
        plan_only=plan_only,
        resume=resume,
        overwrite=overwrite,
        finish=finish,
        folds=folds,
        fold=fold,
        folds_at_once=folds_at_once,
        device=device,
        processes=processes,
        num_nodes=num_nodes,
        precision=precision,
        seed=seed,
        workers=workers,
        augment_on=augment_on,
        profile=profile,
        progress=progress,
    )
    if options is not None and given != DEFAULTS:
        raise PlanError("options and keywords at once", expected="either", fix="use dataclasses.replace(options, ...)")
    return _train(local_copy(dataset), Path(out).expanduser(), options or given, on_plan)


def _train(
    dataset: Path, out: Path, options: TrainOptions, on_plan: Callable[[Any, TrainingPlan], object] | None
) -> TrainResult:
    if options.device == "cuda" and not options.plan_only:
        from resvox.training.processes import check_cuda

        check_cuda()  # before minutes of reading
    if options.weights is not None:
        options = replace(options, weights=pinned(options.weights))  # the plan names the commit that was used
    _check_recipe(options)
    options = _with_folds(options, out)
    written = _written_plan(options, out)
    task = check_task(options.task or (written.task if written is not None else DEFAULT_TASK))
    described = read_for(task, dataset)
    fingerprints: list[Any] = []  # of the data, where a plan is made from them
    changes = fields_for(task, options.plan_fields())
    settled = (
        _planned(task, described, changes, options, keep=fingerprints.append)
        if written is None
        else _changed(written, task, changes)
    )
    if on_plan is not None:
        on_plan(described, settled)
    from resvox.workflow.training_report.facts import write_fingerprint

    for each in fingerprints:
        write_fingerprint(out, each, overwrite=options.overwrite)
    if options.plan_only:
        path = _write_plan(settled, out, overwrite=options.overwrite)
        return TrainResult(plan=settled, plan_path=path, fit=None)
    if options.folds is not None:
        return _train_folds(described, settled, out, options)
    # Not before it is needed: a wrong path should not wait for torch.
    from resvox.training import fit
    from resvox.viewer import label_colours
    from resvox.workflow.training_report.following import after_step, report_of

    result = fit(
        described,
        settled,
        out,
        resume=options.resume,
        overwrite=options.overwrite,
        finish=options.finish,
        devices=options.processes,
        num_nodes=options.num_nodes,
        accelerator=options.device,
        workers=options.workers,
        augment_on=options.augment_on,
        profile=options.profile,
        progress=options.progress,
        colours=label_colours(described.labels) if TASKS[task].has_label_map else {},
        on_step=partial(after_step, folder=out),
    )
    if is_first_process():
        report_of(out)
    return TrainResult(plan=settled, plan_path=out / PLAN_FILE, fit=result)


def _check_recipe(options: TrainOptions) -> None:
    """Refuse a recipe beside a plan, and options of another recipe, before anything is read."""
    if options.plan is not None and options.plan_recipe != DEFAULTS.plan_recipe:
        raise PlanError(
            f"recipe={options.recipe!r} with a plan",
            expected="one of them: a recipe makes a plan",
            fix="leave --plan or --recipe out",
        )


def _with_folds(options: TrainOptions, out: Path) -> TrainOptions:
    """The options with the number of folds of the run that is in the folder.

    Raises:
        PlanError: a fold without folds, or one training in the folder of a cross-validation.
    """
    from resvox.workflow.folds.run import saved_folds

    saved = saved_folds(out)
    if options.folds is None and options.fold is None and saved is not None and not (options.resume or options.finish):
        raise PlanError(
            f"the folder holds a cross-validation with {saved} folds",
            expected="a new or empty folder",
            fix=f"--folds {saved} --resume to go on with it, or another folder",
            path=out,
        )
    options = replace(options, folds=options.folds or saved)
    if options.folds is None and (options.fold is not None or options.folds_at_once > 1):
        raise PlanError(
            "one of several folds, without their number", expected="--folds N", fix="--folds 5 for five folds"
        )
    if options.folds is not None and options.num_nodes > 1:
        raise PlanError(
            f"folds={options.folds} with num_nodes={options.num_nodes}",
            expected="each fold on one machine",
            fix="--fold N on each machine; the last one joins them",
        )
    return options


def _train_folds(described: Any, settled: TrainingPlan, out: Path, options: TrainOptions) -> TrainResult:
    from resvox.training.logs import ProgressDisplay
    from resvox.workflow.folds.run import cross_validate

    display = ProgressDisplay(shown=False, steps=settled.steps)
    display.shown = options.progress
    result = cross_validate(described, settled, out, options, say=display.say)
    return TrainResult(plan=settled, plan_path=out / PLAN_FILE, fit=None, folds=result)


def _written_plan(options: TrainOptions, out: Path) -> TrainingPlan | None:
    """The plan that was given, or the one of the run that is resumed; None where one is to be made."""
    from resvox.training.plans.base import TrainingPlan
    from resvox.training.plans.reading import load_plan
    from resvox.workflow.folds.folder import FoldsFolder

    plan = options.plan
    goes_on = options.resume or options.finish or options.fold is not None
    if options.overwrite:  # one fold alone begins again with the plan of the others
        goes_on = options.fold is not None and FoldsFolder(out).has_others(options.fold)
    if plan is None and goes_on and (out / PLAN_FILE).is_file():
        plan = out / PLAN_FILE
    return plan if plan is None or isinstance(plan, TrainingPlan) else load_plan(Path(plan).expanduser())


def _planned(
    task: str, described: Any, changes: dict[str, Any], options: TrainOptions, *, keep: Callable[[Any], object]
) -> TrainingPlan:
    """A plan made from the data, for the network of the weights to begin from, where there are any."""
    weights, peer = changes.get("weights"), changes.get("weights_peer")
    make = partial(plan_for, task, described, device=options.device, recipe=options.plan_recipe, on_fingerprint=keep)
    if weights is None:
        return make(changes=changes)
    settled = network_fields(task, weights, peer, changes.get("model"))
    _check_norm(changes.get("norm"), weights, settled)
    changes = {**settled, **changes}
    plan = make(changes=changes)
    strides = strides_of(plan, weights, peer)
    if strides == plan.strides:
        return plan
    # Made again instead of changed: the patch, where none is given, must be a multiple of these strides.
    return make(changes={**changes, "strides": strides})


def _check_norm(norm: str | None, weights: str | os.PathLike[str], settled: Mapping[str, Any]) -> None:
    """Refuse a norm that is not that of the weights to begin from, whose network is ``settled``."""
    further = settled["further_options"].get("norm", settled["norm"])
    kind = further if isinstance(further, str) else further[0]
    if norm is not None and norm != kind:
        raise PlanError(
            f"norm={norm!r} for weights of a network with {kind} norm",
            expected="the norm of the weights to begin from",
            fix="leave --norm out",
            path=weights,
        )


def _changed(written: TrainingPlan, task: str, changes: dict[str, Any]) -> TrainingPlan:
    if written.task != task:
        raise PlanError(
            f"task {task} with a plan for {written.task}", expected=f"a plan for {task}", fix="leave --task out"
        )
    if "norm" in changes:
        _check_norm_of_plan(written, task, changes)
    if "steps" in changes and written.warmup_steps >= changes["steps"]:
        changes = {**changes, "warmup_steps": changes["steps"] // 20}
    return written.with_changes(**changes) if changes else written


def _check_norm_of_plan(written: TrainingPlan, task: str, changes: Mapping[str, Any]) -> None:
    weights = changes.get("weights", written.weights)
    if weights is not None:
        peer = changes.get("weights_peer", written.weights_peer)
        _check_norm(changes["norm"], weights, network_fields(task, weights, peer, changes.get("model", written.model)))
    elif "norm" in written.further_options:
        raise PlanError(
            f"norm={changes['norm']!r} for a plan with further_options: norm: {written.further_options['norm']!r}",
            expected="one of them",
            fix="leave --norm out, or change further_options in the plan",
        )


def _write_plan(plan: TrainingPlan, out: Path, *, overwrite: bool) -> Path:
    path = out / PLAN_FILE
    if path.exists() and not overwrite:
        raise PlanError(
            "a plan exists already",
            expected="a new folder",
            fix="use it with --plan, or make a new one with --overwrite",
            path=path,
        )
    out.mkdir(parents=True, exist_ok=True)
    return plan.save(path)
