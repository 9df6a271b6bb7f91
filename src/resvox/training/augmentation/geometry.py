"""Where the voxels of a sample are taken from: sizes to cut, rotations and scalings, each drawn per sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from monai.transforms import Affined, RandAffined

from resvox.training.plans.base import TrainingPlan

KEYS = ("image", "target")
ROTATION = math.radians(15)
SCALING = (-0.15, 0.2)  # MONAI adds 1
AFFINE_SHARE = 0.3
LARGEST_RATIO = 2.0  # of two spacings in whose plane a rotation still looks like one


@dataclass(frozen=True)
class Geometry:
    """What is done with the places of a sample's voxels.

    Args:
        size: voxels to cut: those of the sample, or more where it needs its surroundings.
        rotation: the angle in radians about each axis, one of all for images; None where it is drawn later.
        zoom: what the distances along each axis are multiplied by: above 1, things become smaller.
    """

    size: tuple[int, ...]
    rotation: tuple[float, ...] | None = None
    zoom: tuple[float, ...] | None = None


class Mover(Protocol):
    """Draws a geometry per sample and applies it."""

    def draw(self, rng: np.random.Generator) -> Geometry:
        """The geometry of a sample."""

    def apply(self, parts: dict[Any, Any], geometry: Geometry, rng: np.random.Generator) -> dict[Any, Any]:
        """The parts of a sample, (any, *geometry.size) each, moved and cut to the size of the sample."""


class NoMover:
    """Everything stays where it is."""

    def __init__(self, size: Sequence[int]) -> None:
        self.size = tuple(size)

    def draw(self, rng: np.random.Generator) -> Geometry:
        """The size of the sample; draws nothing."""
        rng.random()  # of the share that is moved: the numbers behind it are those of the other strengths
        return Geometry(self.size)

    def apply(self, parts: dict[Any, Any], geometry: Geometry, rng: np.random.Generator) -> dict[Any, Any]:
        """The parts as they are."""
        return parts


class DefaultMover:
    """Rotation up to 15 degrees, in planes whose two spacings are alike, and scaling, in 30 % of the samples."""

    def __init__(
        self, plan: TrainingPlan, size: Sequence[int], target: str, device: torch.device | None = None
    ) -> None:
        self.size = tuple(size)
        self.affine = _default_affine(plan, self.size, target, device)

    def draw(self, rng: np.random.Generator) -> Geometry:
        """The size to cut; the rotation is drawn by MONAI when it is applied."""
        if rng.random() >= AFFINE_SHARE:
            return Geometry(self.size)
        return Geometry(tuple(size + 2 * math.ceil(0.15 * size) for size in self.size))

    def apply(self, parts: dict[Any, Any], geometry: Geometry, rng: np.random.Generator) -> dict[Any, Any]:
        """Rotate and scale where more than the sample was cut."""
        if geometry.size == self.size:
            return parts
        self.affine.set_random_state(seed=int(rng.integers(2**32)))
        return dict(self.affine(parts))


class NnunetMover:
    """nnU-Net's rotation and scaling: each in a fifth of the samples, scaling alike along all axes.

    The angles are up to 30 degrees about each axis of a volume, up to 180 degrees in images that are about square, and
    up to 15 degrees in other images. Patches over three times longer than they are deep are turned, up to 180 degrees,
    and scaled within their planes alone.
    """

    SHARE = 0.2
    ZOOM = (0.7, 1.4)

    def __init__(
        self, plan: TrainingPlan, size: Sequence[int], target: str, device: torch.device | None = None
    ) -> None:
        self.size = tuple(size)
        self.target, self.device = target, device
        self.flat_axis = flat_axis(plan, self.size)

    def draw(self, rng: np.random.Generator) -> Geometry:
        """The angles and the zoom, and as many voxels as they need."""
        turns, zooms = rng.random() < self.SHARE, rng.random() < self.SHARE
        if not turns and not zooms:
            return Geometry(self.size)
        rotation, zoom = self._angles(rng, turns), self._zoom(rng, zooms)
        return Geometry(self._needed(rotation, zoom), rotation, zoom)

    def _angles(self, rng: np.random.Generator, turns: bool) -> tuple[float, ...]:
        dims = len(self.size)
        if not turns:
            return (0.0,) * (1 if dims == 2 else 3)
        if dims == 2:
            limit = 15 if max(self.size) / min(self.size) > 1.5 else 180
            return (math.radians(float(rng.uniform(-limit, limit))),)
        if self.flat_axis is None:
            return tuple(math.radians(float(angle)) for angle in rng.uniform(-30, 30, size=3))
        angle = math.radians(float(rng.uniform(-180, 180)))
        return tuple(angle if axis == self.flat_axis else 0.0 for axis in range(3))

    def _zoom(self, rng: np.random.Generator, zooms: bool) -> tuple[float, ...]:
        factor = float(rng.uniform(*self.ZOOM)) if zooms else 1.0
        return tuple(1.0 if axis == self.flat_axis else factor for axis in range(len(self.size)))

    def _needed(self, rotation: tuple[float, ...], zoom: tuple[float, ...]) -> tuple[int, ...]:
        """The sample's size, made larger by the same number of voxels on both sides until its corners are within."""
        reach = np.abs(rotation_matrix(rotation)) @ (np.asarray(self.size) * np.asarray(zoom))
        return tuple(
            size + 2 * max(0, math.ceil((float(need) - size) / 2)) for size, need in zip(self.size, reach, strict=True)
        )

    def apply(self, parts: dict[Any, Any], geometry: Geometry, rng: np.random.Generator) -> dict[Any, Any]:
        """Rotate and scale by what was drawn."""
        if geometry.rotation is None or geometry.zoom is None:
            return parts
        affine = Affined(
            keys=KEYS,
            allow_missing_keys=True,
            rotate_params=geometry.rotation if len(geometry.rotation) > 1 else geometry.rotation[0],
            scale_params=geometry.zoom,
            spatial_size=self.size,
            mode=("bilinear", self.target),
            padding_mode="zeros",
            device=self.device,
        )
        return dict(affine(parts))


