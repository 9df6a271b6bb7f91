"""Planning of a restoration: the rules of a segmentation, and the size of the blocks that are hidden."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resvox.training.plans.fingerprint import Fingerprint
from resvox.training.plans.making import Drawn, planned
from resvox.training.plans.rules import (
    check_sizes,
    choose_device,
    draw_batch,
    draw_length,
    draw_normalization,
    draw_patch_and_strides,
    draw_spacing,
)
from resvox.training.restoration.plan import RestorationPlan

BLOCKS = 8  # along the longest axis of a patch
SMALLEST_BLOCK = 2  # voxels


def make_plan(
    fingerprint: Fingerprint,
    *,
    model: str = "unet",
    encoder: str = "resnet18",
    device: str = "auto",
    **changes: Any,
) -> RestorationPlan:
    """Make a plan from what the scans are like.

    Args:
        model: a U-Net or another model of ``resvox models --task segmentation``.
        device: "cuda" or "cpu" decides how large a patch and how many steps; "auto" looks for a GPU.
        changes: fields of `RestorationPlan` that are settled already; the rest is chosen to fit them.

    Raises:
        UnknownModelError, PlanError: no such model or field, or a change that contradicts the data.
    """
    check_sizes(changes, fingerprint.spatial_dims)
    device = choose_device(device)
    decided: dict[str, Any] = {
        "model": model,
        "encoder": encoder,
        "spatial_dims": fingerprint.spatial_dims,
        "in_channels": len(fingerprint.channel_names),
        "encoder_depth": 5,
        "norm": "batch",
        "mirror_axes": tuple(range(fingerprint.spatial_dims)),
    }
    notes = {
        "mirror_axes": "no labels, so no sides that would be exchanged",
        "norm": "that of a segmentation, which takes these weights",
    }
    rules = (draw_spacing, draw_normalization, draw_patch_and_strides, draw_batch, draw_length, draw_blocks)
    return planned(RestorationPlan, fingerprint, rules, decided=decided, notes=notes, changes=changes, device=device)


def draw_blocks(fingerprint: Fingerprint, settled: Mapping[str, Any], device: str) -> Drawn:
    """Blocks that are cubes in voxels, of an eighth of the longest side of a patch."""
    patch = tuple(settled["patch_size"])
    side = max(SMALLEST_BLOCK, max(patch) // BLOCKS)
    block = tuple(max(1, min(side, size)) for size in patch)
    return {"hidden_block": block}, {"hidden_block": f"an eighth of the longest side of {patch}"}
