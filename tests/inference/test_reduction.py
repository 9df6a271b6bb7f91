import tracemalloc

import numpy as np
import pytest

from resvox.errors import InferenceError
from resvox.inference import labels_from_logits, probabilities_from_logits


def test_the_largest_logit_wins_and_the_lower_index_on_a_tie():
    logits = np.array([[0.0, 5.0, 1.0], [1.0, 5.0, 1.0], [0.5, -1.0, 3.0]], np.float32)[:, None]
    labels = labels_from_logits(logits)
    assert labels.dtype == np.uint8
    assert labels.tolist() == [[1, 0, 2]]


def test_one_channel_is_foreground_where_its_sigmoid_is_above_a_half():
    logits = np.array([[[-3.0, 0.0, 0.5, 90.0]]], np.float32)
    assert labels_from_logits(logits).tolist() == [[0, 0, 1, 1]]
    np.testing.assert_array_equal(probabilities_from_logits(logits)[0] > 0.5, labels_from_logits(logits) == 1)


@pytest.mark.parametrize(("classes", "kind"), [(2, np.uint8), (256, np.uint8), (257, np.uint16)])
def test_the_type_holds_every_label(classes, kind):
    logits = np.zeros((classes, 2, 3), np.float32)
    logits[-1, 1, 1] = 1
    labels = labels_from_logits(logits)
    assert labels.dtype == kind
    assert labels[1, 1] == classes - 1


def test_probabilities_add_up_and_do_not_overflow():
    logits = np.random.default_rng(0).normal(scale=300, size=(4, 3, 2, 5)).astype(np.float32)
    chances = probabilities_from_logits(logits)
    assert chances.dtype == np.float32
    np.testing.assert_allclose(chances.sum(axis=0), 1, rtol=1e-5)
    one = probabilities_from_logits(np.array([[[-200.0, 0.0, 200.0]]], np.float32))
    np.testing.assert_allclose(one, [[[0.0, 0.5, 1.0]]], atol=1e-6)


def test_logits_without_a_class_axis_are_refused():
    with pytest.raises(InferenceError, match=r"logits of shape \(7,\); expected \(classes, \*spatial\)"):
        labels_from_logits(np.zeros(7))


def test_probabilities_need_one_array_beside_the_logits_and_the_maximum():
    logits = np.random.default_rng(0).normal(size=(6, 40, 64, 64)).astype(np.float32)
    tracemalloc.start()
    probabilities = probabilities_from_logits(logits)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= probabilities.nbytes + 2 * logits[0].nbytes
