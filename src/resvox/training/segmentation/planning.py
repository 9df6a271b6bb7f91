"""Planning of a segmentation: from a dataset's fingerprint to a plan, each decision with its reason."""

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
    draw_split,
)
from resvox.training.plans.sides import safe_mirror_axes
from resvox.training.segmentation.plan import Plan

NORM_REASON = "instance norm would give a patch with little of the labels the contrast of one with much of them"


def make_plan(
    fingerprint: Fingerprint,
    *,
    model: str = "unet",
    encoder: str = "resnet18",
    device: str = "auto",
    **changes: Any,
) -> Plan:
    """Make a plan from what the data are like.

    Args:
        device: "cuda" or "cpu" decides how large a patch and how many steps; "auto" looks for a GPU.
        changes: fields of `Plan` that are settled already; the rest is chosen to fit them.

    Raises:
        PlanError: an unknown field, or a change that contradicts the data or another change.
    """
    check_sizes(changes, fingerprint.spatial_dims)
    device = choose_device(device)
    decided = common_decisions(fingerprint, model, encoder)
    notes = {"num_classes": _outputs_in_words(fingerprint), "norm": NORM_REASON}
    rules = (draw_spacing, draw_normalization, draw_patch_and_strides, draw_batch, draw_length, draw_split, mirroring)
    return planned(Plan, fingerprint, rules, decided=decided, notes=notes, changes=changes, device=device)


def common_decisions(fingerprint: Fingerprint, model: str, encoder: str) -> dict[str, Any]:
    """The fields that every recipe decides in the same way."""
    return {
        "model": model,
        "encoder": encoder,
        "spatial_dims": fingerprint.spatial_dims,
        "in_channels": len(fingerprint.channel_names),
        "num_classes": len(fingerprint.regions) or len(fingerprint.labels),
        "outputs": "regions" if fingerprint.regions else "labels",
        "encoder_depth": 5,
        "norm": "batch",
    }


def _outputs_in_words(fingerprint: Fingerprint) -> str:
    if fingerprint.regions:
        listed = ", ".join(f"{name} {list(values)}" for name, values in fingerprint.regions.items())
        return f"regions: {listed}"
    return "labels: " + ", ".join(f"{value} {name}" for name, value in fingerprint.labels.items())


def mirroring(fingerprint: Fingerprint, settled: Mapping[str, Any], device: str) -> Drawn:
    """The axes that may be mirrored: all but those that a label names a side of."""
    axes = safe_mirror_axes(list(fingerprint.targets), settled["orientation"], fingerprint.spatial_dims)
    kept = [axis for axis in range(fingerprint.spatial_dims) if axis not in axes]
    reason = f"labels name sides: mirroring axes {kept} would swap them" if kept else "no label names a side"
    return {"mirror_axes": axes}, {"mirror_axes": reason}


def weights_fields(found: Any, model: str | None) -> dict[str, Any]:
    """The fields that the network in a weights file settles: its encoder and, for the same model, its decoder."""
    if found.encoder:
        settled: dict[str, Any] = {"encoder": found.encoder}
    else:  # a network whose encoder is its own: the weights name the model
        settled = {"model": found.segmenter[0]}
    if found.segmenter is not None and found.segmenter[0] == (model or settled.get("model", "unet")):
        decoder = dict(found.segmenter[1])
        for name in ("encoder_depth", "decoder_filters"):
            if name in decoder:
                settled[name] = decoder.pop(name)
        settled["further_options"] = {**found.options, **decoder}
    return settled


draw_plan = make_plan  # the name it had first
