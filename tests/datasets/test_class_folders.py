"""Folders of classes: what is a class, what is one image, and which folders are another task's."""

from __future__ import annotations

import shutil
import warnings
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from resvox.datasets import read_classification
from resvox.errors import DatasetError
from resvox.volumes import find_cases


def write_pictures(root, names, *, colour=False, ending=".png"):
    for number, name in enumerate(names):
        path = root / f"{name}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.full((8, 9, 3) if colour else (8, 9), 20 * (number % 12), np.uint8)
        Image.fromarray(values).save(path)
    return root


FRAMES = [f"{kind}/frame_{number:04d}" for kind in ("benign", "malignant") for number in range(6)]


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("ending", [".png", ".jpg", ".TIF", ".bmp"])
def test_frames_are_images_and_not_channels(tmp_path, colour, ending):
    folder = write_pictures(tmp_path / "d", FRAMES, colour=colour, ending=ending)
    with pytest.warns(UserWarning, match=r"benign: frame_0000\..* to frame_0005\..* and 1 more such series"):
        dataset = read_classification(folder)
    assert Counter(case.label for case in dataset.cases) == {"benign": 6, "malignant": 6}
    assert {len(case.images) for case in dataset.cases} == {1}
    assert len(dataset.channel_names) == (3 if colour else 1)
    # and a prediction of the folder has the same cases under the same names
    found = find_cases([folder], channels=len(dataset.channel_names))
    assert {case.id for case in found} == {case.id for case in dataset.cases}
    assert all(case.problem is None for case in found)


def test_frames_of_a_patient_stay_together(tmp_path):
    names = [f"{kind}/p{p}/frame_{n:04d}" for kind in ("a", "b") for p in range(3) for n in range(4)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # they are grouped already, so there is nothing to say
        split = read_classification(write_pictures(tmp_path / "d", names)).split()
    sides = [{(case.label, case.group) for case in part} for part in (split.train, split.validation)]
    assert not sides[0] & sides[1]
    assert len(split.validation) >= 4


@pytest.mark.parametrize(
    ("names", "task"),
    [
        (("imagesTr", "labelsTr"), "segmentation"),
        (("images", "masks"), "segmentation"),
        (("image", "Label"), "segmentation"),
        (("imagesTr", "labelsTr", "imagesTs"), "segmentation"),
        (("imagesTr", "targetsTr"), "regression"),
    ],
)
def test_a_dataset_for_another_task_is_not_two_classes(tmp_path, names, task):
    folder = write_pictures(tmp_path / "d", [f"{name}/{n}" for name in names for n in range(3)])
    with pytest.raises(DatasetError, match=rf"d: folders '{names[0]}' and .*a dataset for {task}.*--task {task}"):
        read_classification(folder)


def test_channels_of_volumes_are_one_image(folder_of):
    folder = folder_of(ids=("a", "b"))
    (folder / "dataset.json").unlink()
    shutil.rmtree(folder / "labelsTr")
    for kind, name in (("x", "a"), ("y", "b")):
        (folder / kind).mkdir()
        for channel in range(2):
            shutil.copy(folder / f"imagesTr/{name}_0000.nii.gz", folder / kind / f"{name}_{channel:04d}.nii.gz")
    shutil.rmtree(folder / "imagesTr")
    assert {len(case.images) for case in read_classification(folder).cases} == {2}
    (folder / "y/b_0001.nii.gz").unlink()
    with pytest.raises(DatasetError, match=r"b_0000\.nii\.gz: 1 channel files .*where a_0000\.nii\.gz has 2"):
        read_classification(folder)
