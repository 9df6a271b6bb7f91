"""`dataset.json` in the variants that are met: used as it is meant, or one line that names the file and the field."""

from __future__ import annotations

import json
import shutil

import pytest

from resvox.datasets import read_dataset
from resvox.datasets.description import read_channel_names, read_ending
from resvox.datasets.label_values import read_label_values
from resvox.datasets.labelled import read_labelled
from resvox.errors import DatasetError, VolumeError


def describe(folder, **changes):
    """Change fields of a folder's dataset.json; None removes one."""
    described = {**json.loads((folder / "dataset.json").read_text()), **changes}
    (folder / "dataset.json").write_text(
        json.dumps({key: value for key, value in described.items() if value is not None})
    )
    return folder


def entry(name, **more):
    return {"image": f"./imagesTr/{name}_0000.nii.gz", "label": f"./labelsTr/{name}.nii.gz", **more}


@pytest.mark.parametrize("field", ["channel_names", "modality"])
@pytest.mark.parametrize(
    ("value", "names"),
    [
        ({"0": "CT"}, ("CT",)),
        ({"0000": " CT "}, ("CT",)),
        ({"CT": 0}, ("CT",)),
        ({"CT": "0"}, ("CT",)),
        (["CT"], ("CT",)),
        ("CT", ("CT",)),
        ({"1": "T2", "0": "T1"}, ("T1", "T2")),
        ({"T2": 1, "T1": 0}, ("T1", "T2")),
        ({"1": "T1", "2": "T2"}, ("T1", "T2")),
        (["T1", "T2"], ("T1", "T2")),
        ({"0": 7}, ("7",)),
    ],
)
def test_names_of_channels(tmp_path, field, value, names):
    assert read_channel_names({field: value}, tmp_path / "dataset.json") == names


@pytest.mark.parametrize(
    "value",
    [{"0": "T1", "2": "T2"}, {"0": None}, {"a": "b"}, [None], [["CT"]], 3, True, {"0": ""}, [" "], {"T1": 0, "T2": 0}],
)
def test_names_of_channels_that_are_not_understood(tmp_path, value):
    with pytest.raises(DatasetError, match=r"dataset\.json: channel_names "):
        read_channel_names({"channel_names": value}, tmp_path / "dataset.json")


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "liver": 1, "spleen": 2},
        {"liver": 1, "spleen": 2},
        {"0": "background", "1": "liver", "2": "spleen"},
        {"2": "spleen", "1": "liver"},
        {"liver": "1", "spleen": "2", "background": "0"},
        {"background": 0.0, "liver": 1.0, "spleen": [2]},
        ["background", "liver", "spleen"],
        {" liver ": 1, "spleen": 2},
    ],
)
def test_labels(tmp_path, labels):
    assert read_label_values({"labels": labels}, tmp_path / "dataset.json").labels == {
        "background": 0,
        "liver": 1,
        "spleen": 2,
    }


