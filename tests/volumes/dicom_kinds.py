"""Makers of DICOM files that are not a plain series, and the line that a refusal ends in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import uid
from pydicom.dataset import Dataset, FileDataset
from volumes.dicom_slices import make_slice

from resvox.errors import VolumeError
from resvox.volumes import read_volume

RANDOM = np.random.default_rng(5)


def plane(rows: int = 5, columns: int = 7) -> np.ndarray:
    return RANDOM.integers(0, 1000, (rows, columns)).astype(np.int16)


def at(height: float, pixels: np.ndarray | None = None, **tags: Any) -> FileDataset:
    return make_slice(plane() if pixels is None else pixels, position=(1, 2, height), **tags)


def save(ds: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def refusal(path: Path, **options: Any) -> str:
    """The one line that reading ends in."""
    with pytest.raises(VolumeError) as caught:
        read_volume(path, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert "fix: " in text
    return text


def as_colour(ds: FileDataset) -> FileDataset:
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.PixelData = bytes(ds.Rows * ds.Columns * 3 + ds.Rows * ds.Columns % 2)
    return ds


def groups(position: tuple[float, ...] | None, **values: Any) -> Dataset:
    """A functional group with a position and, if given, a slope and an intercept, and other attributes of the frame."""
    group = Dataset()
    if position is not None:
        group.PlanePositionSequence = [Dataset()]
        group.PlanePositionSequence[0].ImagePositionPatient = list(position)
    if "slope" in values:
        group.PixelValueTransformationSequence = [Dataset()]
        group.PixelValueTransformationSequence[0].RescaleSlope = values.pop("slope")
        group.PixelValueTransformationSequence[0].RescaleIntercept = values.pop("intercept", 0)
    group.FrameContentSequence = [Dataset()]
    for name, value in values.items():
        setattr(group.FrameContentSequence[0], name, value)
    return group


def enhanced(frames: np.ndarray, each: list[Dataset], sop_class: str = uid.EnhancedMRImageStorage) -> FileDataset:
    ds = make_slice(frames[0], position=None)
    del ds.PixelSpacing, ds.RescaleSlope, ds.RescaleIntercept
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = sop_class
    ds.NumberOfFrames, ds.PixelData = len(frames), frames.astype("<i2").tobytes()
    shared = Dataset()
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [Dataset()], [Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence[0].PixelSpacing, shared.PixelMeasuresSequence[0].SliceThickness = [0.5, 0.75], 3
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = [shared], each
    return ds