def flat_axis(plan: TrainingPlan, size: Sequence[int]) -> int | None:
    """The axis along which patches are over three times shorter than along the longest, if it is the coarsest one."""
    if len(size) == 2:
        return None
    axis = int(np.argmin(size)) if plan.spacing_mm is None else int(np.argmax(plan.spacing_mm))
    return axis if max(size) / size[axis] > 3 else None


def rotation_matrix(angles: Sequence[float]) -> np.ndarray[Any, Any]:
    """The matrix of rotations about each axis, as MONAI applies them: of one angle in a plane, of three in space."""
    if len(angles) == 1:
        c, s = math.cos(angles[0]), math.sin(angles[0])
        return np.array([[c, -s], [s, c]])
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = [other for other in range(3) if other != axis]
        turn = np.eye(3)
        sign = -1.0 if axis == 1 else 1.0
        turn[[a, b], [a, b]] = math.cos(angle)
        turn[a, b], turn[b, a] = -sign * math.sin(angle), sign * math.sin(angle)
        matrix = matrix @ turn
    return matrix


def _default_affine(plan: TrainingPlan, size: tuple[int, ...], target: str, device: torch.device | None) -> RandAffined:
    spacing = plan.spacing_mm or (1.0,) * plan.spatial_dims
    # MONAI's order: the rotation about axis 0 turns the plane (1, 2)
    planes = [(0, 1)] if plan.spatial_dims == 2 else [(1, 2), (0, 2), (0, 1)]
    ratios = [max(spacing[a], spacing[b]) / min(spacing[a], spacing[b]) for a, b in planes]
    return RandAffined(
        keys=KEYS,
        allow_missing_keys=True,
        prob=1.0,
        rotate_range=[ROTATION if ratio <= LARGEST_RATIO else 0.0 for ratio in ratios],
        scale_range=[SCALING] * plan.spatial_dims,
        spatial_size=size,
        mode=("bilinear", target),
        padding_mode="zeros",
        device=device,
    )
