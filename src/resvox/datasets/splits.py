"""The parts of a dataset, and how cases are drawn for validation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

SPLITS = ("train", "validation", "test")


def draw_ids(ids: Sequence[str], fraction: float, seed: int) -> list[str]:
    """A ``fraction`` of the ids, at least one where there are any.

    By a hash per id, not by shuffling the list: adding a case later moves as few others as possible.
    """
    ranked = sorted(ids, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).hexdigest())
    return ranked[: max(1, round(fraction * len(ranked)))]