def test_hundreds_of_labels_and_large_values(tmp_path):
    labels = {f"label {n}": n for n in range(1, 400)} | {"large": 100_000}
    assert read_label_values({"labels": labels}, tmp_path).labels == {"background": 0, **labels}


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"background": 0, "liver": 1.5}, "'liver' has the value 1.5"),
        ({"background": 0, "liver": True}, "'liver' has the value True"),
        ({"background": 0, "liver": None}, "'liver' has the value None"),
        ({"background": 0, "liver": "one"}, "'liver' has the value 'one'"),
        ({"background": 0, "liver": -1}, "'liver' has the value -1"),
        ({"background": 0, "liver": 10**400}, "'liver' has the value 1000"),
        ({"background": 0, "": 1}, "'' has the value 1"),
        ({"0": "background", "1": "tumour", "2": "tumour"}, "two values (1 and 2) are called 'tumour'"),
        ({"background": 0, "a": 1, "b": 1}, "'a' and 'b' both have the value 1"),
        ({"background": 1, "liver": 2}, "'background' has the value 1; expected the background to be 0"),
        ({"background": 0, "all": [1, 2], "one": 1}, 'fix: "regions_class_order": [2, 1]'),
        ({"background": 3, "all": [1, 2]}, "'background' has the value 3; expected the background to be 0"),
        ({"a": [1, 2], "b": [2, 1]}, "'a' and 'b' both have the values [1, 2]"),
        ({"a": [1, 1.5]}, "'a' has the value [1, 1.5]"),
        ({"a": []}, "'a' has the value []"),
        ({"background": 0, "a": 1, "Ignore": [8, 9]}, "'Ignore' has the value [8, 9]"),
        ({"a": 1, "ignore": 0}, "'ignore' has the value 0"),
        ({"a": [1, 2]}, "labels that are regions (lists of values), and no regions_class_order"),
        ({"a": 2, "b": 1, "ignore": 2}, "'a' and 'ignore' both have the value 2"),
        ("liver", "labels 'liver'"),
        ([0, 1], "labels [0, 1]"),
    ],
)
def test_labels_that_are_not_understood(tmp_path, labels, words):
    with pytest.raises(DatasetError) as caught:
        read_label_values({"labels": labels}, tmp_path / "dataset.json")
    assert words in str(caught.value)
    assert "dataset.json: " in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_key_that_stands_two_times_is_refused(folder_of):
    folder = folder_of()
    text = (folder / "dataset.json").read_text().replace('"box": 2', '"box": 2, "box": 3')
    (folder / "dataset.json").write_text(text)
    with pytest.raises(DatasetError, match=r"dataset\.json: the key 'box' two times in one object"):
        read_dataset(folder)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_encodings(folder_of, encoding):
    folder = describe(folder_of(), name="Größe")
    text = (folder / "dataset.json").read_text().encode().decode("unicode_escape")
    (folder / "dataset.json").write_bytes(text.encode(encoding))
    assert read_dataset(folder).name == "Größe"


@pytest.mark.parametrize(
    ("value", "ending"), [(".nii.gz", ".nii.gz"), ("nii.gz", ".nii.gz"), (".NII.GZ", ".nii.gz"), (None, None)]
)
def test_endings(tmp_path, value, ending):
    assert read_ending({"file_ending": value}, tmp_path) == ending
    with pytest.raises(DatasetError, match="file_ending 3"):
        read_ending({"file_ending": 3}, tmp_path)


def test_capital_endings_are_cases_like_others(folder_of):
    folder = folder_of()
    for path in [*(folder / "imagesTr").iterdir(), *(folder / "labelsTr").iterdir()]:
        path.rename(path.with_name(path.name.replace(".nii.gz", ".NII.GZ")))
    dataset = read_dataset(folder)
    assert [case.id for case in dataset.cases] == ["a", "b"]
    read_labelled(dataset.cases[0], dataset)


# --- lists of cases


def test_a_validation_part_validates(folder_of):
    folder = describe(folder_of(ids=("a", "b", "c")), training=[entry("a"), entry("b")], validation=[entry("c")])
    split = read_dataset(folder).split()
    assert [[case.id for case in part] for part in (split.train, split.validation)] == [["a", "b"], ["c"]]


def test_the_lowest_fold_of_a_datalist_validates(folder_of):
    folder = describe(folder_of(ids=("a", "b", "c")), training=[entry(name, fold=k) for k, name in enumerate("abc")])
    split = read_dataset(folder).split()
    assert [case.id for case in split.validation] == ["a"]
    assert split.reason == "fold 0 of 3 that the dataset names validates"
    describe(folder, validation=[entry("b")], training=[entry("a", fold=0), entry("c", fold=1)])
    with pytest.warns(UserWarning, match=r"dataset\.json: fold is not used"):
        assert [case.id for case in read_dataset(folder).split().validation] == ["b"]


def test_groups_and_splits_of_entries(folder_of):
    folder = describe(folder_of(), training=[entry("a", patient="p", split="Train"), entry("b", group=7, split="val")])
    assert [(case.group, case.split) for case in read_dataset(folder).cases] == [("p", "train"), ("7", "validation")]


