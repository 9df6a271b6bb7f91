"""Values on the scan's grid from slices: those that restoring whole volumes gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inference.test_restoring import prepared_scan, scans, smooth_predictor

from resvox.inference import ValueRestorer, sliding_window_inference, stream_sliding_window


@settings(max_examples=40, deadline=None)
@given(scan=scans(), values=st.integers(1, 3), memory_gb=st.sampled_from([None, 1e-9]), threads=st.sampled_from([1, 2]))
def test_streamed_values_are_those_of_the_whole_volume(scan, values, memory_gb, threads):
    _, prepared = prepared_scan(scan)
    dims = prepared.grid.spatial_dims
    options = {"roi_size": (6,) * dims, "overlap": 0.5}
    std, mean = [0.5, 20.0, 3.0][:values], [100.0, -4.0, 0.0][:values]
    column = (-1, *[1] * dims)
    whole = sliding_window_inference(prepared.array, smooth_predictor(values), **options)
    whole = whole * np.float32(std).reshape(column) + np.float32(mean).reshape(column)
    expected = prepared.restore_scores(whole)
    slices = stream_sliding_window(prepared.array, smooth_predictor(values), memory_gb=memory_gb, **options)
    made = ValueRestorer(prepared, std=std, mean=mean, threads=threads).restore(slices)
    assert made.grid == expected.grid
    assert made.array.dtype == np.float32
    np.testing.assert_allclose(made.array, expected.array, rtol=1e-5, atol=1e-4)


def test_a_wrong_unit_would_be_seen():
    _, prepared = prepared_scan({
        "shape": (8, 8, 8), "order": (0, 1, 2), "flips": (1, 1, 1), "orientation": "SPL", "spacing_mm": (1.0,) * 3,
        "grid_mm": None, "minimum_size": None, "crop": "none",
    })  # fmt: skip
    slices = list(stream_sliding_window(prepared.array, smooth_predictor(1), roi_size=8, overlap=0.0))
    plain, scaled = (ValueRestorer(prepared, std=[s], mean=[m]).restore(slices).array for s, m in ((1, 0), (2, 5)))
    assert scaled == pytest.approx(2 * plain + 5, abs=1e-5)
