"""Datasets: both dialects of dataset.json, manifests, splits, and what is refused in which words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

from resvox.errors import DatasetError, VolumeError
from resvox.training import Case, Dataset, read_dataset, take_fingerprint
from resvox.training.plans.sides import names_a_side


def test_nnunet_dialect(folder_of):
    folder = folder_of(ids=("b", "a"))
    dataset = read_dataset(folder)
    assert [case.id for case in dataset.cases] == ["a", "b"]
    assert dataset.labels == {"background": 0, "ball": 1, "box": 2}
    assert dataset.channel_names == ("CT",)
    assert dataset.spatial_dims == 3
    assert dataset.cases[0].images == (folder / "imagesTr/a_0000.nii.gz",)
    assert dataset.cases[0].label == folder / "labelsTr/a.nii.gz"
    assert read_dataset(folder / "dataset.json") == dataset


def msd(folder: Path, **changes: object) -> Path:
    """Rewrite a folder's dataset.json and files in MSD's dialect."""
    for image in (folder / "imagesTr").iterdir():
        image.rename(image.with_name(image.name.replace("_0000", "")))
    described = {
        "name": "balls",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "2": "box", "1": "ball"},
        "training": [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in ("a", "b")],
    }
    (folder / "dataset.json").write_text(json.dumps({**described, **changes}))
    return folder


def test_msd_dialect(folder_of):
    dataset = read_dataset(msd(folder_of()))
    assert dataset.name == "balls"
    assert [case.id for case in dataset.cases] == ["a", "b"]
    assert list(dataset.labels.items()) == [("background", 0), ("ball", 1), ("box", 2)]
    assert dataset.cases[0].images[0].name == "a.nii.gz"


def test_msd_list_with_numbered_files(folder_of):
    folder = folder_of()
    described = {
        "modality": {"0": "T1", "1": "T2"},
        "labels": {"0": "background", "1": "ball", "2": "box"},
        "training": [{"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}],
    }
    (folder / "dataset.json").write_text(json.dumps(described))
    shutil.copy(folder / "imagesTr/a_0000.nii.gz", folder / "imagesTr/a_0001.nii.gz")
    (case,) = read_dataset(folder).cases
    assert [image.name for image in case.images] == ["a_0000.nii.gz", "a_0001.nii.gz"]


def test_several_channels_in_order_and_test_cases(folder_of):
    folder = folder_of(ids=("a",))
    described = json.loads((folder / "dataset.json").read_text())
    described["channel_names"] = {"1": "T2", "0": "T1"}
    (folder / "dataset.json").write_text(json.dumps(described))
    shutil.copy(folder / "imagesTr/a_0000.nii.gz", folder / "imagesTr/a_0001.nii.gz")
    shutil.copytree(folder / "imagesTr", folder / "imagesTs")
    for image in (folder / "imagesTs").iterdir():
        image.rename(image.with_name(image.name.replace("a_", "unseen_")))
    dataset = read_dataset(folder)
    assert dataset.channel_names == ("T1", "T2")
    train, test = dataset.cases
    assert [image.name for image in train.images] == ["a_0000.nii.gz", "a_0001.nii.gz"]
    assert (test.id, test.split, test.label) == ("unseen", "test", None)
    assert [case.id for case in dataset.split().train] == ["a"]


def test_manifest(folder_of):
    folder = folder_of(ids=("a", "b", "c"))
    rows = ["image,label,split"]
    rows += ["imagesTr/a_0000.nii.gz,labelsTr/a.nii.gz,train"]
    rows += ["imagesTr/b_0000.nii.gz,labelsTr/b.nii.gz,val"]
    rows += ["imagesTr/c_0000.nii.gz,,test"]
    (folder / "cases.csv").write_text("\n".join(rows))
    dataset = read_dataset(folder / "cases.csv")
    assert [(case.id, case.split) for case in dataset.cases] == [
        ("a", "train"),
        ("b", "validation"),
        ("c", "test"),
    ]
    assert dataset.labels == {"background": 0, "ball": 1, "box": 2}  # from the dataset.json beside it
    (folder / "dataset.json").unlink()
    alone = read_dataset(folder / "cases.csv")
    assert alone.labels == {"background": 0, "label_1": 1, "label_2": 2}
    assert alone.channel_names == ("channel_0",)


@pytest.mark.parametrize("header", ["image_0,image_1,label", "image,label"])
def test_manifest_with_channels(folder_of, header):
    folder = folder_of(ids=("a",))
    (folder / "dataset.json").unlink()
    shutil.copy(folder / "imagesTr/a_0000.nii.gz", folder / "imagesTr/a_0001.nii.gz")
    separator = "," if "image_1" in header else ";"
    images = separator.join(f"imagesTr/a_000{i}.nii.gz" for i in (0, 1))
    (folder / "cases.csv").write_text(f"{header}\n{images},labelsTr/a.nii.gz\n")
    (case,) = read_dataset(folder / "cases.csv").cases
    assert [image.name for image in case.images] == ["a_0000.nii.gz", "a_0001.nii.gz"]


def edit(folder: Path, **changes: object) -> None:
    described = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**described, **changes}))


def two_files(folder: Path) -> None:
    edit(folder, channel_names={"0": "T1", "1": "T2", "2": "PD"})
    shutil.copy(folder / "imagesTr/a_0000.nii.gz", folder / "imagesTr/a_0001.nii.gz")


def test_one_file_may_hold_all_channels(folder_of, tmp_path):
    folder = folder_of(ids=("a",))
    edit(folder, channel_names={"0": "T1", "1": "T2"})
    with pytest.raises(VolumeError, match=r"a_0000.nii.gz: .*2"):
        read_dataset(folder)
    scan = SimpleITK.ReadImage(str(folder / "imagesTr/a_0000.nii.gz"))
    both = SimpleITK.JoinSeries([scan, scan])  # a 4-D NIfTI, as the Decathlon's
    SimpleITK.WriteImage(both, str(folder / "imagesTr/a_0000.nii.gz"))
    dataset = read_dataset(folder)
    assert dataset.spatial_dims == 3
    assert len(take_fingerprint(dataset).intensities) == 2


def test_a_manifest_of_colour_images(image_writer, tmp_path):
    colours = np.zeros((8, 9, 3), np.uint8)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(colours, isVector=True), str(tmp_path / "scan.png"))
    image_writer(tmp_path / "mask.png", np.eye(8, 9, dtype=np.uint8), (1.0, 1.0))
    (tmp_path / "cases.csv").write_text("image,label\nscan.png,mask.png\n")
    dataset = read_dataset(tmp_path / "cases.csv")
    assert (dataset.spatial_dims, len(dataset.channel_names)) == (2, 3)


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda f: (f / "dataset.json").unlink(), ["no dataset.json", "pass a CSV manifest"]),
        (lambda f: (f / "dataset.json").write_text("{"), ["dataset.json: not JSON"]),
        (lambda f: (f / "labelsTr/b.nii.gz").unlink(), ["labelsTr/b.nii.gz: no label file for case 'b'"]),
        (lambda f: edit(f, labels={"background": 0, "all": [1, 2]}), ["regions", "no regions_class_order"]),
        (lambda f: edit(f, labels={"background": 0, "x": 1, "ignore": [2, 3]}), ["'ignore'", "one value"]),
        (lambda f: edit(f, labels={"background": 0, "x": 1, "y": 1}), ["each with its own positive value"]),
        (lambda f: edit(f, labels={}), ["no labels"]),
        (lambda f: edit(f, channel_names={}), ["neither channel_names nor modality"]),
        (lambda f: two_files(f), ["case 'a' has 2 image files (a_0000.nii.gz, a_0001.nii.gz)", "a_0002"]),
        (lambda f: shutil.rmtree(f / "imagesTr"), ["no training cases"]),
        (lambda f: edit(f, training=[{"image": "x"}]), ["training entry 0 {'image': 'x'}"]),
        (
            lambda f: edit(f, training=[{"image": "imagesTr/z.nii.gz", "label": "labelsTr/a.nii.gz"}]),
            ["z.nii.gz: no image file for case 'z'"],
        ),
    ],
)
def test_broken_folders_are_refused_in_clear_words(folder_of, break_it, words):
    folder = folder_of()
    break_it(folder)
    with pytest.raises(DatasetError) as caught:
        read_dataset(folder)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("scan,mask\n", ["columns scan, mask", "image (or image_0"]),
        ("image,label\n", ["no rows"]),
        ("image,label,split\nimagesTr/a_0000.nii.gz,labelsTr/a.nii.gz,holdout\n", ["split='holdout'"]),
        ("image,label\nimagesTr/a_0000.nii.gz,\n", ["case 'a' has an image and no label map"]),
        ("image,label\n,labelsTr/a.nii.gz\n", ["line 2 names no image"]),
        (
            "image,label\nimagesTr/a_0000.nii.gz,labelsTr/a.nii.gz\nimagesTr/a_0000.nii.gz,labelsTr/a.nii.gz\n",
            ["two cases are called 'a'", "add an 'id' column"],
        ),
    ],
)
def test_broken_manifests_are_refused_in_clear_words(folder_of, text, words):
    folder = folder_of()
    (folder / "cases.csv").write_text(text)
    with pytest.raises(DatasetError) as caught:
        read_dataset(folder / "cases.csv")
    for word in words:
        assert word in str(caught.value)


def test_no_such_dataset(tmp_path):
    with pytest.raises(DatasetError, match="no such file or folder"):
        read_dataset(tmp_path / "nowhere")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DatasetError, match="not a dataset"):
        read_dataset(tmp_path / "notes.txt")


def dataset_of(cases: list[Case]) -> Dataset:
    labels = {"background": 0, "x": 1}
    return Dataset(name="d", cases=tuple(cases), labels=labels, channel_names=("CT",), spatial_dims=3)


def case_of(name: str, split: str | None = None) -> Case:
    return Case(id=name, images=(Path(f"{name}.nii"),), label=Path(f"{name}_seg.nii"), split=split)


@given(
    names=st.lists(st.text("abcdef", min_size=1, max_size=4), min_size=2, max_size=20, unique=True),
    seed=st.integers(0, 5),
    fraction=st.floats(0.05, 0.5),
)
@settings(deadline=None, max_examples=50)
def test_drawn_split_is_a_partition_that_order_does_not_change(names, seed, fraction):
    split = dataset_of([case_of(n) for n in names]).split(fraction=fraction, seed=seed)
    again = dataset_of([case_of(n) for n in reversed(names)]).split(fraction=fraction, seed=seed)
    assert split == again
    train, validation = {c.id for c in split.train}, {c.id for c in split.validation}
    assert train | validation == set(names)
    assert not train & validation
    assert len(validation) == max(1, round(fraction * len(names)))


def test_seed_changes_the_split():
    dataset = dataset_of([case_of(f"case{n}") for n in range(30)])
    assert dataset.split(seed=0).validation != dataset.split(seed=1).validation


def test_explicit_split_is_kept_and_a_single_case_validates_itself():
    named = dataset_of([case_of("a", "train"), case_of("b", "validation"), case_of("c")]).split()
    assert [[c.id for c in part] for part in (named.train, named.validation)] == [["a", "c"], ["b"]]
    alone = dataset_of([case_of("a")]).split()
    assert alone.train == alone.validation
    assert "validating on the training cases themselves" in alone.reason
    with pytest.raises(DatasetError, match="every labelled case is marked 'validation'"):
        dataset_of([case_of("a", "validation")]).split()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("left lung", True),
        ("LeftLung", True),
        ("kidney_R", True),
        ("lung-l", True),
        ("rightatrium", True),
        ("liver", False),
        ("rib", False),
        ("spleen", False),
        ("tumour core", False),
    ],
)
def test_names_a_side(name, expected):
    assert names_a_side([name], ("left", "right", "l", "r")) is expected


def test_labels_need_not_be_consecutive():
    dataset = Dataset(
        name="d", cases=(), labels={"b": 7, "background": 0, "a": 3}, channel_names=("CT",), spatial_dims=3
    )
    assert list(dataset.labels) == ["background", "a", "b"]
    assert np.array_equal(list(dataset.foreground.values()), [3, 7])
