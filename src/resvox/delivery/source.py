"""The DICOM series that a label map belongs to: its datasets, its planes, and the label map on its grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resvox.errors import VolumeError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from resvox.volumes import Grid, Volume
    from resvox.volumes.dicom.header import Plane

# Type 2 attributes of patient and study: must be there, may be empty. Anonymised files often lack them.
MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator",
)  # fmt: skip
NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "FrameOfReferenceUID")


@dataclass(frozen=True)
class DicomSource:
    """One series, in the order of its slices.

    Args:
        datasets: its files without their pixels, in the order of the slices (one for a multi-frame file).
        files: their paths.
        planes: its image planes in the order of the slices.
        grid: where the volume that `read_volume` makes of it lies: (slices, rows, columns).
    """

    datasets: tuple[Dataset, ...]
    files: tuple[Path, ...]
    planes: tuple[Plane, ...]
    grid: Grid

    @property
    def uid(self) -> str:
        """The SeriesInstanceUID of the series."""
        return str(self.datasets[0].SeriesInstanceUID)

    @property
    def frame_of_reference(self) -> str:
        """The FrameOfReferenceUID of the series."""
        return str(self.datasets[0].FrameOfReferenceUID)

    def dataset_of(self, plane: Plane) -> Dataset:
        """The file that a plane is in."""
        return self.datasets[self.files.index(plane.path)]

    def place(self, label_map: Volume) -> np.ndarray[Any, Any]:
        """A label map on the grid of the series: (slices, rows, columns), by world positions.

        The values are kept as they are where the grids agree up to the order and direction of axes, and taken from the
        nearest voxel otherwise.

        Raises:
            VolumeError: a 2D label map, or one with channels.
        """
        from resvox.volumes import resample

        if label_map.spatial_dims != 3 or label_map.channels != 1:
            raise VolumeError(
                f"a {label_map.spatial_dims}D label map with {label_map.channels} channels",
                expected="a 3D label map with one value per voxel",
            )
        alone = label_map.with_array(label_map.with_channel_axis()[0])
        if alone.grid.matches(self.grid):
            return alone.array
        return np.asarray(resample(alone, self.grid, interpolation="nearest").array)


def read_source(path: Path | Sequence[Path], *, series: str | int | None = None) -> DicomSource:
    """Read the headers of a series.

    Args:
        path: a folder with a series (in sub-folders, too), a multi-frame file, or the files of one series.
        series: UID or number, where a folder holds several series.

    Raises:
        VolumeError: what `read_volume` refuses of DICOM; a series without the attributes that results must refer to, or
            with one slice and no position.
    """
    import pydicom

    from resvox.volumes.dicom import choose_series
    from resvox.volumes.dicom.geometry import stacked
    from resvox.volumes.dicom.header import read_header

    if isinstance(path, Path):
        headers = choose_series(path, series).headers if path.is_dir() else (read_header(path),)
        where = path
    else:
        headers = tuple(read_header(each) for each in path)
        where = Path(path[0]).parent
    for header in headers:
        if header.problem is not None:
            raise header.problem
    planes = [plane for header in headers for plane in header.planes]
    if len(planes) < 2:
        raise VolumeError(
            "one image plane", expected="a series of slices with positions", fix="write NIfTI or PNG", path=where
        )
    ordered, grid = stacked(where, planes)
    files = dict.fromkeys(plane.path for plane in ordered)
    datasets = tuple(_complete(pydicom.dcmread(each, stop_before_pixels=True), each) for each in files)
    return DicomSource(datasets=datasets, files=tuple(files), planes=tuple(ordered), grid=grid)


def _complete(dataset: Dataset, path: Path) -> Dataset:
    """Refuse a file that results cannot refer to; fill in what may be empty."""
    missing = [name for name in NEEDED if not dataset.get(name)]
    if missing:
        raise VolumeError(
            f"a DICOM file without {', '.join(missing)}",
            expected="attributes that a segmentation refers to",
            fix="export the series again without removing its UIDs, or write NIfTI",
            path=path,
        )
    for name in MAY_BE_EMPTY:
        if name not in dataset:
            setattr(dataset, name, "")
    return dataset
