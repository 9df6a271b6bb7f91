"""Folders of any content: every reader answers, or refuses in one line; nothing is left out without a word."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resvox.datasets import read_classification, read_dataset, read_regression
from resvox.errors import ResvoxError
from resvox.volumes import Volume, write_label_map, write_volume
from resvox.volumes.formats import is_image

NAMES = st.sampled_from(
    ["a", "b", "a_0000", "a_0001", "a_0002", "b_0000", "b_0001", "frame_0000", "frame_0003", "A_0000", "k", "k_0001"]
)
ENDINGS = st.sampled_from(
    [*[".nii.gz", ".nii", ".NII.GZ", ".png", ".jpg", ".nrrd", ".txt", ".npy", ".dcm", ".hdr", ".nii.gz.tmp"], ""]
)
FOLDERS = st.sampled_from(
    ["imagesTr", "labelsTr", "targetsTr", "imagesTs", "labelsTs", "imagesTr/sub", "x", "y", "x/p1", "train/x"]
)
JSON = '{{"channel_names": {channels}, "labels": {{"background": 0, "liver": 1}}{more}}}'


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    """The bytes of a small scan for each ending; other endings get bytes that are no image."""
    folder = tmp_path_factory.mktemp("contents")
    scan, picture = np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4, 5, dtype=np.uint8)
    found = {"": b"x", ".txt": b"x", ".npy": b"x", ".dcm": b"x", ".hdr": b"x", ".nii.gz.tmp": b"x", ".jpg": b"x"}
    for ending in (".nii.gz", ".nii", ".nrrd"):
        found[ending] = write_volume(Volume(scan % 2, spacing_mm=(1, 1, 1)), folder / f"x{ending}").read_bytes()
    found[".NII.GZ"] = found[".nii.gz"]
    found[".png"] = write_label_map(Volume(picture, spacing_mm=(1, 1)), folder / "x.png").read_bytes()
    return found


@settings(deadline=None, max_examples=150)
@given(
    files=st.sets(st.tuples(FOLDERS, NAMES, ENDINGS), max_size=6),
    base=st.sampled_from(["folders", "classes", ""]),
    channels=st.integers(1, 2),
    more=st.sampled_from(["", ', "file_ending": ".nii.gz"', ', "file_ending": "png"', ', "numTraining": 3']),
)
def test_any_folder_is_read_or_refused_in_one_line(files, base, channels, more, contents, tmp_path_factory):
    root = tmp_path_factory.mktemp("layout")
    (root / "dataset.json").write_text(JSON.format(channels=["CT", "PET"][:channels], more=more).replace("'", '"'))
    if base == "folders":
        files = files | {("imagesTr", f"k_{number:04d}", ".nii.gz") for number in range(channels)}
        files |= {("labelsTr", "k", ".nii.gz"), ("targetsTr", "k", ".nii.gz")}
    if base == "classes":
        files = {file for file in files if not file[0].endswith(("Tr", "Ts", "sub"))}
        files |= {("x", "k", ".png"), ("y", "k", ".png")}
    written: list[Path] = []
    for folder, name, ending in files:
        path = root / folder / f"{name}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents[ending])
        written.append(path)
    for reader, images in ((read_dataset, "imagesTr"), (read_regression, "imagesTr"), (read_classification, "x")):
        dataset, said = outcome(reader, root)
        if dataset is None:
            assert "\n" not in said
            assert str(root) in said
            continue
        used = {path for case in dataset.cases for path in case.images}
        for path in written:  # an image of the training folder is in a case, or in a warning
            if path.is_relative_to(root / images) and is_image(path):
                assert path in used or path.name in said or f"{path.parent.name}/" in said, path


def outcome(reader, root):
    """The dataset and what was warned of; or None and the error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            return reader(root), " ".join(str(each.message) for each in caught)
        except ResvoxError as error:
            return None, str(error)
