"""The demo's datasets, and a very short demo from end to end."""

from __future__ import annotations

import importlib.util
import json

import nibabel
import numpy as np
import pytest
import slicerio

from resvox.errors import DatasetError
from resvox.training import read_dataset
from resvox.workflow import demo
from resvox.workflow.demo import plan as demo_plan
from resvox.workflow.demo.data import make_chest_dataset, make_spine_dataset, segment_values


def test_the_chest_dataset_has_four_labels_by_name(tmp_path):
    data = make_chest_dataset(tmp_path / "dataset")
    dataset = read_dataset(data.dataset)
    assert list(dataset.foreground) == ["right lung", "left lung", "ribs", "spine"]
    label_map = np.asarray(nibabel.load(data.reference).dataobj)
    voxels = {name: int((label_map == value).sum()) for name, value in dataset.foreground.items()}
    # Counted in 3D Slicer's own file; the spine is its three columns together.
    spine = 1216 + 2712 + 3259
    assert voxels == {"right lung": 34450, "left lung": 33700, "ribs": 8487, "spine": spine}
    assert not data.unseen
    make_chest_dataset(tmp_path / "dataset")  # a second demo in the same place


def test_scan_and_label_map_lie_on_the_files_grid(tmp_path):
    data = make_chest_dataset(tmp_path / "dataset")
    import nrrd

    header = nrrd.read_header(slicerio.get_testdata_file("CTChest4.nrrd"))
    lps_to_ras = np.diag([-1.0, -1, 1])
    for path in (data.image, data.reference):
        image = nibabel.load(path)
        assert image.shape == (128, 128, 34)
        np.testing.assert_allclose(image.affine[:3, :3], lps_to_ras @ header["space directions"].T, atol=1e-4)
        np.testing.assert_allclose(image.affine[:3, 3], lps_to_ras @ header["space origin"], atol=1e-3)


def test_the_right_lung_is_on_the_patients_right(tmp_path):
    data = make_chest_dataset(tmp_path / "dataset")
    label_map = nibabel.load(data.reference)
    array = np.asarray(label_map.dataobj)

    def right_mm(name):  # nibabel's world x grows to the patient's right
        index = np.argwhere(array == data.labels[name]).mean(axis=0)
        return (label_map.affine @ [*index, 1])[0]

    assert right_mm("right lung") > right_mm("left lung") + 100


def test_segment_names_are_read_from_the_header(tmp_path):
    values = segment_values(slicerio.get_testdata_file("Segmentation.seg.nrrd"))
    assert values["right lung"] == 5
    assert "thoracic vertebral column" in values


def test_the_spine_dataset_scores_a_case_that_does_not_train(tmp_path):
    data = make_spine_dataset(tmp_path / "dataset")
    dataset = read_dataset(data.dataset)
    assert [case.id for case in dataset.split().train] == ["chest"]
    assert [case.id for case in dataset.split().validation] == ["chest"]
    assert data.case == "lumbar"
    assert data.unseen
    assert set(np.unique(np.asarray(nibabel.load(data.reference).dataobj))) == {0, 1}
    np.testing.assert_allclose(nibabel.load(data.image).affine, nibabel.load(data.reference).affine, atol=1e-4)


@pytest.mark.parametrize(
    ("missing", "make", "command"),
    [
        ("slicerio", make_chest_dataset, r"pip install 'resvox\[demo\]'"),
        ("TPTBox", make_spine_dataset, "pip install --no-deps tptbox"),
    ],
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch, missing, make, command):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else real(name))
    with pytest.raises(DatasetError, match=f"{missing}.*is not installed.*{command}"):
        make(tmp_path / "dataset")
    assert not (tmp_path / "dataset").exists()


def test_a_dataset_of_someone_else_is_left_alone(tmp_path):
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "dataset.json").write_text('{"name": "ten years of work"}')
    with pytest.raises(DatasetError, match=r"a dataset that the demo did not make.*another folder"):
        make_chest_dataset(tmp_path / "dataset")


@pytest.fixture
def small_demo_plan(monkeypatch):
    """The demo's own plan with a net and a grid for seconds, not minutes."""
    draw = demo_plan.draw_demo_plan

    def draw_small(data, **options):
        return draw(data, **options).with_changes(
            encoder="resnet10", encoder_depth=2, decoder_filters=(8, 8), strides=(2, 2, 1, 1, 1),
            patch_size=(16, 32, 32), spacing_mm=(12.0, 12.0, 12.0), overlap=0.0,
        )  # fmt: skip

    monkeypatch.setattr(demo_plan, "draw_demo_plan", draw_small)


def test_a_very_short_demo_from_end_to_end(tmp_path, small_demo_plan):
    heard = []
    result = demo(tmp_path / "demo", steps=2, progress=False, on_part=heard.append)
    assert len(heard) == 4
    scan = nibabel.load(tmp_path / "demo" / "dataset" / "imagesTr" / "chest_0000.nii.gz")
    prediction = nibabel.load(tmp_path / "demo" / "prediction.nii.gz")
    assert prediction.shape == scan.shape
    np.testing.assert_allclose(prediction.affine, scan.affine, atol=1e-4)
    assert prediction.header.get_zooms() == pytest.approx(scan.header.get_zooms())
    metrics = json.loads((tmp_path / "demo" / "metrics.json").read_text())
    assert list(metrics) == ["chest"]
    assert list(metrics["chest"]) == ["right lung", "left lung", "ribs", "spine"]
    assert set(metrics["chest"]["spine"]) == {"dice", "hd95_mm", "surface_dice"}
    assert (tmp_path / "demo" / "model.safetensors").is_file()
    text = result.report.read_text(encoding="utf-8")
    assert "the scan on which it was trained" in text
    assert "does not show that the network generalises" in text
    assert "resvox predict" in text
    assert text.count("data:image/png;base64,") == 3  # overlays, and the curve for light and dark screens
