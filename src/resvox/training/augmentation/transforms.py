"""Augmentation with MONAI's transforms, each driven by the sample's own random numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import (
    RandAdjustContrast,
    RandAffined,
    RandGaussianNoise,
    RandGaussianSmooth,
    RandScaleIntensity,
    RandShiftIntensity,
    RandSimulateLowResolution,
)
from monai.transforms.transform import Randomizable

from resvox.training.plans.base import TrainingPlan

AFFINE_SHARE = {"none": 0.0, "light": 0.0, "default": 0.3}
ROTATION = math.radians(15)
SCALING = (-0.15, 0.2)  # MONAI adds 1
LARGEST_RATIO = 2.0  # of two spacings in whose plane a rotation still looks like one


class Augmentation:
    """Mirroring, rotation and scaling, then noise, blur, brightness, contrast and lower resolution.

    Strength "light" leaves out what resamples; "none" does nothing. Axes that the plan does not name in
    ``mirror_axes`` are never mirrored. Rotation turns only planes whose two spacings are alike.

    Args:
        size: voxels of what comes out.
        target: ``"nearest"`` for label maps, ``"bilinear"`` for values: how a target moves with its image.
    """

    def __init__(self, plan: TrainingPlan, size: Sequence[int], *, target: str = "nearest") -> None:
        self.patch_size = tuple(size)
        self.mirror_axes = plan.mirror_axes if plan.augmentation != "none" else ()
        self.affine_share = AFFINE_SHARE[plan.augmentation]
        self.affine = _affine(plan, self.patch_size, target)
        self.intensity = _intensity(plan.augmentation, plan.spatial_dims)

    def source_size(self, rng: np.random.Generator) -> tuple[int, ...]:
        """Voxels to cut: the patch, or more where this sample is to be rotated and needs its corners."""
        if rng.random() >= self.affine_share:
            return self.patch_size
        return tuple(size + 2 * math.ceil(0.15 * size) for size in self.patch_size)

    def __call__(
        self, image: torch.Tensor, target: torch.Tensor | None, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Augment an image (channels, *size) float32 and a target (any, *size); results have the patch size.

        Without a target (a class has no position) the second result is the image.
        """
        parts: dict[Any, Any] = {"image": image} if target is None else {"image": image, "target": target}
        if tuple(image.shape[1:]) != self.patch_size:
            _seed(self.affine, rng)
            parts = {name: _plain(part) for name, part in self.affine(parts).items()}
        axes = [axis + 1 for axis in self.mirror_axes if rng.random() < 0.5]
        if axes:
            parts = {name: part.flip(axes) for name, part in parts.items()}
        image = parts["image"]
        for transform in self.intensity:
            _seed(transform, rng)
            image = _plain(transform(image))
        return image.contiguous(), parts.get("target", image).contiguous()


def _seed(transform: Randomizable, rng: np.random.Generator) -> None:
    transform.set_random_state(seed=int(rng.integers(2**32)))


def _plain(tensor: Any) -> torch.Tensor:
    plain: torch.Tensor = tensor.as_tensor() if hasattr(tensor, "as_tensor") else tensor
    return plain


def _affine(plan: TrainingPlan, size: tuple[int, ...], target: str) -> RandAffined:
    spacing = plan.spacing_mm or (1.0,) * plan.spatial_dims
    # MONAI's order: the rotation about axis 0 turns the plane (1, 2)
    planes = [(0, 1)] if plan.spatial_dims == 2 else [(1, 2), (0, 2), (0, 1)]
    ratios = [max(spacing[a], spacing[b]) / min(spacing[a], spacing[b]) for a, b in planes]
    return RandAffined(
        keys=("image", "target"),
        allow_missing_keys=True,
        prob=1.0,
        rotate_range=[ROTATION if ratio <= LARGEST_RATIO else 0.0 for ratio in ratios],
        scale_range=[SCALING] * plan.spatial_dims,
        spatial_size=size,
        mode=("bilinear", target),
        padding_mode="zeros",
    )


def _intensity(strength: str, spatial_dims: int) -> list[Any]:
    linear = "trilinear" if spatial_dims == 3 else "bilinear"
    light = [
        RandScaleIntensity(factors=0.1, prob=0.3),
        RandShiftIntensity(offsets=0.1, prob=0.3),
        RandGaussianNoise(prob=0.15, std=0.1),
    ]
    full = [
        RandGaussianNoise(prob=0.1, std=0.15),
        RandGaussianSmooth((0.5, 1.0), (0.5, 1.0), (0.5, 1.0), prob=0.15),
        RandScaleIntensity(factors=0.25, prob=0.15),
        RandShiftIntensity(offsets=0.1, prob=0.15),
        RandAdjustContrast(prob=0.3, gamma=(0.7, 1.5), retain_stats=True),
        RandSimulateLowResolution(prob=0.15, zoom_range=(0.5, 1.0), upsample_mode=linear),
    ]
    return {"none": [], "light": light, "default": full}[strength]
