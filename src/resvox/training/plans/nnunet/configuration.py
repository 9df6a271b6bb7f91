"""Patch, batch and stages from spacing, median size and memory, by the rules of nnU-Net's planners."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from resvox.blueprint.staged.topology import topology
from resvox.training.plans.nnunet.memory import REFERENCE_BATCH, Budget, feature_values

ANISOTROPY = 3.0
LARGEST_PATCH = {2: 2048, 3: 256}  # the side of a square or cube in which the search begins
LOW_RESOLUTION_BELOW = 0.25  # of the median size is in a patch: nnU-Net then plans a network of coarser scans too
COARSER = 1.03
Axes = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """What nnU-Net decides of a network and its training: sizes in voxels, one number per axis."""

    patch_size: Axes
    batch_size: int
    strides: tuple[Axes, ...]
    kernels: tuple[Axes, ...]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What the rules read: axes in nnU-Net's order, the coarsest of volumes first.

    Args:
        spacing: mm along each axis.
        median_shape: voxels along each axis of the median case once all are resampled; halves are possible.
        cases: how many there are.
        outputs: background and ignored label counted.
        budget: of the memory.
        memory_gb: of the GPU.
    """

    spacing: tuple[float, ...]
    median_shape: tuple[float, ...]
    cases: int
    outputs: int
    budget: Budget
    memory_gb: float

    @property
    def dims(self) -> int:
        """2 or 3."""
        return len(self.spacing)

    @property
    def reference(self) -> float:
        """Values of feature maps that fit the memory."""
        return self.budget.voxels[self.dims] * (self.memory_gb / self.budget.memory_gb)


def target_spacing(spacings: Sequence[Sequence[float]], shapes: Sequence[Sequence[int]]) -> tuple[float, ...]:
    """The median; of thick and few slices the 10th percentile, but nothing finer than the other axes.

    An axis is such a one whose median is over three times coarser than the others', and which has less than a third of
    their voxels.
    """
    every = np.vstack([np.asarray(each, float) for each in spacings])
    target = np.percentile(every, 50, 0)
    size = np.percentile(np.vstack(shapes), 50, 0)
    thick = int(np.argmax(target))
    others = [axis for axis in range(len(target)) if axis != thick]
    coarsest = max(target[others])
    if target[thick] > ANISOTROPY * coarsest and size[thick] * ANISOTROPY < min(size[others]):
        lowered = np.percentile(every[:, thick], 10)
        target[thick] = max(lowered, coarsest) + (1e-5 if lowered < coarsest else 0.0)
    return tuple(float(mm) for mm in target)


def resampled_median(
    spacings: Sequence[Sequence[float]], shapes: Sequence[Sequence[int]], target: Sequence[float]
) -> tuple[float, ...]:
    """The median over the cases of the sizes that they have at the target spacing."""
    sizes = [
        [round(mm / new * n) for mm, new, n in zip(spacing, target, shape, strict=True)]
        for spacing, shape in zip(spacings, shapes, strict=True)
    ]
    return tuple(float(n) for n in np.median(sizes, 0))


def axis_order(target: Sequence[float]) -> Axes:
    """The axes in nnU-Net's order: the one of the largest spacing first."""
    first = int(np.argmax(target))
    return (first, *(axis for axis in range(len(target)) if axis != first))


def configure(task: Task, *, patch_size: Sequence[int] | None = None) -> Configuration:
    """The largest patch that fits, the stages for it, and the batch.

    Args:
        patch_size: a patch that was decided, in the same order of axes; only batch and stages are drawn.
    """
    if patch_size is None:
        patch, strides, kernels = _search(task)
    else:
        strides, kernels = topology(tuple(patch_size), task.spacing)
        patch = tuple(int(n) for n in patch_size)
    estimate = _estimate(task, patch, strides)
    batch = round(task.reference / estimate * REFERENCE_BATCH[task.dims])
    voxels = math.prod(task.median_shape) * task.cases
    most = round(voxels * task.budget.largest_share / math.prod(patch))
    return Configuration(patch_size=patch, batch_size=max(min(batch, most), 2), strides=strides, kernels=kernels)


def has_low_resolution(task: Task, patch: Sequence[int]) -> bool:
    """Whether nnU-Net would train a network of coarser scans too: then it takes the Dice of batches for this one."""
    spacing = np.asarray(task.spacing)
    shape = np.asarray(task.median_shape)
    coarse = spacing.copy()
    voxels, in_patch = float(np.prod(shape)), math.prod(patch)
    found = False
    while in_patch / voxels < LOW_RESOLUTION_BELOW:
        fine = coarse.max() / coarse > 2
        coarse[fine if fine.any() else slice(None)] *= COARSER
        resized = spacing / coarse * shape
        voxels = float(np.prod(resized))
        coarser = Task(
            spacing=tuple(coarse.tolist()),
            median_shape=tuple(float(round(n)) for n in resized.tolist()),
            cases=task.cases,
            outputs=task.outputs,
            budget=task.budget,
            memory_gb=task.memory_gb,
        )
        in_patch = math.prod(_search(coarser)[0])
        found = True
    return found and float(np.prod(shape)) / voxels >= 2


def _search(task: Task) -> tuple[Axes, tuple[Axes, ...], tuple[Axes, ...]]:
    """Patch, strides and kernels: from a large cube in mm, the axis that is longest beside the median is shortened."""
    dims = task.dims
    finer = 1 / np.asarray(task.spacing)
    scale = (LARGEST_PATCH[dims] ** dims / np.prod(finer)) ** (1 / dims)
    begin = [round(float(n)) for n in finer * scale]
    patch, strides, kernels = _padded([min(n, most) for n, most in zip(begin, task.median_shape, strict=True)], task)
    # a plain 2D network must fit with a batch of two; all others with the batch of reference
    allowed = task.reference * (1 if task.budget.residual else REFERENCE_BATCH[dims] / 2)
    while _estimate(task, patch, strides) > allowed:
        ratios = [n / most for n, most in zip(patch, task.median_shape, strict=True)]
        axis = max(range(dims), key=lambda each: (ratios[each], each))
        shorter = list(patch)
        shorter[axis] -= _totals(strides)[axis]
        # the step is that of the shorter patch, which may be halved less often
        step = _totals(topology(tuple(shorter), task.spacing)[0])[axis]
        patch, strides, kernels = _padded([n - step * (each == axis) for each, n in enumerate(patch)], task)
    return patch, strides, kernels


def _padded(size: Sequence[float], task: Task) -> tuple[Axes, tuple[Axes, ...], tuple[Axes, ...]]:
    """The stages for a size, and the size rounded up to a multiple of their strides."""
    strides, kernels = topology(tuple(size), task.spacing)
    totals = _totals(strides)
    return tuple(math.ceil(n / total) * total for n, total in zip(size, totals, strict=True)), strides, kernels


def _totals(strides: Sequence[Axes]) -> Axes:
    return tuple(math.prod(each) for each in zip(*strides, strict=True))


def _estimate(task: Task, patch: Axes, strides: tuple[Axes, ...]) -> int:
    return feature_values(patch, strides, residual=task.budget.residual, outputs=task.outputs)
