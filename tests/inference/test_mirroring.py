import itertools

import numpy as np
import pytest

from resvox.errors import InferenceError
from resvox.inference import sliding_window_inference
from resvox.inference.mirroring import mirrored


def ramp_predictor(windows):
    """Answers depend on the place in the window, so mirroring changes them."""
    ramp = np.arange(windows[0, 0].size, dtype=np.float32).reshape(windows.shape[2:])
    return windows[:, :1] * ramp


@pytest.mark.parametrize("axes", [(0,), (1,), (2, 0), (0, 1, 2)])
def test_the_mean_over_every_subset_of_flips(axes):
    windows = np.random.default_rng(0).normal(size=(2, 1, 3, 4, 5)).astype(np.float32)
    answers = []
    for picks in itertools.product([False, True], repeat=len(axes)):
        flips = [axis + 2 for axis, picked in zip(axes, picks, strict=True) if picked]
        answers.append(np.flip(ramp_predictor(np.flip(windows, flips)), flips))
    assert len(answers) == 2 ** len(axes)
    np.testing.assert_allclose(
        mirrored(ramp_predictor, axes, 3)(windows), np.mean(answers, axis=0), rtol=1e-6, atol=1e-5
    )


def test_a_pointwise_network_answers_as_if_not_mirrored_and_sees_contiguous_windows():
    seen = []

    def predictor(windows):
        seen.append(windows.flags["C_CONTIGUOUS"])
        return 2 * windows

    volume = np.random.default_rng(1).normal(size=(1, 9, 7)).astype(np.float32)
    logits = sliding_window_inference(volume, predictor, roi_size=4, mirror_axes=(0, 1), sw_batch_size=3)
    np.testing.assert_allclose(logits, 2 * volume, rtol=1e-5)
    assert len(seen) % 4 == 0
    assert all(seen)


def test_the_predictors_own_array_is_left_alone():
    kept = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    mean = mirrored(lambda windows: kept, (0,), 2)(np.zeros((1, 1, 2, 2), np.float32))
    np.testing.assert_array_equal(mean[0, 0], [[1, 2], [1, 2]])
    np.testing.assert_array_equal(kept.ravel(), [0, 1, 2, 3])


@pytest.mark.parametrize("axes", [(2,), (-1,), (0, 0)])
def test_axes_that_are_not_there_are_refused(axes):
    with pytest.raises(InferenceError, match=r"mirror_axes=.*each once, out of \(0, 1\).*count spatial axes"):
        mirrored(ramp_predictor, axes, 2)
