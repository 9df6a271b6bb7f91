"""Planning of dense regression: the rules of segmentation where they fit, and those of the values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resvox.training.plans.fingerprint import Fingerprint
from resvox.training.plans.making import Drawn, planned
from resvox.training.plans.rules import (
    PATCH_VOXELS,
    check_sizes,
    choose_device,
    draw_batch,
    draw_length,
    draw_normalization,
    draw_patch_and_strides,
    draw_spacing,
    largest_patch,
)
from resvox.training.plans.sides import safe_mirror_axes
from resvox.training.regression.fingerprint import RegressionFacts
from resvox.training.regression.plan import RegressionPlan

SHARE = 8  # of the voxels of a U-Net's patch: a network that halves its input once works at the full size throughout
HALVED_ONCE = (2, 1, 1, 1, 1)
SMALLEST_STD = 1e-6


def make_plan(
    facts: RegressionFacts,
    *,
    model: str = "unet",
    encoder: str = "resnet18",
    device: str = "auto",
    **changes: Any,
) -> RegressionPlan:
    """Make a plan from what the scans and their values are like.

    Args:
        model: a U-Net or another model of ``resvox models --task segmentation``, or ``"resnet18_3d"``.
        device: "cuda" or "cpu" decides how large a patch and how many steps; "auto" looks for a GPU.
        changes: fields of `RegressionPlan` that are settled already; the rest is chosen to fit them.

    Raises:
        UnknownModelError, PlanError: no such model or field, or a change that contradicts the data.
    """
    check_sizes(changes, facts.scans.spatial_dims)
    device = choose_device(device)
    scans = facts.scans
    decided: dict[str, Any] = {
        "model": model,
        "encoder": encoder,
        "spatial_dims": scans.spatial_dims,
        "in_channels": len(scans.channel_names),
        "outputs": len(facts.targets),
        "target_mean": tuple(round(target.mean, 6) for target in facts.targets),
        "target_std": tuple(max(round(target.std, 6), SMALLEST_STD) for target in facts.targets),
        "encoder_depth": 5,
        "norm": "batch",
    }
    notes = {
        "outputs": ", ".join(f"{t.channel} from {t.minimum:g} to {t.maximum:g}" for t in facts.targets),
        "target_mean": "of the training cases",
        "norm": "instance norm would take the scale of a patch away, which the values may hang on",
    }
    names = [target.channel for target in facts.targets]

    def mirroring(fingerprint: Fingerprint, settled: Mapping[str, Any], device: str) -> Drawn:
        axes = safe_mirror_axes(names, settled["orientation"], fingerprint.spatial_dims)
        return {"mirror_axes": axes}, {"mirror_axes": "axes that no value's name speaks of a side of"}

    rules = (draw_spacing, draw_normalization, _network, draw_patch_and_strides, draw_batch, draw_length, mirroring)
    return planned(RegressionPlan, scans, rules, decided=decided, notes=notes, changes=changes, device=device)


def _network(scans: Fingerprint, settled: Mapping[str, Any], device: str) -> Drawn:
    """A dense residual network halves its input once, and gets a smaller patch for the same work."""
    from resvox.catalog import options_of

    if "stride" not in options_of(str(settled["model"])):
        return {}, {}
    values: dict[str, Any] = {"encoder_depth": 1, "strides": HALVED_ONCE}
    if "patch_size" not in settled and settled["spacing_mm"]:
        size = scans.median_shape(tuple(settled["spacing_mm"])) if scans.orientation == settled["orientation"] else None
        if size is not None:
            budget = PATCH_VOXELS[(device, scans.spatial_dims)] // SHARE
            patch = largest_patch(size, settled["spacing_mm"], budget)
            values["patch_size"] = tuple(max(2, n // 2 * 2) for n in patch)
    return values, {"strides": f"{settled['model']} halves its input once"}


draw_regression_plan = make_plan  # the name it had first
