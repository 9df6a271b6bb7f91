"""A volume whose voxels say where they are."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.image import imread

from resvox.volumes import Volume


@pytest.fixture
def read_png():
    """A PNG's pixels, (rows, columns, 3 or 4) from 0 to 1."""
    return lambda data: imread(io.BytesIO(data), format="png")


@pytest.fixture
def body():
    """A scan with axes S, P, L and two labels: 1 high on the patient's right, 2 low on the left."""
    scan = np.random.default_rng(0).normal(0, 5, (10, 24, 30)).astype(np.float32)
    label_map = np.zeros(scan.shape, np.uint8)
    label_map[6:9, 8:16, 3:11] = 1
    label_map[1:4, 8:16, 19:27] = 2
    spacing_mm = (6.0, 2.0, 2.0)
    return Volume(scan, spacing_mm=spacing_mm), Volume(label_map, spacing_mm=spacing_mm)
