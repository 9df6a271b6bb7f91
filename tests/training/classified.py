"""Small classified images: bright discs and squares, or bright and dark balls in volumes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def shape_image(kind: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """(size, size) uint8: 0 is a horizontal bar, 1 a vertical one, 2 both."""
    image = rng.integers(0, 60, (size, size))
    at = int(rng.integers(1, size - 2))
    if kind in (0, 2):
        image[at : at + 2] += 150
    if kind in (1, 2):
        image[:, at : at + 2] += 150
    return image.clip(0, 255).astype(np.uint8)


def shape_arrays(counts: Sequence[int], *, size: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(n, size, size) images and (n, 1) labels, ``counts[k]`` of kind k, shuffled."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation([kind for kind, count in enumerate(counts) for _ in range(count)])
    return np.stack([shape_image(int(kind), size, rng) for kind in labels]), labels[:, None]


def write_npz(path: Path, *, counts: Sequence[int] = (8, 8, 8), size: int = 8, volumes: bool = False) -> Path:
    """An .npz in MedMNIST's layout, 2D or, with the same picture in every slice, 3D."""
    arrays = {}
    for seed, (part, share) in enumerate({"train": 1.0, "val": 0.5, "test": 0.5}.items()):
        images, labels = shape_arrays([max(1, int(share * n)) for n in counts], size=size, seed=seed)
        if volumes:
            images = np.repeat(images[:, None], size, axis=1)
        arrays.update({f"{part}_images": images, f"{part}_labels": labels})
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return path