def test_a_list_of_channel_files(folder_of):
    folder = folder_of(ids=("a",))
    shutil.copy(folder / "imagesTr/a_0000.nii.gz", folder / "imagesTr/t2.nii.gz")
    images = ["imagesTr/a_0000.nii.gz", "imagesTr/t2.nii.gz"]
    describe(folder, channel_names=["T1", "T2"], training=[{"image": images, "label": ["labelsTr/a.nii.gz"]}])
    assert [path.name for path in read_dataset(folder).cases[0].images] == ["a_0000.nii.gz", "t2.nii.gz"]


@pytest.mark.parametrize("key", ["image", "images"])
@pytest.mark.parametrize("as_list", [True, False])
def test_a_table_of_cases(folder_of, key, as_list):
    image = "imagesTr/a_0000.nii.gz"
    table = {"first": {key: [image] if as_list else image, "label": "labelsTr/a.nii.gz"}}
    assert [case.id for case in read_dataset(describe(folder_of(), dataset=table)).cases] == ["first"]


def test_numbered_names_in_a_list_stay_apart(folder_of):
    folder = folder_of()
    for name, number in (("a", 1), ("b", 2)):
        (folder / f"imagesTr/{name}_0000.nii.gz").rename(folder / f"imagesTr/img_{number:04d}.nii.gz")
    training = [
        {"image": f"imagesTr/img_{k:04d}.nii.gz", "label": f"labelsTr/{name}.nii.gz"}
        for k, name in ((1, "a"), (2, "b"))
    ]
    assert [case.id for case in read_dataset(describe(folder, training=training)).cases] == ["img_0001", "img_0002"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"training": [{"image": "imagesTr/a_0000.nii.gz", "label": None}]}, "training entry 0 "),
        ({"training": [{"label": "labelsTr/a.nii.gz"}]}, "training entry 0 "),
        ({"training": ["imagesTr/a_0000.nii.gz"]}, "training entry 0 'imagesTr/a_0000.nii.gz'"),
        ({"training": [["a", "b"]]}, "training entry 0 "),
        ({"training": {"0": {}}}, "training {'0': {}}"),
        ({"training": "imagesTr"}, "training 'imagesTr'"),
        ({"training": [entry("a", fold="first")]}, "fold 'first'"),
        ({"training": [entry("a", fold=True)]}, "fold True"),
        ({"training": [entry("a", split="unseen")]}, "split='unseen'"),
        ({"training": [entry("a", split=3)]}, "split 3"),
        ({"training": [{**entry("a"), "label": ["labelsTr/a.nii.gz", "labelsTr/b.nii.gz"]}]}, "2 label maps"),
        ({"training": [{**entry("a"), "image": "imagesTr/\0"}]}, "no image file"),
        ({"training": [{**entry("a"), "image": "x" * 5000}]}, "no image file"),
        ({"dataset": ["a"]}, "dataset ['a']"),
        ({"dataset": {"a": None}}, "dataset['a']"),
        ({"dataset": {"a": {"images": 3, "label": "x"}}}, "dataset['a']"),
        ({"validation": [{"image": "imagesTr/a_0000.nii.gz"}]}, "validation entry 0"),
    ],
)
def test_odd_entries_are_one_line_that_names_file_and_field(folder_of, fields, words):
    folder = describe(folder_of(), **fields)
    with pytest.raises(DatasetError) as caught:
        read_dataset(folder)
    assert words in str(caught.value)
    assert "dataset.json" in str(caught.value)
    assert len(str(caught.value)) < 900


def test_test_images_that_were_not_unpacked_are_left_out_and_said(folder_of):
    folder = describe(
        folder_of(), training=[entry("a"), entry("b")], test=["./imagesTs/c.nii.gz", "./imagesTs/d.nii.gz"]
    )
    with pytest.warns(UserWarning, match=r"dataset\.json: 2 of 2 cases of test are left out: no file .*c\.nii\.gz"):
        assert len(read_dataset(folder).cases) == 2


# --- what lies in the folders


def test_another_number_of_cases_than_dataset_json_says_is_said(folder_of):
    with pytest.warns(UserWarning, match=r"dataset\.json: numTraining is 5, and 2 labelled cases were found"):
        read_dataset(describe(folder_of(), numTraining=5))


