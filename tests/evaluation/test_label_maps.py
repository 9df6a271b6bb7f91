import numpy as np
import pytest

from resvox.errors import EvaluationError
from resvox.evaluation import unknown_values
from resvox.evaluation.label_maps import compact, label_array
from resvox.evaluation.label_sets import LabelSet


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
    found = LabelSet.of({"background": 0, "liver": np.int64(2), "spleen": 1})
    assert found.to_dict() == {"liver": 2, "spleen": 1}
    assert (found.ignored, found.known) == ((), {0, 1, 2})


def test_regions_and_ignored_labels_are_understood():
    found = LabelSet.of({"background": 0, "whole": [1, 2, 2], "core": (2,), "Ignore": 3}, ignore=-1)
    assert found.to_dict() == {"whole": (1, 2), "core": 2}
    assert (found.ignored, found.known) == ((-1, 3), {0, -1, 1, 2, 3})


def test_large_values_are_numbered():
    array = np.array([[70000, -1, 0], [2**40, 5, 70000]])
    numbered, numbers = compact(array, [70000, 2**40])
    assert numbers == {70000: 1, 2**40: 2}
    np.testing.assert_array_equal(numbered, [[1, 0, 0], [2, 0, 1]])
    same, numbers = compact(array.clip(0, 99).astype(np.uint8), [5, 7])
    assert numbers == {5: 5, 7: 7}
    assert same.dtype == np.uint8


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"background": 0}, "expected at least one label besides the background"),
        ({}, "expected at least one label besides the background"),
        ({"a": 1, "b": 1}, "one value under two names"),
        ({"a": [0, 2]}, r"region 'a' with values \[0, 2\]; expected the values of its labels, without the background"),
        ({"a": []}, "region 'a' with values"),
        ({"a": [1, 2.5]}, "label 'a' with value 2.5"),
        ({"a": [1, 2], "b": (2, 1)}, "one value under two names"),
        ({"a": "1"}, "label 'a' with value '1'"),
        ({"ignore": 3}, "at least one label besides the background"),
        ({"a": -1}, "label 'a' with value -1"),
        ({"a": 1.0}, "label 'a' with value 1.0"),
        ({"a": True}, "label 'a' with value True"),
        ({"a": 2**53 + 1}, "expected a whole number of 0 or more"),
    ],
)
def test_labels_that_cannot_be_are_refused(labels, words):
    with pytest.raises(EvaluationError, match=words):
        LabelSet.of(labels)
