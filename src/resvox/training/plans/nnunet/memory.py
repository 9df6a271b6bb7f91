"""How large the feature maps of a network are, by which nnU-Net estimates the memory that its training needs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A planner of nnU-Net: the network that it plans for, and the feature maps that fit its memory.

    Args:
        residual: a residual encoder; otherwise plain convolutions.
        voxels: values of feature maps of one patch, {spatial dims: number}, that fit ``memory_gb``.
        memory_gb: of the GPU that ``voxels`` were measured for.
        largest_share: of the voxels of the whole dataset that a batch may have.
    """

    residual: bool
    voxels: dict[int, int]
    memory_gb: float
    largest_share: float = 1.0


REFERENCE_BATCH = {2: 12, 3: 2}
PLAIN = Budget(residual=False, voxels={2: 85_000_000, 3: 560_000_000}, memory_gb=8, largest_share=0.05)
PRESETS = {
    "M": Budget(residual=True, voxels={2: 135_000_000, 3: 680_000_000}, memory_gb=8),
    "L": Budget(residual=True, voxels={2: 380_000_000, 3: 2_100_000_000}, memory_gb=24),
    "XL": Budget(residual=True, voxels={2: 560_000_000, 3: 3_600_000_000}, memory_gb=40),
}
BASE_FEATURES = 32
MAX_FEATURES = {2: 512, 3: 320}
RESIDUAL_BLOCKS = (1, 3, 4)  # of the first stages; the others have as many as LATER_BLOCKS
LATER_BLOCKS = 6
PLAIN_CONVOLUTIONS = 2


def features_of(stages: int, spatial_dims: int) -> tuple[int, ...]:
    """Channels of each stage: doubled from 32 to the maximum."""
    return tuple(min(BASE_FEATURES * 2**stage, MAX_FEATURES[spatial_dims]) for stage in range(stages))


def feature_values(patch: Sequence[int], strides: Iterable[Sequence[int]], *, residual: bool, outputs: int) -> int:
    """Values of all outputs of convolutions for one patch, without those of auxiliary outputs.

    Args:
        patch: voxels per axis, multiples of the strides.
        strides: of each stage, the first stage's all 1.
        residual: residual blocks in the encoder and one convolution per level of the decoder; otherwise two plain
            convolutions in both.
        outputs: of the network; the background counts.
    """
    size, sizes = list(patch), []
    for stride in strides:
        size = [n // step for n, step in zip(size, stride, strict=True)]
        sizes.append(math.prod(size))
    features = features_of(len(sizes), len(size))
    per_level = 1 if residual else PLAIN_CONVOLUTIONS
    total = outputs * sizes[0]
    for level in range(len(sizes) - 1):  # of the decoder: convolutions and the transposed one
        total += (per_level + 1) * features[level] * sizes[level]
    if residual:
        total += features[0] * sizes[0]  # the stem
    for stage, (width, voxels) in enumerate(zip(features, sizes, strict=True)):
        total += _in_stage(stage, residual) * width * voxels
    return total


def _in_stage(stage: int, residual: bool) -> int:
    """Convolutions of a stage of the encoder: two in a residual block, and the projection where it strides."""
    if not residual:
        return PLAIN_CONVOLUTIONS
    blocks = RESIDUAL_BLOCKS[stage] if stage < len(RESIDUAL_BLOCKS) else LATER_BLOCKS
    return 2 * blocks + (stage > 0)
