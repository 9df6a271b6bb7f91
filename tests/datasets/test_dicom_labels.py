"""SEG and RTSTRUCT as training labels: the same dataset as the NIfTI label maps that they came from."""

from __future__ import annotations

import json

import numpy as np
import pytest
from delivery.series import NAMES, labels_on, write_series

from resvox.datasets.labelled import read_labelled
from resvox.delivery.naming import label_set
from resvox.delivery.rtstruct import write_rtstruct
from resvox.delivery.seg import write_seg
from resvox.delivery.source import read_source
from resvox.errors import DatasetError
from resvox.training import read_dataset
from resvox.volumes import write_label_map


@pytest.fixture
def manifests(tmp_path):
    """Three manifests of the same case: label map, SEG, RTSTRUCT."""
    source = read_source(write_series(tmp_path / "series"))
    label_map = labels_on(source.grid)
    write_label_map(label_map, tmp_path / "a.nii.gz")
    write_seg(label_map, source, label_set(NAMES), tmp_path / "a_seg.dcm")
    write_rtstruct(label_map, source, label_set(NAMES), tmp_path / "a_rt.dcm")
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": NAMES, "channel_names": {"0": "CT"}}))
    made = {}
    for name, label in (("nifti", "a.nii.gz"), ("seg", "a_seg.dcm"), ("rtstruct", "a_rt.dcm")):
        made[name] = tmp_path / f"{name}.csv"
        made[name].write_text(f"id,image,label\na,series,{label}\n")
    return made


@pytest.mark.parametrize("kind", ["seg", "rtstruct"])
def test_the_dataset_is_that_of_the_nifti(manifests, kind):
    read = {}
    for name in ("nifti", kind):
        dataset = read_dataset(manifests[name])
        image, label = read_labelled(dataset.cases[0], dataset)
        read[name] = (dict(dataset.labels), image.array, label.array)
    assert read[kind][0] == read["nifti"][0]
    np.testing.assert_array_equal(read[kind][1], read["nifti"][1])
    np.testing.assert_array_equal(read[kind][2], read["nifti"][2])


@pytest.mark.parametrize("kind", ["seg", "rtstruct"])
def test_a_structure_that_is_not_declared_is_named(manifests, tmp_path, kind):
    fewer = {name: value for name, value in NAMES.items() if name != "spleen"}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": fewer, "channel_names": {"0": "CT"}}))
    dataset = read_dataset(manifests[kind])
    with pytest.raises(DatasetError, match=r"a_.*\.dcm: structures spleen, which the dataset does not declare"):
        read_labelled(dataset.cases[0], dataset)
