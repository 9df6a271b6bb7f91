"""Random lattices for property tests: any spacing, axis order, flip, and oblique direction."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from resvox.volumes import Grid


def _round(value: float) -> float:
    return round(value, 3)


def _rotation(angles: tuple[float, float, float]) -> np.ndarray:
    turned = np.eye(3)
    for axis, angle in enumerate(angles):
        c, s = np.cos(angle), np.sin(angle)
        i, j = [k for k in range(3) if k != axis]
        step = np.eye(3)
        step[i, i], step[i, j], step[j, i], step[j, j] = c, -s, s, c
        turned = turned @ step
    return turned


@st.composite
def directions(draw: st.DrawFn, dims: int = 3, oblique: bool = True) -> np.ndarray:
    order = draw(st.permutations(range(dims)))
    signs = draw(st.lists(st.sampled_from([-1.0, 1.0]), min_size=dims, max_size=dims))
    matrix = np.eye(dims)[:, order] * signs
    if oblique and draw(st.booleans()):
        angles = draw(st.tuples(*[st.floats(-0.7, 0.7)] * 3))
        turned = _rotation(angles) if dims == 3 else _rotation((0.0, 0.0, angles[2]))[:2, :2]
        matrix = turned @ matrix
    return matrix


@st.composite
def grids(
    draw: st.DrawFn,
    dims: int = 3,
    sizes: st.SearchStrategy[int] | None = None,
    spacings: st.SearchStrategy[float] | None = None,
    oblique: bool = True,
) -> Grid:
    sizes = st.integers(1, 9) if sizes is None else sizes
    spacings = st.floats(0.3, 6.0) if spacings is None else spacings
    return Grid(
        tuple(draw(sizes) for _ in range(dims)),
        spacing_mm=tuple(_round(draw(spacings)) for _ in range(dims)),
        origin_mm=tuple(_round(draw(st.floats(-300.0, 300.0))) for _ in range(dims)),
        direction=draw(directions(dims, oblique)),
    )
