import numpy as np
import pytest

from resvox.volumes import Volume


@pytest.fixture
def label_map():
    """A label map from numbers; spacing 1 mm unless said otherwise."""

    def build(array, spacing_mm=None, **geometry):
        array = np.asarray(array)
        array = array.astype(np.uint8) if array.dtype == bool else array
        return Volume(array, spacing_mm=tuple(spacing_mm or (1.0,) * array.ndim), **geometry)

    return build


@pytest.fixture
def boxes():
    """Two boxes of label 1 in a (8, 9, 10) volume, the prediction one voxel off along the last axis."""
    reference, prediction = np.zeros((2, 8, 9, 10), np.uint8)
    reference[2:6, 2:6, 2:6] = 1
    prediction[2:6, 2:6, 3:7] = 1
    return prediction, reference
