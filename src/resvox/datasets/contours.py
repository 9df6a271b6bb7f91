"""Outlines of a 2D mask along the edges of its pixels: closed rings, holes joined to the ring around them.

The rings enclose exactly the pixels of the mask, so a structure neither shrinks nor grows. Holes are joined by a
zero-width channel ("keyhole", DICOM PS3.3 C.8.8.6.3), for one contour has one ring.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Point = tuple[int, int]  # a pixel corner (row, column): corner (r, c) is the upper left one of pixel (r, c)
# Clockwise around a pixel, with rows growing downwards: the mask lies on the right of every edge.
TURNS = {(0, 1): ((1, 0), (0, 1), (-1, 0)), (1, 0): ((0, -1), (1, 0), (0, 1)),
         (0, -1): ((-1, 0), (0, -1), (1, 0)), (-1, 0): ((0, 1), (-1, 0), (0, -1))}  # fmt: skip


def rings_of(mask: Array) -> list[Array]:
    """Closed rings around a mask, (rows, columns) bool.

    Pixels that touch at a corner only are separate pieces.

    Returns:
        One array (points, 2) of pixel corners (row, column) per piece, without repetition of the first point. In pixel
        coordinates, where a pixel's centre has whole numbers, a corner lies at (row - 0.5, column - 0.5).
    """
    outer: list[list[Point]] = []
    holes: list[list[Point]] = []
    for ring in _walk(_edges(np.asarray(mask, dtype=bool))):
        (outer if _signed_area(ring) > 0 else holes).append(ring)
    # From left to right: what a hole meets to its left is an outer ring or a hole that has been joined already.
    for hole in sorted(holes, key=lambda ring: min(point[1] for point in ring)):
        _join(outer, hole)
    return [_corners(ring) for ring in outer]


def _edges(mask: Array) -> dict[Point, list[Point]]:
    """Directed unit edges between pixel corners: start -> directions. The mask lies on the right."""
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    edges: dict[Point, list[Point]] = defaultdict(list)
    # Of each pixel of the mask the sides without a neighbour, walked clockwise.
    sides = (
        (inside & ~padded[:-2, 1:-1], (0, 0), (0, 1)),  # top, to the right
        (inside & ~padded[1:-1, 2:], (0, 1), (1, 0)),  # right side, down
        (inside & ~padded[2:, 1:-1], (1, 1), (0, -1)),  # bottom, to the left
        (inside & ~padded[1:-1, :-2], (1, 0), (-1, 0)),  # left side, up
    )
    for free, (row, column), direction in sides:
        for r, c in np.argwhere(free).tolist():
            edges[(r + row, c + column)].append(direction)
    return edges


def _walk(edges: dict[Point, list[Point]]) -> list[list[Point]]:
    """Join edges to rings. Where two pieces touch at a corner, the walk turns right and stays with its piece."""
    rings = []
    while edges:
        start = next(iter(edges))
        point, direction = start, edges[start][0]
        ring: list[Point] = []
        while True:
            ring.append(point)
            edges[point].remove(direction)
            if not edges[point]:
                del edges[point]
            point = (point[0] + direction[0], point[1] + direction[1])
            if point == start and start not in edges:
                break
            following = edges.get(point, [])
            turn = next((each for each in TURNS[direction] if each in following), None)
            if turn is None:
                break
            direction = turn
        rings.append(ring)
    return rings


def _signed_area(ring: list[Point]) -> float:
    """Positive for a ring walked clockwise (rows grow downwards), which encloses the mask."""
    points = np.asarray(ring, dtype=np.int64)
    following = np.roll(points, -1, axis=0)
    return float((points[:, 1] * following[:, 0] - following[:, 1] * points[:, 0]).sum()) / 2


def _join(outer: list[list[Point]], hole: list[Point]) -> None:
    """Splice a hole into the ring that its leftmost corner meets first when going left along its row."""
    row, column = min(hole, key=lambda point: (point[1], point[0]))
    best: tuple[int, int, int] | None = None  # column, ring, position
    for number, ring in enumerate(outer):
        for position, point in enumerate(ring):
            if point[0] == row and point[1] < column and (best is None or point[1] > best[0]):
                best = (point[1], number, position)
    assert best is not None  # a hole lies inside of a ring, which crosses its row on the left
    _, number, position = best
    start = hole.index((row, column))
    ring = outer[number]
    outer[number] = [*ring[: position + 1], *hole[start:], *hole[: start + 1], *ring[position:]]


def _corners(ring: list[Point]) -> Array:
    """The points where a ring turns; those on a straight line add nothing."""
    points = np.asarray(ring, dtype=np.int64)
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    straight = (np.sign(before) == np.sign(after)).all(axis=1)
    corners: Array = points[~straight]
    return corners


def fill(rings: list[Array], shape: tuple[int, int]) -> Array:
    """The pixels whose centres lie inside of an odd number of rings: (rows, columns) bool.

    Args:
        rings: (points, 2) of (row, column) in pixel coordinates (a pixel's centre has whole numbers), any real numbers.
    """
    crossings: list[tuple[Array, Array]] = []
    for ring in rings:
        first = np.asarray(ring, dtype=np.float64)
        second = np.roll(first, -1, axis=0)
        for (r0, c0), (r1, c1) in zip(first.tolist(), second.tolist(), strict=True):
            if r0 == r1:
                continue
            low, high = min(r0, r1), max(r0, r1)
            # Half-open, so that a corner on a row's centre line counts once.
            rows = np.arange(max(int(np.ceil(low)), 0), min(int(np.ceil(high)), shape[0]))
            crossings.append((rows, c0 + (rows - r0) * (c1 - c0) / (r1 - r0)))
    parity = np.zeros((shape[0], shape[1] + 1), np.int32)
    for rows, columns in crossings:
        # A pixel is inside if the number of crossings on its left is odd.
        np.add.at(parity, (rows, np.clip(np.ceil(columns), 0, shape[1]).astype(np.int64)), 1)
    inside: Array = np.cumsum(parity[:, :-1], axis=1) % 2 == 1
    return inside
