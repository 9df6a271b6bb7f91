"""A small CT series in any orientation, and a label map on its grid."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from pydicom.uid import generate_uid
from volumes.dicom_slices import make_slice

from resvox.volumes import Volume

SHAPE = (6, 20, 24)  # slices, rows, columns
SPACING = (3.0, 0.8, 1.1)
NAMES = {"background": 0, "liver": 2, "left kidney": 5, "spleen": 9}  # the spleen is absent
# Directions of rows and columns of an image along the axes of the patient: every plane, turned and mirrored.
ORIENTATIONS = [
    tuple(np.eye(3)[a] * s) + tuple(np.eye(3)[b] * t)
    for a, b in itertools.permutations(range(3), 2)
    for s, t in itertools.product((1.0, -1.0), repeat=2)
]


def oblique() -> tuple[float, ...]:
    """A plane that lies along no axis of the patient."""
    first = np.array([0.9, 0.3, -0.2])
    second = np.array([-0.1, 0.8, 0.5])
    first /= np.linalg.norm(first)
    second -= first * (first @ second)
    second /= np.linalg.norm(second)
    return (*first, *second)


def write_series(
    folder: Path, orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0), *, reverse: bool = False, shape=SHAPE, **attributes
) -> Path:
    """Slices in a folder under names that say nothing of their order; ``reverse`` numbers them from the other end."""
    folder.mkdir(parents=True, exist_ok=True)
    along, down = np.asarray(orientation).reshape(2, 3)
    normal = np.cross(along, down) * (-1 if reverse else 1)
    rng = np.random.default_rng(0)
    series, frame = generate_uid(), generate_uid()
    for number, name in enumerate(rng.permutation(shape[0])):
        dataset = make_slice(
            rng.integers(-1000, 1000, shape[1:]).astype(np.int16),
            position=np.array([5.0, -7.0, 11.0]) + normal * SPACING[0] * number,
            orientation=orientation, spacing=SPACING[1:], series_uid=series, number=7,
        )  # fmt: skip
        dataset.FrameOfReferenceUID, dataset.InstanceNumber = frame, number + 1
        for key, value in attributes.items():
            setattr(dataset, key, value)
        dataset.save_as(folder / f"{name}.dcm")
    return folder


def labels_on(grid) -> Volume:
    """A box with a hole, a box of one voxel's thickness beside it, on a grid of slices."""
    array = np.zeros(grid.shape, np.uint8)
    array[1:5, 4:15, 3:14] = 2
    array[2:4, 7:11, 6:10] = 0
    array[1:3, 16, 2:20] = 5
    return Volume.on_grid(array, grid)