def test_what_is_not_used_is_said(folder_of):
    folder = folder_of(ids=("a", "b", "c"))
    (folder / "imagesTr/sub").mkdir()
    (folder / "imagesTr/c_0000.nii.gz").rename(folder / "imagesTr/sub/c_0000.nii.gz")
    (folder / "imagesTr/b_0000.npy").touch()
    (folder / "imagesTr/notes.txt").touch()
    with pytest.warns(UserWarning, match="not used") as caught:
        assert len(read_dataset(folder).cases) == 2
    texts = [str(each.message) for each in caught]
    assert any("imagesTr: not used: b_0000.npy, sub/ (1 images)" in text for text in texts)
    assert any("labelsTr: 1 label maps without an image in imagesTr: c.nii.gz" in text for text in texts)
    assert not any("notes" in text for text in texts)


def channels(folder, *numbers, names=("T1", "T2")):
    """Case a with channel files of these numbers."""
    first = folder / "imagesTr/a_0000.nii.gz"
    data = first.read_bytes()
    first.unlink()
    for number in numbers:
        (folder / f"imagesTr/a_{number:04d}.nii.gz").write_bytes(data)
    return describe(folder, channel_names=list(names))


@pytest.mark.parametrize(
    ("numbers", "words"),
    [((0, 2), "channel 1 is missing"), ((1, 2), "channel 0 is missing"), ((0, 1, 2), "case 'a' has 3 image files")],
)
def test_channels_with_a_gap_are_not_taken_for_others(folder_of, numbers, words):
    with pytest.raises(DatasetError) as caught:
        read_dataset(channels(folder_of(ids=("a",)), *numbers))
    assert words in str(caught.value)
    assert "expected 2: a_0000 to a_0001" in str(caught.value)


def test_a_channel_two_times_is_refused(folder_of):
    folder = describe(channels(folder_of(ids=("a",)), 0, 1), file_ending=None)
    shutil.copy(folder / "imagesTr/a_0001.nii.gz", folder / "imagesTr/a_0001.nii")
    with pytest.raises(DatasetError, match="channel 1 twice"):
        read_dataset(folder)


def test_numbers_with_label_maps_of_their_own_are_cases(folder_of):
    folder = folder_of(ids=("f",))
    image, label = folder / "imagesTr/f_0000.nii.gz", folder / "labelsTr/f.nii.gz"
    label.rename(folder / "labelsTr/f_0000.nii.gz")
    for number in (1, 2):
        shutil.copy(image, folder / f"imagesTr/f_{number:04d}.nii.gz")
        shutil.copy(folder / "labelsTr/f_0000.nii.gz", folder / f"labelsTr/f_{number:04d}.nii.gz")
    shutil.copytree(folder / "imagesTr", folder / "imagesTs")
    for path in (folder / "imagesTs").iterdir():
        path.rename(path.with_name(path.name.replace("f_", "g_")))
    ids = [case.id for case in read_dataset(folder).cases]
    assert ids == ["f_0000", "f_0001", "f_0002", "g_0000", "g_0001", "g_0002"]


def test_a_label_map_that_loses_values_is_refused(folder_of):
    folder = describe(folder_of(ids=("a",)), file_ending=None)
    (folder / "labelsTr/a.nii.gz").rename(folder / "labelsTr/a.jpg")
    with pytest.raises(DatasetError, match=r"a\.jpg: a label map of case 'a' in this format; expected .*\.nii\.gz"):
        read_dataset(folder)


def test_one_scan_with_nan_is_named(folder_of, image_writer, scan_maker):
    folder = folder_of()
    scan, _ = scan_maker(1, (16, 16, 16))
    scan = scan.astype("float32")
    scan[3, 4, 5] = float("nan")
    image_writer(folder / "imagesTr/b_0000.nii.gz", scan, (2.0, 1.0, 1.0))
    dataset = read_dataset(folder)
    with pytest.raises(VolumeError, match=r"b_0000\.nii\.gz: .*NaN"):
        read_labelled(dataset.cases[1], dataset)
