"""Planning rules that several tasks share: each a function, each decision with its reason.

The rules follow nnU-Net (Isensee et al. 2021, Nat. Methods 18:203), adapted to a ResNet encoder: median spacing with an
exception for thick slices, a patch as large as memory allows, strides that make anisotropic voxels isotropic first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from resvox.blueprint.resnet_recipe import LEVELS
from resvox.errors import PlanError
from resvox.training.plans.fingerprint import CANONICAL, Fingerprint, Intensities
from resvox.training.plans.making import Drawn
from resvox.training.plans.sides import OPPOSITES

ANISOTROPIC = 3.0  # slices this many times thicker than the pixel are kept thick
SMALLEST_MAP = 4  # voxels along an axis of the deepest feature map
PATCH_VOXELS = {("cuda", 3): 112**3, ("cpu", 3): 64**3, ("cuda", 2): 512**2, ("cpu", 2): 256**2}
CROPPED = 0.75  # the empty border is cut away where less of a scan is left: of skull-stripped heads
FEWEST_DIVIDED = 5  # cases: of fewer, all train
STEPS = {"cuda": 20_000, "cpu": 2_000}


def check_sizes(changes: Mapping[str, Any], spatial_dims: int) -> None:
    """Check that given sizes and spacings have one number per axis, before rules compute with them.

    Raises:
        PlanError: naming the field.
    """
    for name in ("patch_size", "image_size", "spacing_mm"):
        value = changes.get(name)
        if value is not None and len(value) != spatial_dims:
            raise PlanError(
                f"{name}={tuple(value)} for {spatial_dims}D data",
                expected=f"{spatial_dims} numbers, one per axis",
                fix="give them as D,H,W" if spatial_dims == 3 else "give them as H,W",
            )


def draw_spacing(fingerprint: Fingerprint, settled: Mapping[str, Any], device: str) -> Drawn:
    """Orientation and spacing: the median spacing, see docs/training.md."""
    orientation = settled.get("orientation", fingerprint.orientation)
    order = axis_order(fingerprint, orientation)
    spacings = np.array([case.spacing_mm for case in fingerprint.cases])[:, order]
    target = np.median(spacings, axis=0)
    reason = f"median over {len(spacings)} cases"
    thick = int(target.argmax())
    if target.max() / target.min() > ANISOTROPIC:
        # Resampling thick slices to thin ones invents slices; the thinner scans set what is kept.
        others = np.delete(target, thick).max()
        target[thick] = max(np.percentile(spacings[:, thick], 10), others)
        reason = f"median; axis {thick}, over {ANISOTROPIC:g} times coarser, keeps its 10th percentile"
    spacing = tuple(round(float(each), 6) for each in target)
    why = "one orientation for every scan; D, H, W run to the letters" if orientation else "axes as in the files"
    return {"orientation": orientation, "spacing_mm": spacing}, {"spacing_mm": reason, "orientation": why}


def draw_normalization(fingerprint: Fingerprint, settled: Mapping[str, Any], device: str) -> Drawn:
    """Normalization of each channel: a window for CT, a z-score for other images; and whether borders are cut away.

    Where the border that is 0 in every channel is a large part of the scans, 0 means "nothing here", as outside of a
    stripped skull: it is cut away, and the z-score is that of the voxels that are not 0. If the labels of all cases
    agree with that, predictions are background there: few training patches lie so far outside, and a network that
    has seen few may call them anything.
    """
    where = "under the labels" if fingerprint.labels else "of the training cases"
    is_bordered = fingerprint.median_cropped_share < CROPPED
    chosen = [_channel_normalization(channel, where, is_bordered) for channel in fingerprint.intensities]
    reasons = "; ".join(
        f"{c.channel}: {reason}" for c, (_, reason) in zip(fingerprint.intensities, chosen, strict=True)
    )
    values: dict[str, Any] = {"normalization": tuple(each for each, _ in chosen)}
    notes = {"normalization": reasons}
    if is_bordered:
        values["crop"] = "nonzero_mask" if fingerprint.labels_are_inside else "nonzero"
        notes["crop"] = f"without the border that is 0, {fingerprint.median_cropped_share:.0%} of a scan is left"
        if fingerprint.labels_are_inside:
            notes["crop"] += "; the labels of all training cases lie where a channel is not 0"
    return values, notes


def _channel_normalization(channel: Intensities, where: str, is_bordered: bool) -> tuple[dict[str, Any], str]:
    if channel.channel.strip().upper() != "CT":
        if is_bordered:
            reason = "no fixed units; the voxels that are not 0 are brought to mean 0 and deviation 1"
            return {"kind": "zscore", "nonzero_only": True}, reason
        return {"kind": "zscore"}, "no fixed units, each scan to mean 0 and deviation 1"
    low, high = round(channel.percentile_00_5, 3), round(channel.percentile_99_5, 3)
    if not low < high:  # clipped scans, or another unit than Hounsfield's
        return {"kind": "zscore"}, f"no window: the values {where} are all {low:g}; each scan to mean 0 and deviation 1"
    return (
        {
            "kind": "window",
            "low": low,
            "high": high,
            "mean": round(channel.mean, 3),
            "std": round(max(channel.std, 1e-3), 3),
        },
        f"Hounsfield units; percentiles 0.5 and 99.5, mean and deviation {where}",
    )


def draw_patch_and_strides(fingerprint: Fingerprint, settled: Mapping[str, Any], device: str) -> Drawn:
    """Patch size and strides for the spacing and the memory of the device."""
    order = axis_order(fingerprint, settled["orientation"])
    spacing = settled["spacing_mm"] or tuple(fingerprint.median_spacing_mm[axis] for axis in order)
    canonical = [0.0] * len(order)
    for axis, source in enumerate(order):
        canonical[source] = float(spacing[axis])
    median = fingerprint.median_shape(tuple(canonical), cropped=settled.get("crop", "none") != "none")
    size = tuple(median[axis] for axis in order)
    budget = PATCH_VOXELS[(device, fingerprint.spatial_dims)]
    given = settled.get("patch_size")
    patch = tuple(given) if given else largest_patch(size, spacing, budget)
    depth = int(settled["encoder_depth"])
    strides = settled.get("strides") or draw_strides(patch, spacing, exact=given is not None)
    totals = [math.prod(s if isinstance(s, int) else s[axis] for s in strides[:depth]) for axis in range(len(patch))]
    if not given:
        patch = tuple(max(total, each // total * total) for each, total in zip(patch, totals, strict=True))
    values = {
        "patch_size": patch,
        "strides": strides,
        "decoder_filters": (512, 256, 128, 64, 32, 16)[-depth:],
    }
    return values, {
        "patch_size": f"a cube in mm cut to the median size {size}, at most {budget} voxels ({device})",
        "strides": f"the finest axes first, until maps would be smaller than {SMALLEST_MAP} voxels",
    }


def largest_patch(size: Sequence[int], spacing_mm: Sequence[float], budget: int) -> tuple[int, ...]:
    """The largest cube in millimetres that, cut to ``size`` voxels, has at most ``budget`` voxels."""

    def cut(side_mm: float) -> tuple[int, ...]:
        return tuple(max(1, min(n, int(side_mm / mm))) for n, mm in zip(size, spacing_mm, strict=True))

    low, high = 0.0, 1.0 + max(n * mm for n, mm in zip(size, spacing_mm, strict=True))
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if math.prod(cut(middle)) <= budget else (low, middle)
    return cut(low)


def draw_strides(
    patch: Sequence[int], spacing_mm: Sequence[float], *, exact: bool = False
) -> tuple[int | tuple[int, ...], ...]:
    """The five strides of an encoder: halve an axis while it is long enough and within twice the finest.

    Args:
        exact: halve only even sizes, so that the total strides divide ``patch`` as it is.
    """
    sizes, spacings = list(patch), list(spacing_mm)
    strides: list[int | tuple[int, ...]] = []
    for _ in range(LEVELS):
        long_enough = [n >= 2 * SMALLEST_MAP and not (exact and n % 2) for n in sizes]
        finest = min((mm for mm, ok in zip(spacings, long_enough, strict=True) if ok), default=0.0)
        stride = tuple(2 if ok and mm < 2 * finest else 1 for ok, mm in zip(long_enough, spacings, strict=True))
        sizes = [n // s for n, s in zip(sizes, stride, strict=True)]
        spacings = [mm * s for mm, s in zip(spacings, stride, strict=True)]
        strides.append(stride[0] if len(set(stride)) == 1 else stride)
    return tuple(strides)


def draw_batch(fingerprint: Fingerprint, settled: Mapping[str, Any], device: str) -> Drawn:
    """Batch size: as many patches as fit, from 2 to 16."""
    budget = PATCH_VOXELS[(device, fingerprint.spatial_dims)] * (2 if fingerprint.spatial_dims == 3 else 8)
    batch = max(2, min(16, budget // math.prod(settled["patch_size"])))
    return {"batch_size": batch}, {"batch_size": "what fits beside the patch, from 2 to 16"}


def draw_length(fingerprint: Fingerprint, settled: Mapping[str, Any], device: str) -> Drawn:
    """Numbers of steps, and the intervals of validations and checkpoints."""
    steps = int(settled.get("steps", STEPS[device]))
    interval = min(steps, max(25, steps // 40))
    values = {
        "steps": steps,
        "warmup_steps": min(500, steps // 20),
        "validation_interval": interval,
        "checkpoint_interval": interval,
        "learning_rate": 1e-2 if settled.get("optimizer") == "sgd" else 1e-3,
        "weight_decay": 3e-5 if settled.get("optimizer") == "sgd" else 1e-2,
    }
    return values, {"steps": f"for a {device}", "warmup_steps": "a twentieth of the steps, at most 500"}


def draw_split(fingerprint: Fingerprint, settled: Mapping[str, Any], device: str) -> Drawn:
    """Which share of the cases validates: none where a single one would be a large part of what can be learned."""
    if len(fingerprint.cases) >= FEWEST_DIVIDED:
        return {}, {}
    note = f"fewer than {FEWEST_DIVIDED} cases: unless the dataset names validation cases, all train and also validate"
    return {"validation_fraction": 0.0}, {"validation_fraction": note}


def axis_order(fingerprint: Fingerprint, orientation: str | None) -> tuple[int, ...]:
    """For each array axis under ``orientation``, its place in the fingerprint's canonical order."""
    if fingerprint.spatial_dims == 2:
        return (0, 1)
    if orientation is None:
        found = {case.axis_codes for case in fingerprint.cases}
        if len(found) > 1:
            raise PlanError(
                f"orientation=None with cases that point {', '.join(sorted(found))}",
                expected="one orientation for all",
                fix=f"leave orientation at {CANONICAL!r}",
            )
        orientation = found.pop()
    letters = [OPPOSITES.get(code, code) for code in orientation.upper()]
    if sorted(letters) != sorted(CANONICAL):
        raise PlanError(f"orientation={orientation!r}", expected="three letters like 'SPL' or 'RAS'")
    return tuple(CANONICAL.index(letter) for letter in letters)


def choose_device(device: str) -> str:
    """What "auto" means here: "cuda" or "cpu"."""
    if device == "auto":
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cuda", "cpu"):
        raise PlanError(f"device={device!r}", expected="auto, cuda or cpu")
    return device
