"""The fewest windows that cover a scan, out of those that overlap."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

Start = tuple[int, ...]


def covering_windows(starts: Sequence[Start], roi: Sequence[int]) -> set[Start]:
    """Windows that cover every voxel that ``starts`` do, as few along each axis as can be.

    Args:
        starts: of all windows: every combination of the starts along each axis.
        roi: the window in voxels.
    """
    axes = [covering(sorted(set(along)), side) for along, side in zip(zip(*starts, strict=True), roi, strict=True)]
    return set(itertools.product(*axes)) & set(starts)


def covering(starts: Sequence[int], side: int) -> list[int]:
    """The fewest of ascending starts, the first and last one among them, whose windows leave no gap.

    Of several such choices that with the largest overlap of the two windows that overlap least.

    Raises:
        ValueError: windows that leave a gap even when all are taken.
    """
    # for each start: how many windows lead to it, the least overlap on the way negated, and the one before it
    best: list[tuple[int, int, int]] = [(1, -side, -1)]
    for place in range(1, len(starts)):
        ways = [
            (best[before][0] + 1, max(best[before][1], starts[place] - starts[before] - side), before)
            for before in range(place)
            if starts[place] - starts[before] <= side
        ]
        best.append(min(ways))
    chosen = [len(starts) - 1]
    while best[chosen[-1]][2] >= 0:
        chosen.append(best[chosen[-1]][2])
    return [starts[place] for place in reversed(chosen)]
