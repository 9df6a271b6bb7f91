import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.utils import compute_importance_map

from resvox.errors import InferenceError
from resvox.inference.blending import importance_map


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 20), st.floats(0.03, 1.0)), min_size=2, max_size=3),
    st.sampled_from(["constant", "gaussian"]),
)
def test_weights_are_monais(axes, mode):
    roi, scales = tuple(a[0] for a in axes), tuple(a[1] for a in axes)
    theirs = compute_importance_map(roi, mode=mode, sigma_scale=scales).numpy()
    ours = importance_map(roi, mode=mode, sigma_scale=scales)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-7)


def test_a_gaussian_is_symmetric_highest_in_the_middle_and_never_zero():
    weights = importance_map((33, 8))
    np.testing.assert_array_equal(weights, weights[::-1, ::-1])
    assert weights.max() == weights[16, 3] == weights[16, 4]
    assert weights.min() == np.float32(1e-3)


def test_an_unknown_mode_is_refused():
    with pytest.raises(InferenceError, match=r"^mode='banana'; expected 'constant' or 'gaussian' or 'half-gaussian'$"):
        importance_map((4, 4), mode="banana")


@pytest.mark.parametrize("scale", [0, -0.1, float("nan"), (0.1, 0.0)])
def test_a_flat_or_negative_sigma_is_refused(scale):
    with pytest.raises(InferenceError, match=r"sigma_scale=.*expected numbers above 0"):
        importance_map((4, 4), sigma_scale=scale)
