"""Where the real images are, and how DICOM series are made up."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset
from volumes.dicom_slices import make_slice


@pytest.fixture(scope="session")
def packaged() -> Callable[[str, str], Path]:
    """A file that an installed distribution ships, found without importing it."""

    def locate(distribution: str, ending: str) -> Path:
        for file in importlib.metadata.files(distribution) or ():
            if str(file).endswith(ending):
                return Path(str(file.locate()))
        raise FileNotFoundError(f"{distribution} holds no {ending}")

    return locate


@pytest.fixture(scope="session")
def pydicom_files() -> Path:
    return Path(os.path.dirname(pydicom.__file__), "data", "test_files")


@pytest.fixture
def dicom_slice() -> Callable[..., FileDataset]:
    return make_slice


@pytest.fixture
def dicom_series() -> Callable[..., Path]:
    """Writes (slices, rows, columns) as files whose names say nothing of their order."""

    def write(folder: Path, array: np.ndarray, heights: Sequence[float] | None = None, **tags: object) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        heights = heights if heights is not None else [2.0 * k for k in range(len(array))]
        names = np.random.default_rng(1).permutation(len(array))
        for name, plane, height in zip(names, array, heights, strict=True):
            ds = make_slice(plane, position=(10.0, 20.0, height), **tags)  # type: ignore[arg-type]
            ds.save_as(folder / f"{tags.get('series_uid', 'im')}_{name:03d}.dcm", enforce_file_format=True)
        return folder

    return write
