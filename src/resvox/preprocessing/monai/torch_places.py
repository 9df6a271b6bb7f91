"""Positions for resampling, from PyTorch's own operators.

A position half-way between two voxels has a nearest one by the rounding of its last bit, as the processor rounds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from resvox.preprocessing.steps import Array

if TYPE_CHECKING:
    import torch


def places_between(moved: Array, old: Sequence[int], new: Sequence[int], *, nearest: bool) -> list[Array]:
    """Where the voxels of a result lie along each axis of its source, in voxels, at most at its edges.

    Args:
        moved: the matrix from indices of the result to indices of the source, homogeneous.
        old: the shape of the source.
        new: the shape of the result.
        nearest: whole numbers, those of the voxels that ``grid_sample`` takes.
    """
    import torch
    from torch.nn import functional

    theta = _between_faces(torch.from_numpy(np.ascontiguousarray(moved)), old, new)
    made = []
    for axis, (source, count) in enumerate(zip(old, new, strict=True)):
        # a line along one axis, through the middle of the others: all lines are alike, as the grids are aligned
        grid = functional.affine_grid(theta, [1, 1, *_line(count, axis, len(new))], align_corners=False)
        if nearest:
            index = torch.arange(source, dtype=torch.float64).reshape(1, 1, *_line(source, axis, len(old)))
            taken = functional.grid_sample(index, grid, mode="nearest", padding_mode="border", align_corners=False)
            made.append(taken.numpy().ravel())
        else:
            along = grid[..., len(new) - 1 - axis].numpy().ravel()  # of x, y, z: the last axis is the first number
            made.append(np.clip(((along + 1.0) * source - 1.0) / 2.0, 0.0, source - 1.0))
    return made


def _between_faces(moved: torch.Tensor, old: Sequence[int], new: Sequence[int]) -> torch.Tensor:
    """The same matrix for positions from -1 to 1, from face to face of an image; (1, dims, dims + 1), x first."""
    import torch

    back = torch.from_numpy(np.linalg.inv(_faces(new).numpy()))
    theta = (_faces(old)[None] @ moved[None] @ back)[0]
    dims = len(old)
    turned = list(reversed(range(dims)))
    return theta[turned][:, [*turned, dims]][None]


def _faces(shape: Sequence[int]) -> torch.Tensor:
    """The matrix from voxels to positions from -1 to 1."""
    import torch

    size = torch.tensor(list(shape), dtype=torch.float64)
    matrix = torch.diag(torch.cat((2.0 / size, torch.ones(1, dtype=torch.float64))))
    matrix[:-1, -1] = 1.0 / size - 1.0
    return matrix


def _line(count: int, axis: int, dims: int) -> list[int]:
    return [count if each == axis else 1 for each in range(dims)]
