"""Planning of a classification: each rule a function, each decision with its reason."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from resvox.training.classification.fingerprint import ClassificationFacts
from resvox.training.classification.plan import ClassificationPlan
from resvox.training.plans.fingerprint import Intensities
from resvox.training.plans.making import Drawn, planned
from resvox.training.plans.rules import check_sizes, choose_device

LONG_SIDE = 64  # voxels: a shorter image is not halved before the first stage, as He et al. did on CIFAR
SMALLEST_MAP = {True: 2, False: 4}  # voxels along an axis of the deepest feature map, of small and of large images
IMAGE_VOXELS = {("cuda", 2): 224**2, ("cpu", 2): 224**2, ("cuda", 3): 128**3, ("cpu", 3): 64**3}
BATCH_VOXELS = {("cuda", 2): 64 * 224**2, ("cpu", 2): 16 * 224**2, ("cuda", 3): 8 * 128**3, ("cpu", 3): 8 * 64**3}
LARGEST_BATCH = 64
EPOCHS = {"cuda": 100, "cpu": 10}
STEPS = {"cuda": (500, 20_000), "cpu": (200, 2_000)}  # the fewest and the most
UNBALANCED = 1.5  # the largest class has so many times more cases than the smallest


def make_plan(
    facts: ClassificationFacts, *, model: str = "resnet18", device: str = "auto", **changes: Any
) -> ClassificationPlan:
    """Make a plan from what the images are like.

    Args:
        device: "cuda" or "cpu" decides how large an image and how many steps; "auto" looks for a GPU.
        changes: fields of `ClassificationPlan` that are settled already; the rest is chosen to fit them.

    Raises:
        PlanError: an unknown field, or a change that contradicts the data or another change.
    """
    check_sizes(changes, facts.spatial_dims)
    device = choose_device(device)
    decided: dict[str, Any] = {
        "model": model,
        "spatial_dims": facts.spatial_dims,
        "in_channels": len(facts.channel_names),
        "num_classes": len(facts.counts),
    }
    notes = {"num_classes": ", ".join(f"{name}: {count} cases" for name, count in facts.counts.items())}
    rules = (_size, _normalization, _strides, _batch, _length, _balance)
    return planned(ClassificationPlan, facts, rules, decided=decided, notes=notes, changes=changes, device=device)


def _size(facts: ClassificationFacts, settled: Mapping[str, Any], device: str) -> Drawn:
    budget = IMAGE_VOXELS[(device, facts.spatial_dims)]
    if facts.is_picture or facts.spatial_dims == 2:
        size = _shrunk(facts.median_shape, budget)
        why = "the size of every image" if facts.is_one_size and size == facts.median_shape else "the median size"
        return (
            {"image_size": size, "fit": "resize", "orientation": None, "spacing_mm": None},
            {"image_size": f"{why}, at most {budget} voxels ({device})", "fit": "pictures have no scale to keep"},
        )
    # The scale of volumes carries the size of structures: one spacing for all, coarse enough for the budget.
    spacing = np.median([image.spacing_mm for image in facts.images], axis=0)
    sizes = [np.multiply(image.shape, image.spacing_mm) / spacing for image in facts.images]
    shape = np.median(sizes, axis=0)
    coarser = max(1.0, float(np.prod(shape) / budget) ** (1 / facts.spatial_dims))
    spacing_mm = tuple(round(float(mm), 6) for mm in settled.get("spacing_mm") or spacing * coarser)
    size = tuple(max(1, round(float(n))) for n in shape * spacing / np.asarray(spacing_mm))
    return (
        {"image_size": size, "fit": "crop", "orientation": facts.orientation, "spacing_mm": spacing_mm},
        {
            "image_size": f"the median scan, at most {budget} voxels ({device})",
            "fit": "one scale for all scans: a structure keeps its size",
            "spacing_mm": "the median" + (f", {coarser:.2g} times coarser to fit" if coarser > 1 else ""),
            "orientation": "one orientation for every scan",
        },
    )


def _shrunk(shape: Sequence[int], budget: int) -> tuple[int, ...]:
    factor = min(1.0, (budget / math.prod(shape)) ** (1 / len(shape)))
    return tuple(max(1, int(n * factor)) for n in shape)


def _normalization(facts: ClassificationFacts, settled: Mapping[str, Any], device: str) -> Drawn:
    chosen = [_channel_normalization(channel, facts.is_picture) for channel in facts.intensities]
    reasons = "; ".join(f"{c.channel}: {why}" for c, (_, why) in zip(facts.intensities, chosen, strict=True))
    return {"normalization": tuple(each for each, _ in chosen)}, {"normalization": reasons}


def _channel_normalization(channel: Intensities, is_picture: bool) -> tuple[dict[str, Any], str]:
    is_ct = channel.channel.strip().upper() == "CT"
    if not (is_ct or is_picture):
        return {"kind": "zscore"}, "no fixed units, each scan to mean 0 and deviation 1"
    # Most of a picture may have one value (black): its percentiles then say nothing.
    low, high = channel.percentile_00_5, channel.percentile_99_5
    if not is_ct or low >= high:
        low, high = channel.minimum, max(channel.maximum, channel.minimum + 1.0)
    values = {"low": low, "high": high, "mean": channel.mean, "std": max(channel.std, 1e-3)}
    rounded = {name: round(value, 3) for name, value in values.items()}
    why = "Hounsfield units" if is_ct else "one scale for all pictures"
    return {"kind": "window", **rounded}, f"{why}; mean and deviation of the training images"


def _strides(facts: ClassificationFacts, settled: Mapping[str, Any], device: str) -> Drawn:
    size = tuple(settled["image_size"])
    small = max(size) < LONG_SIDE
    # The last levels halve first: a small image keeps its size where it matters, in the early maps.
    strides: list[int | tuple[int, ...]] = [1] * 5
    for level in (4, 3, 2) if small else (4, 3, 2, 1, 0):
        stride = tuple(2 if -(-n // 2) >= SMALLEST_MAP[small] else 1 for n in size)
        size = tuple(-(-n // s) for n, s in zip(size, stride, strict=True))
        strides[level] = stride[0] if len(set(stride)) == 1 else stride
    values: dict[str, Any] = {"strides": tuple(strides), "norm": "batch", "stem": "3x3" if small else None}
    return values, {
        "strides": f"the last levels first, until maps would be smaller than {SMALLEST_MAP[small]} voxels",
        "stem": f"every side is shorter than {LONG_SIDE} voxels" if small else "large images",
    }


def _batch(facts: ClassificationFacts, settled: Mapping[str, Any], device: str) -> Drawn:
    budget = BATCH_VOXELS[(device, facts.spatial_dims)]
    fits = max(4, min(LARGEST_BATCH, budget // math.prod(settled["image_size"])))
    # At least ten steps per epoch: large batches of few images give few steps, and always the same ones to batch norm.
    few = max(4, 2 ** int(math.log2(max(4, sum(facts.counts.values()) / 10))))
    return {"batch_size": min(fits, few)}, {"batch_size": "what fits, and at most a tenth of the cases"}


def _length(facts: ClassificationFacts, settled: Mapping[str, Any], device: str) -> Drawn:
    an_epoch = max(1, sum(facts.counts.values()) // int(settled["batch_size"]))
    fewest, most = STEPS[device]
    steps = int(settled.get("steps", max(fewest, min(most, EPOCHS[device] * an_epoch))))
    interval = min(steps, max(an_epoch, 10))
    values = {
        "steps": steps,
        "warmup_steps": min(500, steps // 20),
        "validation_interval": interval,
        "checkpoint_interval": interval,
        "learning_rate": 1e-1 if settled.get("optimizer") == "sgd" else 1e-3,
        "momentum": 0.9,
        "weight_decay": 5e-4 if settled.get("optimizer") == "sgd" else 5e-2,
        "decay": "cosine",
    }
    return values, {"steps": f"{EPOCHS[device]} times over the data, from {fewest} to {most} for a {device}"}


def _balance(facts: ClassificationFacts, settled: Mapping[str, Any], device: str) -> Drawn:
    counts = list(facts.counts.values())
    ratio = max(counts) / max(1, min(counts))
    wanted = "weights" if ratio > UNBALANCED else "none"
    return (
        {"class_balance": wanted, "mirror_axes": ()},
        {
            "class_balance": f"the largest class has {ratio:.1f} times the cases of the smallest",
            "mirror_axes": "whether a mirrored image keeps its class is unknown; name the axes if it does",
        },
    )


def weights_fields(found: Any, model: str | None) -> dict[str, Any]:
    """The field that the network in a weights file settles: the model, which is its encoder."""
    return {"model": found.encoder}


draw_classification_plan = make_plan  # the name it had first
