"""Datasets of classified images: three layouts, splits by class and group, facts, plans and prepared images."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from training.classified import shape_arrays, write_npz

from resvox.datasets.classification import ImageCase
from resvox.datasets.labelled import read_image
from resvox.errors import DatasetError, PlanError
from resvox.training import (
    ClassificationDataset,
    draw_classification_plan,
    read_classification,
    read_dataset,
    take_classification_facts,
)
from resvox.training.classification.cache import prepare_images
from resvox.training.classification.samples import ImageSamples


def write_folders(root, counts=(3, 4), parts=("",), colour=False):
    for part in parts:
        images, labels = shape_arrays(counts)
        for number, (image, (label,)) in enumerate(zip(images, labels, strict=True)):
            path = root / part / f"kind{label}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.stack([image] * 3, axis=-1) if colour else image).save(path)
    return root


def dataset_of(cases, classes=("a", "b")):
    return ClassificationDataset(
        name="d", cases=tuple(cases), classes=classes, channel_names=("x",), spatial_dims=2, is_picture=True,
        source="there",
    )  # fmt: skip


def test_a_folder_for_each_class(tmp_path):
    dataset = read_classification(write_folders(tmp_path / "data", colour=True))
    assert dataset.classes == ("kind0", "kind1")
    assert Counter(case.label for case in dataset.cases) == {"kind0": 3, "kind1": 4}
    assert (dataset.channel_names, dataset.spatial_dims) == (("red", "green", "blue"), 2)
    assert read_image(dataset.cases[0], 3).with_channel_axis().shape == (3, 8, 8)


def test_folders_for_splits_with_the_classes_inside(tmp_path):
    dataset = read_classification(write_folders(tmp_path / "data", parts=("train", "val", "test")))
    assert Counter(case.split for case in dataset.cases) == {"train": 7, "validation": 7, "test": 7}
    assert dataset.split().reason == "the dataset names its validation cases"
    write_folders(tmp_path / "data", parts=("odd",))
    with pytest.raises(DatasetError, match=r"a folder 'odd' beside .*train, val and test with the classes inside"):
        read_classification(tmp_path / "data")


def test_a_folder_inside_of_a_class_is_a_group(tmp_path):
    for number, path in enumerate(sorted(write_folders(tmp_path / "data", counts=(4, 4)).rglob("*.png"))):
        (path.parent / f"p{number % 2}").mkdir(exist_ok=True)
        path.rename(path.parent / f"p{number % 2}" / path.name)
    dataset = read_classification(tmp_path / "data")
    assert {(case.label, case.group) for case in dataset.cases} == {
        ("kind0", "p0"), ("kind0", "p1"), ("kind1", "p0"), ("kind1", "p1")
    }  # fmt: skip


def test_an_image_beside_the_classes_is_refused(tmp_path):
    folder = write_folders(tmp_path / "data")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "lost.png")
    with pytest.raises(DatasetError, match=r"lost.png: an image beside the folders of the classes.*image,class"):
        read_classification(folder)


def test_a_manifest(tmp_path):
    write_folders(tmp_path / "data")
    files = sorted((tmp_path / "data").rglob("*.png"))
    rows = [f"data/{f.parent.name}/{f.name},{f.parent.name},{'train' if i % 3 else 'val'},p{i % 2}"
            for i, f in enumerate(files)]  # fmt: skip
    (tmp_path / "m.csv").write_text("\n".join(["image,class,split,group", *rows]))
    dataset = read_classification(tmp_path / "m.csv")
    assert {case.split for case in dataset.cases} == {"train", "validation"}
    assert {case.group for case in dataset.cases} == {"p0", "p1"}
    (tmp_path / "m.csv").write_text("image,label\na.png,b")
    with pytest.raises(DatasetError, match=r"m.csv: columns image, label; expected image .* class"):
        read_classification(tmp_path / "m.csv")
    (tmp_path / "m.csv").write_text("image,class\nnone.png,b")
    with pytest.raises(DatasetError, match=r"none.png: no image file \(line 2 of m.csv\)"):
        read_classification(tmp_path / "m.csv")


def test_an_npz_as_medmnist_lays_it_out(tmp_path):
    path = write_npz(tmp_path / "shapes.npz", counts=(4, 5, 6))
    dataset = read_classification(path)
    assert (dataset.classes, dataset.spatial_dims, dataset.is_picture) == (("0", "1", "2"), 2, True)
    assert Counter(case.split for case in dataset.cases) == {"train": 15, "validation": 7, "test": 7}
    with np.load(path) as arrays:
        case = next(case for case in dataset.cases if case.id == "val_3")
        np.testing.assert_array_equal(read_image(case, 1).array, arrays["val_images"][3])
        assert case.label == str(arrays["val_labels"][3, 0])
    path.with_suffix(".json").write_text(json.dumps({"labels": {"0": "bar", "1": "post", "2": "cross"}}))
    assert read_classification(path).classes == ("bar", "post", "cross")
    assert read_classification(write_npz(tmp_path / "v.npz", volumes=True)).spatial_dims == 3


def test_colour_groups_and_a_missing_validation_part(tmp_path):
    images, labels = shape_arrays((6, 6))
    path = tmp_path / "c.npz"
    np.savez(path, train_images=np.stack([images] * 3, -1), train_labels=labels, train_groups=np.arange(12) // 2)
    dataset = read_classification(path)
    assert dataset.channel_names == ("red", "green", "blue")
    split = dataset.split()
    assert not {case.group for case in split.train} & {case.group for case in split.validation}
    assert split.validation


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": np.zeros((2, 4, 4))}, "arrays images; expected train_images and train_labels"),
        ({"train_images": np.zeros((2, 4, 4)), "train_labels": np.zeros((2, 14), int)}, "several labels per image"),
        ({"train_images": np.zeros((2, 4, 4)), "train_labels": np.array([0, 1, 2])}, "2 train_images and 3 train_"),
        ({"train_images": np.zeros((2, 4, 4)), "train_labels": np.array([0, 0])}, "1 class: 0; expected at least two"),
        ({"train_images": np.zeros((2, 4)), "train_labels": np.array([0, 1])}, r"train_images of shape \(2, 4\)"),
        ({"train_images": np.zeros((2, 4, 4)), "train_labels": np.array([None, 1])}, "no array train_labels that"),
    ],
)  # fmt: skip
def test_an_npz_that_cannot_be_used(tmp_path, arrays, words):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DatasetError, match=words) as caught:
        read_classification(tmp_path / "x.npz")
    assert "x.npz: " in str(caught.value)


def test_classes_where_label_maps_are_expected(tmp_path):
    with pytest.raises(DatasetError, match=r"s.npz: not a dataset.*fix: .*--task classification"):
        read_dataset(write_npz(tmp_path / "s.npz"))
    with pytest.raises(DatasetError, match=r"no dataset.json.*for folders of classes, --task classification"):
        read_dataset(write_folders(tmp_path / "data"))


def test_what_is_no_dataset(tmp_path):
    with pytest.raises(
        DatasetError, match="no such file or folder; expected a folder with a sub-folder for each class"
    ):
        read_classification(tmp_path / "none")
    (tmp_path / "x.npz").write_bytes(b"no zip")
    with pytest.raises(DatasetError, match=r"x.npz: not a \.npz"):
        read_classification(tmp_path / "x.npz")


@given(
    cases=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9)), min_size=2, max_size=40),
    fraction=st.floats(0.05, 0.5),
    seed=st.integers(0, 5),
)
@settings(deadline=None, max_examples=80)
def test_a_split_divides_no_group_and_leaves_every_class_to_train(cases, fraction, seed):
    made = [
        ImageCase(id=str(i), images=("x",), label=label, group=f"g{group}") for i, (label, group) in enumerate(cases)
    ]
    classes = tuple(sorted({label for label, _ in cases}))
    if len(classes) < 2:
        return
    split = dataset_of(made, classes).split(fraction=fraction, seed=seed)
    assert {case.label for case in split.train} == set(classes)
    if split.validation != split.train:
        assert not {case.group for case in split.train} & {case.group for case in split.validation}
        assert len(split.train) + len(split.validation) == len(made)
    again = dataset_of(made[::-1], classes).split(fraction=fraction, seed=seed)
    assert {case.id for case in again.validation} == {case.id for case in split.validation}


def test_each_class_gives_its_share_to_validation():
    cases = [
        ImageCase(id=f"{label}{i}", images=("x",), label=label) for label, n in (("a", 50), ("b", 10)) for i in range(n)
    ]
    found = Counter(case.label for case in dataset_of(cases).split(fraction=0.2).validation)
    assert found == {"a": 10, "b": 2}
    with pytest.raises(DatasetError, match="no case to train on for b"):
        dataset_of([ImageCase(id="1", images=("x",), label="a", split="train"),
                    ImageCase(id="2", images=("x",), label="b", split="validation")]).split()  # fmt: skip


def plan_for(path, **changes):
    dataset = read_classification(path)
    return dataset, draw_classification_plan(take_classification_facts(dataset), device="cpu", **changes)


def test_a_plan_for_small_pictures(tmp_path):
    _, plan = plan_for(write_npz(tmp_path / "s.npz", counts=(8, 8, 2)))
    assert (plan.image_size, plan.stem, plan.fit, plan.num_classes) == ((8, 8), "3x3", "resize", 3)
    assert plan.strides == (1, 1, 1, 2, 2)
    assert plan.mirror_axes == ()
    assert plan.class_balance == "weights"
    (window,) = plan.normalization
    assert window["kind"] == "window"
    assert window["high"] <= 255
    assert "4.0 times the cases" in plan.notes["class_balance"]
    with pytest.raises(PlanError, match="did you mean 'image_size'"):
        plan_for(tmp_path / "s.npz", image_sise=(4, 4))


def test_a_plan_for_scans_keeps_their_scale(tmp_path, image_writer):
    rng = np.random.default_rng(0)
    for name, count in (("low", 3), ("high", 3)):
        for number in range(count):
            scan = rng.normal(100, 20, (10, 96, 96)).astype(np.int16)
            image_writer(tmp_path / name / f"{number}.nii.gz", scan, (5.0, 1.0, 1.0))
    dataset, plan = plan_for(tmp_path)
    assert dataset.channel_names == ("intensity",)
    assert plan.normalization == ({"kind": "zscore"},)
    assert (plan.fit, plan.orientation, plan.spacing_mm) == ("crop", "SPL", (5.0, 1.0, 1.0))
    assert plan.image_size == (10, 96, 96)
    coarse = plan_for(tmp_path, spacing_mm=(10.0, 2.0, 2.0))[1]
    assert coarse.image_size == (5, 48, 48)


def test_images_are_prepared_once_and_again_when_their_file_changes(tmp_path):
    path = write_npz(tmp_path / "s.npz")
    dataset, plan = plan_for(path)
    cases = dataset.cases_of("train")
    first = prepare_images(cases, dataset, plan, tmp_path / "cache")
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 1
    image = first[3].image
    assert (image.shape, image.dtype) == ((1, 8, 8), np.float32)
    raw = read_image(cases[3], 1).array
    (rule,) = plan.normalization
    np.testing.assert_allclose(image[0], (raw - rule["mean"]) / rule["std"], atol=1e-5)
    stamp = first[0].path.stat().st_mtime_ns
    assert prepare_images(cases, dataset, plan, tmp_path / "cache")[0].path.stat().st_mtime_ns == stamp
    other = plan.with_changes(image_size=(4, 4))
    assert prepare_images(cases, dataset, other, tmp_path / "cache")[0].image.shape == (1, 4, 4)
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 2


@pytest.mark.parametrize("damage", [lambda whole: whole[:90], lambda whole: b"", lambda whole: bytes(len(whole)),
                                    lambda whole: whole[:-1] + bytes([whole[-1] ^ 1])])  # fmt: skip
@pytest.mark.parametrize("ending", [".npy", ".json"])
def test_a_damaged_prepared_image_is_prepared_anew(tmp_path, ending, damage):
    dataset, plan = plan_for(write_npz(tmp_path / "s.npz"))
    cases = dataset.cases_of("train")
    first = prepare_images(cases, dataset, plan, tmp_path / "cache")
    image, path = np.array(first[3].image), first[3].path.with_suffix(ending)
    path.write_bytes(damage(path.read_bytes()))
    assert np.array_equal(prepare_images(cases, dataset, plan, tmp_path / "cache")[3].image, image)
    other = np.zeros((3, 1, 4, 4), np.float32)  # a whole file of another size, as a moved cache may hold
    np.save(first[3].path, other)
    path.with_suffix(".json").unlink()
    assert prepare_images(cases, dataset, plan, tmp_path / "cache")[3].image.shape == (1, 8, 8)


def test_sampling_by_class_shows_every_class_equally_often(tmp_path):
    dataset, plan = plan_for(
        write_npz(tmp_path / "s.npz", counts=(9, 3, 1)), class_balance="sampling", augmentation="none"
    )
    samples = ImageSamples(prepare_images(dataset.cases_of("train"), dataset, plan, tmp_path / "cache"), plan)
    drawn = [samples.case(number) for number in range(27)]
    assert Counter(case.label for case in drawn) == {0: 9, 1: 9, 2: 9}
    assert len({case.id for case in drawn if case.label == 0}) == 9  # none twice before all were there
    plain = ImageSamples(samples.cases, plan.with_changes(class_balance="none"))
    assert len({plain.case(number).id for number in range(13)}) == 13


def test_a_sample_is_the_same_whenever_it_is_asked_for(tmp_path):
    dataset, plan = plan_for(write_npz(tmp_path / "s.npz"), augmentation="default", mirror_axes=(1,))
    samples = ImageSamples(prepare_images(dataset.cases_of("train"), dataset, plan, tmp_path / "cache"), plan)
    first = [samples[number] for number in range(12)]
    for number in reversed(range(12)):
        again = samples[number]
        assert again.image.shape == (1, 8, 8)
        np.testing.assert_array_equal(again.image, first[number].image)
        assert again.target == first[number].target
        assert samples.case(number).id == again.case
