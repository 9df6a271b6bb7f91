"""Regions, voxels that were not annotated, and cases with some of the labels alone."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resvox.datasets import Case, Dataset, read_dataset
from resvox.datasets.label_values import read_label_values
from resvox.datasets.labelled import read_labelled
from resvox.errors import DatasetError
from resvox.regions import Regions
from resvox.volumes import Volume, write_label_map, write_volume

BRATS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}
REGIONS = Regions(values={"whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}, class_order=(1, 2, 3))


@pytest.fixture
def folder(tmp_path):
    """Two cases with all values from 0 to 4, in nnU-Net's layout."""
    described = {"channel_names": {"0": "MR"}, "labels": BRATS, "regions_class_order": [1, 2, 3]}
    array = np.arange(5 * 4 * 4).reshape(4, 4, 5) % 5
    for case in ("a", "b"):
        write_volume(Volume(array.astype(np.float32), spacing_mm=(1.0,) * 3), tmp_path / f"imagesTr/{case}_0000.nii.gz")
        write_label_map(Volume(array.astype(np.uint8), spacing_mm=(1.0,) * 3), tmp_path / f"labelsTr/{case}.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    return tmp_path


def described_with(folder, **fields):
    path = folder / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    return folder


def test_regions_and_the_ignored_value_are_read(folder):
    dataset = read_dataset(folder)
    assert dataset.regions == REGIONS
    assert dataset.ignore == 4
    assert dataset.labels == {"background": 0, "rest of whole": 1, "rest of core": 2, "enhancing": 3}
    assert dataset.targets == ("whole", "core", "enhancing")
    assert dataset.learned == ("regions", dataset.targets)
    assert dataset.num_classes == 3
    assert not dataset.is_partly_labelled
    _, label_map = read_labelled(dataset.cases[0], dataset)
    assert set(np.unique(label_map.array)) == {0, 1, 2, 3, 4}


def test_labels_with_an_ignored_value(folder):
    labels = {"liver": 1, "spleen": 2, "cyst": 3, "Ignore": 4}
    dataset = read_dataset(described_with(folder, labels=labels, regions_class_order=None))
    assert (dataset.regions, dataset.ignore, dataset.num_classes) == (None, 4, 4)
    assert dataset.labels == {"background": 0, "liver": 1, "spleen": 2, "cyst": 3}


def test_values_that_no_region_writes_have_a_name(tmp_path):
    found = read_label_values(
        {"labels": {"kidneys": [1, 2], "cyst": [3]}, "regions_class_order": [1, 3]}, tmp_path / "dataset.json"
    )
    assert found.labels == {"background": 0, "kidneys": 1, "cyst": 3, "label_2": 2}


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (None, 'fix: "regions_class_order": [1, 2, 3]'),
        ([1, 2], "regions_class_order [1, 2] for 3 regions"),
        ([1, 2, "x"], "regions_class_order [1, 2, 'x']"),
        ([0, 1, 2], "regions_class_order [0, 1, 2] for 3 regions"),
        (3, "regions_class_order 3"),
        ([], "regions_class_order []"),
    ],
)
def test_an_order_that_is_missing_or_does_not_fit(folder, order, words):
    with pytest.raises(DatasetError) as caught:
        read_dataset(described_with(folder, regions_class_order=order))
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{folder / 'dataset.json'}: ")


def test_an_order_that_hides_regions_is_warned_of(folder):
    with pytest.warns(UserWarning, match="3 would be written as 1, which belongs to other regions"):
        read_dataset(described_with(folder, labels={"enhancing": 3, "whole": [1, 2, 3]}, regions_class_order=[3, 1]))


def test_an_order_without_regions_is_warned_of(folder):
    with pytest.warns(UserWarning, match="regions_class_order is not used"):
        read_dataset(described_with(folder, labels={"a": 1, "b": 2, "c": 3, "d": 4}))


@pytest.mark.filterwarnings("ignore:.*belongs to other regions")
@given(
    sets=st.lists(st.frozensets(st.integers(1, 6), min_size=1), min_size=2, max_size=4, unique=True).filter(
        lambda sets: max(map(len, sets)) > 1
    )
)
def test_the_order_that_an_error_suggests_is_accepted(sets):
    labels = {f"r{place}": sorted(each) for place, each in enumerate(sets)}
    with pytest.raises(DatasetError) as caught:
        read_label_values({"labels": labels}, "dataset.json")
    order = json.loads(caught.value.fix.partition(": ")[2])
    found = read_label_values({"labels": labels, "regions_class_order": order}, "dataset.json")
    assert found.regions.class_order == tuple(order)


LABELS = {"liver": 1, "spleen": 2, "cyst": 3, "more": 4}


@pytest.mark.parametrize("where", ["object", "list", "manifest"])
def test_a_case_that_has_some_of_the_labels(folder, where):
    described_with(folder, labels=LABELS, regions_class_order=None)
    if where == "object":
        described_with(folder, labelled={"b": ["spleen", "liver"]})
    if where == "list":
        entries = [{"image": f"imagesTr/{name}_0000.nii.gz", "label": f"labelsTr/{name}.nii.gz"} for name in "ab"]
        described_with(folder, training=[entries[0], {**entries[1], "labelled": ["liver", "spleen"]}])
    source = folder
    if where == "manifest":
        source = folder / "cases.csv"
        rows = [f"{name},imagesTr/{name}_0000.nii.gz,labelsTr/{name}.nii.gz" for name in "ab"]
        source.write_text(f"id,image,label,Labelled\n{rows[0]},\n{rows[1]},liver; spleen\n")
    dataset = read_dataset(source)
    assert dataset.is_partly_labelled
    assert [dataset.labelled_with(case) for case in dataset.cases] == [
        ("liver", "spleen", "cyst", "more"),
        ("liver", "spleen"),
    ]
    read_labelled(dataset.cases[0], dataset)
    with pytest.raises(DatasetError, match=r"case 'b' has voxels of cyst, more, and is labelled with liver, spleen"):
        read_labelled(dataset.cases[1], dataset)


@pytest.mark.parametrize(
    ("labelled", "words"),
    [
        ({"b": ["livre"]}, "case 'b' is labelled with 'livre'; expected names out of liver"),
        ({"b": ["background"]}, "case 'b' is labelled with 'background'"),
        ({"c": ["liver"]}, "labelled names the case 'c'"),
        ({"b": []}, "case 'b': labelled []"),
        ({"b": [1]}, "case 'b': labelled [1]"),
        (["liver"], "labelled ['liver']"),
    ],
)
def test_a_field_labelled_that_cannot_be(folder, labelled, words):
    with pytest.raises(DatasetError) as caught:
        read_dataset(described_with(folder, labels=LABELS, regions_class_order=None, labelled=labelled))
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{folder / 'dataset.json'}: ")


def test_regions_of_a_case_are_named_by_region(folder):
    dataset = read_dataset(described_with(folder, labelled={"a": ["whole"]}))
    assert [dataset.labelled_with(case) for case in dataset.cases] == [("whole",), ("whole", "core", "enhancing")]


def test_a_dataset_of_its_own_is_checked():
    facts = {"name": "d", "cases": (Case(id="a", images=("a.nii",), label="b.nii"),), "channel_names": ("MR",)}
    with pytest.raises(DatasetError, match="a region of the value 3"):
        Dataset(**facts, spatial_dims=3, labels={"background": 0, "one": 1, "two": 2}, regions=REGIONS)
    with pytest.raises(DatasetError, match="ignore=1, which is also the value of a label"):
        Dataset(**facts, spatial_dims=3, labels={"background": 0, "one": 1}, ignore=1)
