"""Augmentation of a sample: its geometry, then its values, each driven by the sample's own random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from resvox.training.augmentation.geometry import DefaultMover, Geometry, Mover, NnunetMover, NoMover, flat_axis
from resvox.training.augmentation.intensity import plain, steps_of
from resvox.training.plans.base import TrainingPlan


class Augmentation:
    """Mirroring, rotation and scaling, then noise, blur, brightness, contrast and lower resolution.

    Strength "light" leaves out what resamples; "none" does nothing; "nnunet" has the steps, probabilities and ranges of
    nnU-Net. Axes that the plan does not name in ``mirror_axes`` are never mirrored.

    Args:
        size: voxels of what comes out.
        target: ``"nearest"`` for label maps, ``"bilinear"`` for values: how a target moves with its image.
        device: of the voxels that will come; None: the processor.
    """

    def __init__(
        self,
        plan: TrainingPlan,
        size: Sequence[int],
        *,
        target: str = "nearest",
        device: torch.device | None = None,
    ) -> None:
        self.patch_size = tuple(size)
        self.mirror_axes = plan.mirror_axes if plan.augmentation != "none" else ()
        self.mover = _mover(plan, self.patch_size, target, device)
        self.intensity = steps_of(plan.augmentation, plan.spatial_dims, flat_axis(plan, self.patch_size))
        self.channel_dropout = plan.channel_dropout

    def draw(self, rng: np.random.Generator) -> Geometry:
        """Which voxels to cut for a sample, and how they will be moved."""
        return self.mover.draw(rng)

    def __call__(
        self, image: torch.Tensor, target: torch.Tensor | None, rng: np.random.Generator, geometry: Geometry
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Augment an image (channels, *geometry.size) float32 and a target (any, *geometry.size).

        The results have the size of a sample. Without a target (a class has no position) the second one is the image.
        """
        parts: dict[Any, Any] = {"image": image} if target is None else {"image": image, "target": target}
        parts = {name: plain(part) for name, part in self.mover.apply(parts, geometry, rng).items()}
        axes = [axis + 1 for axis in self.mirror_axes if rng.random() < 0.5]
        if axes:
            parts = {name: part.flip(axes) for name, part in parts.items()}
        image = parts["image"]
        for step in self.intensity:
            image = step(image, rng)
        if self.channel_dropout:
            image = without_some_channels(image, self.channel_dropout, rng)
        return image.contiguous(), parts.get("target", image).contiguous()


def without_some_channels(image: torch.Tensor, share: float, rng: np.random.Generator) -> torch.Tensor:
    """Each channel is 0 with the chance ``share``; one that is drawn stays where all would be."""
    dropped = rng.random(len(image)) < share
    if dropped.all():
        dropped[int(rng.integers(len(image)))] = False
    if not dropped.any():
        return image
    kept = torch.from_numpy(~dropped).to(image)
    return image * kept.reshape(-1, *[1] * (image.ndim - 1))


def _mover(plan: TrainingPlan, size: tuple[int, ...], target: str, device: torch.device | None) -> Mover:
    if plan.augmentation == "nnunet":
        return NnunetMover(plan, size, target, device)
    return DefaultMover(plan, size, target, device) if plan.augmentation == "default" else NoMover(size)
