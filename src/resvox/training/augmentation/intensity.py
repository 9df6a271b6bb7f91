"""What is done to the values of a sample: MONAI's transforms, each seeded from the sample's own random numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import (
    AdjustContrast,
    RandAdjustContrast,
    RandGaussianNoise,
    RandGaussianSmooth,
    RandScaleIntensity,
    RandScaleIntensityFixedMean,
    RandShiftIntensity,
    RandSimulateLowResolution,
)
from monai.transforms.transform import Randomizable

IntensityStep = Callable[[torch.Tensor, np.random.Generator], torch.Tensor]


def plain(tensor: Any) -> torch.Tensor:
    """A tensor without MONAI's metadata."""
    assert isinstance(tensor, torch.Tensor)
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor


@dataclass(frozen=True)
class Drawn:
    """A transform of MONAI that decides itself whether and how it changes the image."""

    transform: Any

    def __call__(self, image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Seed it and apply it to (channels, *size)."""
        return seeded(self.transform, image, rng)


@dataclass(frozen=True)
class Sometimes:
    """A transform in a share of the samples, on each channel by itself with numbers of its own.

    Args:
        transform: of (1, *size).
        share: of the samples.
        channels: the share of the channels of those.
    """

    transform: IntensityStep
    share: float
    channels: float = 1.0

    def __call__(self, image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """(channels, *size), a new tensor where something changes."""
        if rng.random() >= self.share:
            return image
        changed = [
            self.transform(channel[None], rng) if rng.random() < self.channels else channel[None] for channel in image
        ]
        return torch.cat(changed)


@dataclass(frozen=True)
class Gamma:
    """nnU-Net's gamma: as often below 1 as above, mean and deviation of the channel kept.

    Args:
        inverted: of the negative image.
    """

    inverted: bool
    low: float = 0.7
    high: float = 1.5

    def __call__(self, image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """(1, *size), a new tensor."""
        gamma = rng.uniform(self.low, 1) if rng.random() < 0.5 else rng.uniform(1, self.high)
        return plain(AdjustContrast(float(gamma), invert_image=self.inverted, retain_stats=True)(image))


@dataclass(frozen=True)
class InPlanes:
    """A transform of images on the slices of a flat volume, all alike: the thick axis is left alone."""

    transform: IntensityStep
    axis: int

    def __call__(self, image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """(1, *size), a new tensor."""
        slices = image[0].movedim(self.axis, 0)
        return self.transform(slices, rng).movedim(0, self.axis)[None]


def seeded(transform: Randomizable, image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """The transform of an image with a seed from ``rng``."""
    transform.set_random_state(seed=int(rng.integers(2**32)))
    return plain(transform(image))  # type: ignore[operator]


def steps_of(strength: str, spatial_dims: int, flat_axis: int | None) -> list[IntensityStep]:
    """The steps of a strength, in order.

    Args:
        flat_axis: the axis of thick slices, which "nnunet" leaves out of the simulation of low resolution.
    """
    linear = "trilinear" if spatial_dims == 3 else "bilinear"
    if strength == "nnunet":
        return _nnunet(linear, flat_axis)
    return [Drawn(transform) for transform in {"none": [], "light": _light(), "default": _default(linear)}[strength]]


def _light() -> list[Any]:
    return [
        RandScaleIntensity(factors=0.1, prob=0.3),
        RandShiftIntensity(offsets=0.1, prob=0.3),
        RandGaussianNoise(prob=0.15, std=0.1),
    ]


def _default(linear: str) -> list[Any]:
    return [
        RandGaussianNoise(prob=0.1, std=0.15),
        RandGaussianSmooth((0.5, 1.0), (0.5, 1.0), (0.5, 1.0), prob=0.15),
        RandScaleIntensity(factors=0.25, prob=0.15),
        RandShiftIntensity(offsets=0.1, prob=0.15),
        RandAdjustContrast(prob=0.3, gamma=(0.7, 1.5), retain_stats=True),
        RandSimulateLowResolution(prob=0.15, zoom_range=(0.5, 1.0), upsample_mode=linear),
    ]


def _nnunet(linear: str, flat_axis: int | None) -> list[IntensityStep]:
    """The steps of nnU-Net 2 with its probabilities and ranges (Isensee et al. 2021; its DA5 is another strength)."""
    plane = "bilinear" if flat_axis is not None else linear
    low_resolution: IntensityStep = Drawn(
        RandSimulateLowResolution(prob=1.0, zoom_range=(0.5, 1.0), downsample_mode="nearest-exact", upsample_mode=plane)
    )
    if flat_axis is not None:
        low_resolution = InPlanes(low_resolution, flat_axis)
    contrast = RandScaleIntensityFixedMean(prob=1.0, factors=0.25, fixed_mean=True, preserve_range=True)
    return [
        Drawn(RandGaussianNoise(prob=0.1, std=0.1)),  # its deviation is drawn from 0 to 0.1
        Sometimes(Drawn(RandGaussianSmooth((0.5, 1.0), (0.5, 1.0), (0.5, 1.0), prob=1.0)), 0.2, channels=0.5),
        Sometimes(Drawn(RandScaleIntensity(factors=0.25, prob=1.0)), 0.15),
        Sometimes(Drawn(contrast), 0.15),
        Sometimes(low_resolution, 0.25, channels=0.5),
        Sometimes(Gamma(inverted=True), 0.1),
        Sometimes(Gamma(inverted=False), 0.3),
    ]
