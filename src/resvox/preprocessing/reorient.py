"""Permute and flip array axes towards given directions, without interpolation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from resvox.errors import PlanError, VolumeError
from resvox.preprocessing.steps import Array, Kind
from resvox.volumes import Grid

AXIS_OF_LETTER = {"R": 0, "L": 0, "A": 1, "P": 1, "I": 2, "S": 2}


def check_orientation(codes: str) -> None:
    """Check axis codes.

    Raises:
        PlanError: not 2 or 3 letters of R/L, A/P, I/S with each pair used once at most.
    """
    letters = list(codes) if isinstance(codes, str) else []
    axes = [AXIS_OF_LETTER.get(letter) for letter in letters]
    if len(letters) not in (2, 3) or None in axes or len(set(axes)) != len(axes):
        raise PlanError(
            f"orientation={codes!r}",
            expected="where each array axis points, such as 'SPL' (D to superior, H to posterior, W to left)",
            fix="use one letter of each of R/L, A/P, I/S, or None to keep the file's axes",
        )


@dataclass(frozen=True, kw_only=True)
class Reorient:
    """Array axes permuted and flipped so that each is nearest to the direction of its letter.

    An oblique scan keeps its rotation: its axes are nearest to these directions, not exactly along them.

    Args:
        source: the grid of the input.
        codes: one letter per array axis, e.g. ``"SPL"``.
    """

    source: Grid
    codes: str

    def __post_init__(self) -> None:
        check_orientation(self.codes)
        if {AXIS_OF_LETTER[a] for a in self.codes} != {AXIS_OF_LETTER[a] for a in self.source.axis_codes}:
            raise VolumeError(
                f"a {self.source.spatial_dims}-D image with axes {self.source.axis_codes}",
                expected=f"axes that can become {self.codes}",
                fix="set orientation to None to keep the axes of the file",
            )

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The source axis that becomes each target axis."""
        here = [AXIS_OF_LETTER[letter] for letter in self.source.axis_codes]
        return tuple(here.index(AXIS_OF_LETTER[letter]) for letter in self.codes)

    @cached_property
    def flips(self) -> tuple[int, ...]:
        """Target axes that are opposite to their source axis."""
        pairs = enumerate(zip(self.codes, self.order, strict=True))
        return tuple(axis for axis, (letter, old) in pairs if letter != self.source.axis_codes[old])

    @cached_property
    def target(self) -> Grid:
        """The grid of the same voxels in the other order of axes."""
        grid, order = self.source, list(self.order)
        direction = grid.direction[:, order].copy()
        direction[:, list(self.flips)] *= -1.0
        first = [0] * len(order)  # source index of the first voxel of the target
        for axis in self.flips:
            first[order[axis]] = grid.shape[order[axis]] - 1
        return Grid(
            tuple(grid.shape[old] for old in order),
            spacing_mm=tuple(grid.spacing_mm[old] for old in order),
            origin_mm=tuple(grid.world_mm(first)),
            direction=direction,
        )

    def forward(self, array: Array, kind: Kind) -> Array:
        """A view in the new order of axes; no voxel changes."""
        turned = np.transpose(array, (0, *(1 + old for old in self.order)))
        return np.flip(turned, tuple(1 + axis for axis in self.flips))

    def inverse(self, array: Array, kind: Kind) -> Array:
        """A view in the order of the source axes: exactly the source array."""
        turned = np.flip(array, tuple(1 + axis for axis in self.flips))
        return np.transpose(turned, (0, *(1 + self.order.index(axis) for axis in range(len(self.order)))))
