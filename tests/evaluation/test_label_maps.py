import numpy as np
import pytest

from resvox.errors import EvaluationError
from resvox.evaluation import unknown_values
from resvox.evaluation.label_maps import label_array, scored_labels


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.array([[0, 255]], np.int64), np.uint8),
        (np.array([[0.0, 300.0]], np.float32), np.uint16),
        (np.array([[-1.0, 3.0]]), np.int16),
        (np.array([[True, False]]), np.uint8),
    ],
)
def test_whole_numbers_become_the_smallest_type(label_map, values, kind):
    array = label_array(label_map(values), path="x.nii")
    assert array.dtype == kind
    np.testing.assert_array_equal(array, values)


@pytest.mark.parametrize("bad", [0.5, np.nan, np.inf, 1e30])
def test_other_numbers_are_refused_with_the_file(label_map, bad):
    with pytest.raises(EvaluationError) as caught:
        label_array(label_map(np.array([[0.0, bad, 2.0]])), path="case7.nii.gz")
    assert str(caught.value).startswith("case7.nii.gz: values between ")
    assert "that are not whole numbers; expected a label map" in str(caught.value)


def test_channels_are_refused():
    from resvox.volumes import Volume

    with pytest.raises(EvaluationError, match=r"^p.nii: an image of shape \(3, 4, 5\) with 2 spatial axes; exp"):
        label_array(Volume(np.zeros((3, 4, 5)), spacing_mm=(1.0, 1.0)), path="p.nii")


def test_unknown_values_are_counted_over_the_whole_map():
    array = np.array([[[0, 1, 9], [7, 7, 1]], [[9, 0, 0], [9, 2, 2]]], np.uint8)
    assert unknown_values(array, {"a": 1, "b": 2}) == {7: 2, 9: 3}
    assert unknown_values(array.astype(np.int32) - 2, {"a": 1}) == {-2: 3, -1: 2, 5: 2, 7: 3}
    assert unknown_values(array, {"a": 1, "b": 2, "c": 7, "d": 9}) == {}


def test_the_background_gets_no_score():
    assert scored_labels({"background": 0, "liver": np.int64(2), "spleen": 1}) == {"liver": 2, "spleen": 1}


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"background": 0}, "expected at least one label besides the background"),
        ({}, "expected at least one label besides the background"),
        ({"a": 1, "b": 1}, "one value under two names"),
        ({"a": [1, 2]}, r"label 'a' with value \[1, 2\]; expected a whole number from 0 to 65535"),
        ({"a": -1}, "label 'a' with value -1"),
        ({"a": 1.0}, "label 'a' with value 1.0"),
        ({"a": True}, "label 'a' with value True"),
        ({"a": 65536}, "from 0 to 65535"),
    ],
)
def test_labels_that_cannot_be_are_refused(labels, words):
    with pytest.raises(EvaluationError, match=words):
        scored_labels(labels)
