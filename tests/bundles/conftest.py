"""Small scans with the geometry of real ones."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bundles.making import KINDS
from scipy.ndimage import gaussian_filter

AFFINES = {
    "prostate": np.diag([-0.6, -0.6, 1.0, 1.0]),
    "other": np.array([[0, -0.9, 0, 40], [0, 0, -2.5, 30], [-0.8, 0, 0, -70], [0, 0, 0, 1.0]]),
}


def smooth(seed: int, shape=(40, 36, 20)) -> np.ndarray:
    """Structures of a few voxels, from about -500 to 500."""
    array = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2)
    return (array / array.std() * 150).astype(np.float32)


@pytest.fixture
def scan_of(tmp_path: Path):
    """Write the files of one case for a kind of bundle, in a folder of their own; one per channel."""

    def write(kind: str) -> list[Path]:
        folder = tmp_path / "scans"
        folder.mkdir(exist_ok=True)
        channels = KINDS[kind]["network_def"]["in_channels"]
        files = []
        for place in range(channels):
            array = smooth(place)
            if kind == "tumour":
                array[:8] = 0
            if kind == "prostate":
                array = np.abs(array)
                array[:6] = array[:, 30:] = 0
            name = f"case_{place:04d}.nii.gz" if channels > 1 else "case.nii.gz"
            nib.save(nib.Nifti1Image(array, AFFINES.get(kind, AFFINES["other"])), folder / name)
            files.append(folder / name)
        return files

    return write
