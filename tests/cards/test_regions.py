"""Regions: names, the order of writing, and the labels that are written."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resvox.errors import ResvoxError
from resvox.regions import Regions

BRATS = Regions(values={"whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}, class_order=(1, 2, 3))


def regions_of(sets, order):
    return Regions(values={f"r{place}": tuple(sorted(each)) for place, each in enumerate(sets)}, class_order=order)


SOME = st.lists(st.sets(st.integers(1, 6), min_size=1), min_size=1, max_size=5).flatmap(
    lambda sets: st.builds(
        regions_of, st.just(sets), st.lists(st.integers(1, 9), min_size=len(sets), max_size=len(sets))
    )
)


def test_nested_regions_give_back_the_label_map():
    assert BRATS.names == ("whole", "core", "enhancing")
    assert BRATS.labels() == {"background": 0, "rest of whole": 1, "rest of core": 2, "enhancing": 3}
    assert [BRATS.written_as(value) for value in range(5)] == [0, 1, 2, 3, 0]
    assert BRATS.ambiguous == ()


def test_an_order_that_hides_a_region_is_seen():
    turned = Regions(values={"core": (2, 3), "whole": (1, 2, 3)}, class_order=(2, 1))
    assert turned.ambiguous == (2, 3)
    joined = Regions(values={"kidneys": (1, 2), "cyst": (3,)}, class_order=(1, 3))
    assert joined.ambiguous == ()  # the sides are lost, and no region needs them


@given(regions=SOME)
def test_what_is_not_ambiguous_keeps_its_regions(regions):
    for value in regions.label_values:
        before = {name for name in regions.names if value in regions.values[name]}
        after = {name for name in regions.names if regions.written_as(value) in regions.values[name]}
        assert (before != after) == (value in regions.ambiguous)


@given(regions=SOME)
def test_labels_name_every_value_that_can_be_written(regions):
    labels = regions.labels()
    assert labels["background"] == 0
    assert sorted(labels.values()) == [0, *sorted(set(regions.class_order))]
    written = {regions.written_as(value) for value in regions.label_values}
    assert written <= set(labels.values())


@given(regions=SOME)
def test_written_as_follows_the_order_by_brute_force(regions):
    for value in range(8):
        voxel = 0
        for name, own in itertools.zip_longest(regions.names, regions.class_order):
            if value in regions.values[name]:
                voxel = own
        assert regions.written_as(value) == voxel


@pytest.mark.parametrize(
    ("values", "order", "words"),
    [
        ({}, (), "no regions"),
        ({"a": ()}, (1,), "'a' of the values"),
        ({"a": (0, 1)}, (1,), "'a' of the values"),
        ({"a": (1, 1)}, (1,), "'a' of the values"),
        ({"a": (1,), "b": (2,)}, (1,), "for 2 regions"),
        ({"a": (1,)}, (0,), "for 1 regions"),
        ({"a": (1,)}, (True,), "for 1 regions"),
        ({"background": (1,)}, (1,), "'background'"),
    ],
)
def test_regions_that_cannot_be_are_refused(values, order, words):
    with pytest.raises(ResvoxError, match=words):
        Regions(values=values, class_order=order)
