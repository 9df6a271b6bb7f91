"""Reading the images of one case, checked: label maps and targets on the grid of their image, declared values."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resvox.datasets.dicom_labels import is_dicom_labels, read_dicom_labels
from resvox.datasets.npz import image_volume, npz_array
from resvox.datasets.segmentation import Case, Dataset
from resvox.errors import DatasetError
from resvox.volumes import InputCase, Volume, read_case, read_label_map

if TYPE_CHECKING:
    from resvox.datasets.classification import ImageCase
    from resvox.datasets.regression import RegressionCase, RegressionDataset
    from resvox.volumes import Grid

GRID_TOLERANCE = 0.1  # of a voxel: headers written by different tools round differently


def read_labelled(case: Case, dataset: Dataset) -> tuple[Volume, Volume]:
    """Read a case's scan and label map.

    Returns:
        The scan, (*spatial) or (channels, *spatial), and the label map, (*spatial) int64 as declared; the dataset's
        ignored value is kept.

    Raises:
        DatasetError: grids that differ, undeclared or fractional label values.
        VolumeError: a file that cannot be read, or holds NaN or infinite numbers.
    """
    assert case.label is not None  # Case refuses an unlabelled case that is not a test case
    image = read_case(InputCase(id=case.id, paths=case.images, channels=len(dataset.channel_names)))
    label = _read_labels(case.label, dataset, image.grid)
    _check_channels(case, dataset, image)
    if label.channels != 1 or label.array.ndim != label.spatial_dims:
        raise DatasetError(f"a label map of {label.channels} channels", expected="one value per voxel", path=case.label)
    check_grids(case.images[0], image.grid, case.label, label.grid, what="label map", how="nearest neighbour")
    # On the image's own grid: headers that differ by rounding would be refused later on.
    return image, Volume.on_grid(_whole_values(case, dataset, label.array), image.grid)


def _read_labels(path: Path, dataset: Dataset, grid: Grid) -> Volume:
    """A label map of any image format, or a DICOM SEG or RTSTRUCT drawn on the scan, by the names of the labels."""
    if is_dicom_labels(path):
        return read_dicom_labels(path, grid, values=dataset.labels).volume
    return read_label_map(path)


def read_pair(case: RegressionCase, dataset: RegressionDataset) -> tuple[Volume, Volume]:
    """A case's scan (channels, *spatial) and values (outputs, *spatial), both float32, on one grid.

    Raises:
        DatasetError: grids that differ, or another number of dimensions.
        VolumeError: a file that cannot be read, or holds other channels, NaN or infinite numbers.
    """
    image = read_case(InputCase(id=case.id, paths=case.images, channels=len(dataset.channel_names)))
    target = read_case(InputCase(id=case.id, paths=case.targets, channels=len(dataset.target_names)))
    if image.spatial_dims != dataset.spatial_dims:
        raise DatasetError(
            f"case {case.id!r}: {image.spatial_dims} dimensions",
            expected=f"{dataset.spatial_dims} dimensions",
            path=case.images[0],
        )
    check_grids(case.images[0], image.grid, case.targets[0], target.grid)
    return image, Volume.on_grid(target.array, image.grid)


def read_image(case: ImageCase, channels: int) -> Volume:
    """The image of a case, (*spatial) or (channels, *spatial).

    Raises:
        VolumeError: a file that cannot be read or has other channels.
        DatasetError: an array that is not an image.
    """
    if case.member is not None:
        name, row = case.member
        return image_volume(npz_array(case.images[0], name)[row], case.images[0])
    return read_case(InputCase(id=case.id, paths=case.images, channels=channels))


def _check_channels(case: Case, dataset: Dataset, image: Volume) -> None:
    if image.spatial_dims != dataset.spatial_dims or image.channels != len(dataset.channel_names):
        raise DatasetError(
            f"case {case.id!r}: {image.spatial_dims} dimensions, {image.channels} channels",
            expected=f"{dataset.spatial_dims} dimensions and the channels {', '.join(dataset.channel_names)}",
            path=case.images[0],
        )


def check_grids(
    image_path: Path, image: Grid, target_path: Path, target: Grid, *, what: str = "target", how: str = "linear"
) -> None:
    """Refuse what was to lie on the grid of an image and does not.

    Raises:
        DatasetError: naming both files and what differs.
    """
    if tuple(image.shape) != tuple(target.shape):
        difference = f"sizes {tuple(image.shape)} and {tuple(target.shape)}"
    else:
        apart = np.abs(_corners_mm(image) - _corners_mm(target)).max() / min(image.spacing_mm)
        if apart <= GRID_TOLERANCE:
            return
        difference = f"positions up to {apart:.2g} voxels apart"
    raise DatasetError(
        f"image and {what} {target_path} lie on different grids: {difference}",
        expected="the same size, spacing, origin and direction",
        fix=f"resample the {what} onto its image ({how})",
        path=image_path,
    )


def _corners_mm(grid: Grid) -> np.ndarray[Any, Any]:
    corners = np.array(list(itertools.product(*((0, size - 1) for size in grid.shape))), dtype=float)
    direction = np.asarray(grid.direction, dtype=float)
    world: np.ndarray[Any, Any] = np.asarray(grid.origin_mm) + (corners * np.asarray(grid.spacing_mm)) @ direction.T
    return world


def _whole_values(case: Case, dataset: Dataset, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    whole: np.ndarray[Any, Any] = np.rint(array).astype(np.int64)
    if array.dtype.kind == "f" and not np.array_equal(whole, array):
        raise DatasetError("fractional label values", expected="whole numbers", path=case.label)
    found = set(np.unique(whole).tolist())
    undeclared = sorted(found - {*dataset.labels.values(), dataset.ignore})
    if undeclared:
        raise DatasetError(
            f"label values {', '.join(map(str, undeclared))} are in the data and not declared",
            expected=f"only {', '.join(f'{value} ({name})' for name, value in dataset.labels.items())}",
            fix=f"declare them under labels in {dataset.source}" if dataset.source else "declare them",
            path=case.label,
        )
    _check_annotated(case, dataset, found)
    return whole


def _check_annotated(case: Case, dataset: Dataset, found: set[int]) -> None:
    """Refuse a label map that has a label with which its case is not labelled; values of regions say less."""
    if dataset.regions is not None:
        return
    names = dataset.labelled_with(case)
    others = [name for name, value in dataset.foreground.items() if value in found and name not in names]
    if others:
        raise DatasetError(
            f"case {case.id!r} has voxels of {', '.join(others)}, and is labelled with {', '.join(names)} alone",
            expected="only labels that its field 'labelled' names",
            fix=f"add them there, in {dataset.source}" if dataset.source else "add them there",
            path=case.label,
        )
