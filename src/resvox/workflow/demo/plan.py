"""The demo's training plans: drawn from the data, with the few choices that fit minutes on two cores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resvox.training import Plan
    from resvox.workflow.demo.data import DemoData

# 34 slices of 10 mm: a shallower encoder, and no stride along the slices before the pixels are as coarse. One scan
# of which every voxel is to be learned: augmentation is light.
CHEST_PLAN: dict[str, Any] = {
    "encoder_depth": 4,
    "strides": ((1, 2, 2), 2, 2, 2, 2),
    "decoder_filters": (64, 32, 16, 16),
    "spacing_mm": (10.0, 4.0, 4.0),
    "patch_size": (16, 64, 64),
    "batch_size": 2,
    "steps": 400,
    "max_minutes": 4.5,  # on a busy or slow machine: a worse result rather than a longer wait
    "foreground_fraction": 0.8,
    "augmentation": "light",
}
# Patches of the size of a vertebra, because the scan to come shows three and nothing of the body around them.
SPINE_PLAN: dict[str, Any] = {
    "encoder_depth": 3,
    "strides": (2, 2, 2, 2, 2),
    "decoder_filters": (64, 32, 16),
    "spacing_mm": (5.0, 3.0, 3.0),
    "patch_size": (16, 32, 32),
    "batch_size": 4,
    "steps": 900,
    "foreground_fraction": 0.6,
    "max_minutes": 4.5,
    "mirror_axes": (2,),
}


def draw_demo_plan(data: DemoData, *, steps: int | None, minutes: float | None, device: str, seed: int) -> Plan:
    """The plan as drawn from the data, with the few choices that fit minutes on two cores."""
    from resvox.training import draw_plan, read_dataset, take_fingerprint

    fingerprint = take_fingerprint(read_dataset(data.dataset))
    chosen: dict[str, Any] = {
        **(SPINE_PLAN if data.unseen else CHEST_PLAN),
        "learning_rate": 3e-3,
        "seed": seed,
    }
    if steps is not None:
        chosen["steps"] = steps
    if minutes is not None:
        chosen["max_minutes"] = minutes
    plan = draw_plan(fingerprint, device=device, **chosen)
    # The scan that trains validates too, which chooses nothing worth the time: once, at the end.
    return plan.with_changes(
        learning_rate=chosen["learning_rate"],
        warmup_steps=min(20, plan.steps // 5),
        validation_interval=plan.steps,
        checkpoint_interval=max(1, plan.steps // 4),
    )
