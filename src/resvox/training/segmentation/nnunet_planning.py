"""A plan by the rules of nnU-Net 2: its preprocessing, patch, stages, sampling, augmentation and optimizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from resvox.catalog import options_of
from resvox.training.plans.fingerprint import Fingerprint, Intensities
from resvox.training.plans.making import finished_plan
from resvox.training.plans.nnunet.configuration import (
    Configuration,
    Task,
    axis_order,
    configure,
    has_low_resolution,
    resampled_median,
    target_spacing,
)
from resvox.training.plans.nnunet.memory import PLAIN, Budget
from resvox.training.plans.nnunet.memory import PRESETS as BUDGETS
from resvox.training.plans.recipe import Recipe
from resvox.training.plans.rules import CROPPED, check_sizes, draw_strides
from resvox.training.plans.rules import axis_order as axes_under
from resvox.training.segmentation.plan import Plan
from resvox.training.segmentation.planning import common_decisions, mirroring

MODEL = "resenc_unet"
PLAIN_MODEL = "plain_unet"  # nnU-Net has a planner of its own for it
STEPS_PER_EPOCH = 250
EPOCHS = 1000
LEARNING = {
    "optimizer": "sgd",
    "learning_rate": 1e-2,
    "weight_decay": 3e-5,
    "momentum": 0.99,
    "decay": "poly",
    "warmup_steps": 0,
    "gradient_clip": 12.0,
    "loss": "dice_ce",
    "augmentation": "nnunet",
    "foreground_fraction": 0.33,
    "foreground_order": "last",
    "norm": "instance",
    "crop": "nonzero",
    "overlap": 0.5,
}
# what AdamW needs instead of the rates of SGD, beside a warm-up over a twentieth of the steps
ADAMW = {"learning_rate": 1e-3, "weight_decay": 1e-2}
LONGEST_WARMUP = 500


def make_plan(
    fingerprint: Fingerprint,
    *,
    recipe: Recipe,
    model: str = MODEL,
    encoder: str = "resnet18",
    device: str = "auto",
    **changes: Any,
) -> Plan:
    """Make a plan as nnU-Net's planner and trainer decide.

    Args:
        recipe: preset and memory.
        model: any segmentation model; those of nnU-Net get its stages, others the patch alone.
        device: changes nothing: the memory is that of the recipe.
        changes: fields of `Plan` that are settled already; the rest is chosen to fit them.

    Raises:
        PlanError: an unknown field, or a change that contradicts the data or another change.
    """
    check_sizes(changes, fingerprint.spatial_dims)
    decided = {**common_decisions(fingerprint, model, encoder), **LEARNING}
    notes = dict.fromkeys(LEARNING, "of nnU-Net's trainer")
    decided["orientation"] = changes.get("orientation", fingerprint.orientation)
    order = axes_under(fingerprint, decided["orientation"])
    values, reasons = _of_the_data(fingerprint, order, {**decided, **changes}, recipe)
    decided.update(values)
    steps = int(changes.get("steps", STEPS_PER_EPOCH * EPOCHS))
    if changes.get("optimizer") == "adamw":
        decided.update(ADAMW, warmup_steps=min(LONGEST_WARMUP, steps // 20))
        notes.update(dict.fromkeys((*ADAMW, "warmup_steps"), "of AdamW; nnU-Net's trainer has SGD"))
    decided.update(
        steps=steps,
        validation_interval=min(steps, max(STEPS_PER_EPOCH, steps // 100)),
        checkpoint_interval=min(steps, STEPS_PER_EPOCH),
    )
    reasons["steps"] = f"{EPOCHS} epochs of {STEPS_PER_EPOCH} steps, as nnU-Net counts"
    axes, reason = mirroring(fingerprint, {**decided, **changes}, device)
    return finished_plan(Plan, {**decided, **axes}, {**notes, **reasons, **reason}, changes)


def _of_the_data(
    fingerprint: Fingerprint, order: Sequence[int], settled: Mapping[str, Any], recipe: Recipe
) -> tuple[dict[str, Any], dict[str, str]]:
    spacings = [_in_order(case.spacing_mm, order) for case in fingerprint.cases]
    shapes = [_in_order(case.cropped_shape or case.shape, order) for case in fingerprint.cases]
    is_volume = fingerprint.spatial_dims == 3
    drawn = target_spacing(spacings, shapes) if is_volume else _median(spacings)
    spacing = tuple(settled.get("spacing_mm") or drawn)
    budget, memory_gb = _budget(str(settled["model"]), recipe)
    front = axis_order(spacing) if is_volume else tuple(range(2))
    task = Task(
        spacing=_in_order(spacing, front),
        median_shape=_in_order(resampled_median(spacings, shapes, spacing), front),
        cases=len(fingerprint.cases),
        outputs=len(fingerprint.regions or fingerprint.labels) + bool(fingerprint.regions) + fingerprint.has_ignore,
        budget=budget,
        memory_gb=memory_gb,
    )
    given = settled.get("patch_size")
    found = configure(task, patch_size=None if given is None else _in_order(tuple(given), front))
    back = [front.index(axis) for axis in range(len(front))]
    values = {
        "spacing_mm": spacing,
        "pipeline": "nnunet" if is_volume else "resvox",
        "normalization": tuple(_normalization(each, fingerprint) for each in fingerprint.intensities),
        "batch_dice": not is_volume or has_low_resolution(task, found.patch_size),
        **_network(found, back, spacing, settled),
    }
    memory = f"the largest whose feature maps fit {memory_gb:g} GB by nnU-Net's estimate"
    return values, {
        "spacing_mm": f"median over {len(spacings)} cases; of thick and few slices the 10th percentile",
        "pipeline": "crop to the voxels that are not 0, normalize, resample with cubic splines, as nnU-Net does",
        "normalization": "CT by the values under the labels, others by each scan",
        "patch_size": memory,
        "batch_size": "what fits beside the patch, at least 2",
        "batch_dice": "2D, or volumes of which a patch holds less than a quarter",
    }


def _network(
    found: Configuration, back: Sequence[int], spacing: tuple[float, ...], settled: Mapping[str, Any]
) -> dict[str, Any]:
    """Patch, batch, stages and deep supervision; the axes are brought back to those of the plan."""
    taken = options_of(str(settled["model"]))
    patch = _in_order(found.patch_size, back)
    values: dict[str, Any] = {
        "patch_size": patch,
        "batch_size": found.batch_size,
        "strides": draw_strides(patch, spacing, exact=True),
    }
    if "kernels" in taken:
        values["further_options"] = {
            "strides": [list(_in_order(each, back)) for each in found.strides],
            "kernels": [list(_in_order(each, back)) for each in found.kernels],
        }
    if "deep_supervision" in taken and ("kernels" not in taken or len(found.strides) > 2):
        values.update(deep_supervision=True, drops_coarsest_level=True)
    return values


def _budget(model: str, recipe: Recipe) -> tuple[Budget, float]:
    """The planner's budget and the memory; without a preset that of plain convolutions for its network, else M."""
    budget = PLAIN if model == PLAIN_MODEL and recipe.preset is None else BUDGETS[recipe.preset or "M"]
    return budget, budget.memory_gb if recipe.memory_gb is None else recipe.memory_gb


def _normalization(channel: Intensities, fingerprint: Fingerprint) -> dict[str, Any]:
    if channel.channel.casefold() == "ct" and channel.percentile_00_5 < channel.percentile_99_5:
        return {
            "kind": "window",
            "low": channel.percentile_00_5,
            "high": channel.percentile_99_5,
            "mean": channel.mean,
            "std": max(channel.std, 1e-8),
        }
    return {"kind": "zscore", "nonzero_only": fingerprint.median_cropped_share < CROPPED}


def _median(spacings: Sequence[Sequence[float]]) -> tuple[float, ...]:
    import numpy as np

    return tuple(float(mm) for mm in np.percentile(np.vstack(spacings), 50, 0))


def _in_order(values: Sequence[Any], order: Sequence[int]) -> tuple[Any, ...]:
    return tuple(values[axis] for axis in order)
