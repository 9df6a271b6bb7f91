"""The smallest size at which an exported network with open sizes computes what the original does, by testing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from resvox.inference.engines.table import export_formats, resolve

Run = Callable[[np.ndarray], np.ndarray]

# voxels along an axis; one more than a power of two, where the deepest map has its second voxel
SIDES = (1, 2, 3, 5, 9, 17, 33, 65, 129)
WIDE = 40  # voxels of the other axes, no multiple of 32


def smallest_side(
    network: torch.nn.Module, path: Path, kind: str, *, channels: int, dims: int, largest_difference: float
) -> int | None:
    """The smallest tested number of voxels per axis from which the file works; None if it works at no tested size.

    Args:
        network: the original, in eval mode on the processor.
        path: of the exported network.
        kind: "torchscript", "torch-export", "onnx" or "openvino".
        channels: of the input.
        dims: 2 or 3.
        largest_difference: of an answer, as a share of the largest, that is still the same.
    """
    run = resolve(export_formats()[kind].runner)(path, kind)
    for side in SIDES:
        if all(_agrees(network, run, (1, channels, *size), largest_difference) for size in _sizes(side, dims)):
            return side
    return None


def _sizes(side: int, dims: int) -> Iterator[tuple[int, ...]]:
    """Every axis that small, and one alone, and a little more."""
    wide = max(WIDE, side + 7)
    yield (side,) * dims
    for axis in range(dims):
        yield tuple(side if each == axis else wide for each in range(dims))
    yield tuple(side + 1 + each for each in range(dims))


def _agrees(network: torch.nn.Module, run: Run, shape: tuple[int, ...], largest: float) -> bool:
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    with torch.no_grad():
        wanted = network(torch.from_numpy(image)).numpy()
    try:
        found = run(image)
    except Exception:  # every runtime has errors of its own; all of them mean that it does not take this size
        return False
    scale = max(float(np.abs(wanted).max()), 1e-6)
    return found.shape == wanted.shape and float(np.abs(found - wanted).max()) <= largest * scale
