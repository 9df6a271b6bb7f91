"""A model for regions from its file to label maps, masks, exports and scores."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import resvox
from resvox.errors import InferenceError, WeightsError
from resvox.inference import labels_from_regions, region_probabilities_from_logits
from resvox.prediction.segmenter import Segmenter
from resvox.volumes import Volume, read_label_map, read_volume, write_label_map, write_volume
from resvox.workflow import evaluate, export, predict

ENDINGS = {"torchscript": ".pt", "torch-export": ".pt2", "onnx": ".onnx", "openvino": ".xml"}
REGIONS = {"whole tumour": [1, 2, 4], "core": [2, 4], "Core": [4]}  # two names that are one on some file systems
ORDER = [1, 2, 4]
PLAIN = {"engine": "torch-plain", "device": "cpu"}


@pytest.fixture(scope="module")
def model(make_model, tmp_path_factory):
    """A 2D model whose three outputs are each above and below 0 somewhere."""
    from resvox.weights import read_header

    torch.manual_seed(1)
    network = resvox.load_model(make_model(spatial_dims=2))
    with torch.no_grad():
        network.head.weight.normal_(0, 3)
        network.head.bias -= network(torch.randn(4, 1, 16, 16)).mean((0, 2, 3))
    metadata = {**read_header(make_model(spatial_dims=2)).metadata, "regions": REGIONS, "regions_class_order": ORDER}
    del metadata["labels"], metadata["colours"]
    return resvox.save_model(network, tmp_path_factory.mktemp("regions") / "model.safetensors", metadata=metadata)


@pytest.fixture
def picture():
    rng = np.random.default_rng(0)
    return Volume(rng.integers(-900, 900, (23, 31)).astype(np.int16), spacing_mm=(1.0, 1.0))


def logits_of(segmenter, volume):
    from resvox.inference import TorchEngine, sliding_window_inference

    prepared = segmenter.prepare(volume)
    engine = TorchEngine(resvox.load_model(segmenter.path), device="cpu", precision="float32")
    logits = sliding_window_inference(prepared.array, engine, roi_size=8, overlap=0.25)
    return prepared.restore_scores(logits).array


@pytest.mark.parametrize("engine", ["torch-plain", "torch", "auto"])
def test_the_label_map_is_that_of_the_thresholds_in_order(engine, model, picture):
    segmenter = Segmenter(model, engine=engine, device="cpu", precision="float32", region_masks=True)
    logits = logits_of(segmenter, picture)
    sure = (np.abs(logits) > 1e-3).all(axis=0)
    made = segmenter.segment(picture, probabilities=True)
    np.testing.assert_array_equal(made.label_map.array[sure], labels_from_regions(logits, ORDER)[sure])
    assert set(np.unique(made.label_map.array)) == {0, 1, 2, 4}
    np.testing.assert_array_equal(made.region_masks.array[:, sure], (logits > 0)[:, sure])
    assert (made.region_masks.array.sum(axis=0) > 1).any()  # regions overlap
    np.testing.assert_allclose(made.probabilities.array, region_probabilities_from_logits(logits), atol=1e-4)
    assert segmenter.labels == {"background": 0, "rest of whole tumour": 1, "rest of core": 2, "Core": 4}


def test_labels_first_and_tiles_and_skipped_windows(model, picture):
    whole = Segmenter(model, **PLAIN).segment(picture)
    labels_first = Segmenter(model, resample="labels", **PLAIN).segment(picture)
    np.testing.assert_array_equal(labels_first.label_map.array, whole.label_map.array)
    half = picture.array.copy()
    half[:, :16] = -1000
    empty = Segmenter(model, skip_empty=True, overlap=0, **PLAIN).segment(picture.with_array(half))
    assert empty.skipped
    assert not empty.label_map.array[:, :8].any()


def test_folds_of_regions_are_averaged(model, picture, tmp_path):
    for name in ("fold_0", "fold_1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(model.read_bytes())
    alone, both = (Segmenter(each, **PLAIN).segment(picture) for each in (model, tmp_path))
    np.testing.assert_array_equal(alone.label_map.array, both.label_map.array)


def test_files_of_a_batch_and_a_second_run(model, picture, tmp_path):
    write_volume(picture, tmp_path / "scans" / "a.nii.gz")
    options = {"probabilities": True, "region_masks": True, **PLAIN}
    result = predict(model, tmp_path / "scans", tmp_path / "out", **options)
    assert result.ok
    names = sorted(path.name for path in (tmp_path / "out").iterdir() if path.name.startswith("a"))
    masks = ["a_region_Core_2.nii.gz", "a_region_core.nii.gz", "a_region_whole_tumour.nii.gz"]
    assert names == ["a.nii.gz", "a_probabilities.nii.gz", *masks]
    label_map = read_label_map(tmp_path / "out/a.nii.gz").array
    likely = read_volume(tmp_path / "out/a_probabilities.nii.gz").array
    read = [read_label_map(tmp_path / "out" / name).array for name in reversed(masks)]
    for mask, chance in zip(read, likely, strict=True):
        np.testing.assert_array_equal(mask[np.abs(chance - 0.5) > 1e-6], (chance > 0.5)[np.abs(chance - 0.5) > 1e-6])
    written = np.zeros_like(label_map)
    for mask, value in zip(read, ORDER, strict=True):
        written[mask > 0] = value
    np.testing.assert_array_equal(written, label_map)
    assert str(predict(model, tmp_path / "scans", tmp_path / "out", **options)) == "1 already done"
    (tmp_path / "out" / masks[0]).unlink()
    assert [case.status for case in predict(model, tmp_path / "scans", tmp_path / "out", **options).cases] == [
        "written"
    ]


def test_what_was_written_beside_scans_is_no_scan(model, picture, tmp_path):
    write_volume(picture, tmp_path / "a.nii.gz")
    for words in ("1 written", "1 already done"):
        result = predict(model, tmp_path, tmp_path, suffix="_seg", region_masks=True, **PLAIN)
        assert [case.id for case in result.cases] == ["a"]
        assert words in str(result)
    assert (tmp_path / "a_seg_region_core.nii.gz").is_file()


def test_masks_of_a_model_for_labels_are_refused(make_model):
    with pytest.raises(InferenceError, match=r"region_masks=True with a model for labels.*leave --region-masks out"):
        Segmenter(make_model(spatial_dims=2), region_masks=True)


def test_a_network_with_other_outputs_than_regions_is_refused(model, picture, tmp_path):
    from resvox.weights import read_header

    metadata = {**read_header(model).metadata, "regions": {"one": [1]}, "regions_class_order": [1]}
    path = resvox.save_model(resvox.load_model(model), tmp_path / "m.safetensors", metadata=metadata)
    for resample in ("logits", "labels"):
        with pytest.raises(InferenceError, match=r"expected .* 1$"):
            Segmenter(path, resample=resample, **PLAIN).segment(picture)
    del metadata["regions_class_order"]
    path = resvox.save_model(resvox.load_model(model), tmp_path / "without.safetensors", metadata=metadata)
    with pytest.raises(WeightsError, match=r"a model file without regions_class_order"):
        Segmenter(path)


@pytest.mark.parametrize("kind", ENDINGS)
def test_an_exported_network_predicts_the_same_regions(kind, model, picture, tmp_path):
    done = export(model, tmp_path / f"net{ENDINGS[kind]}", format=kind)
    assert done.check.labels_changed is not None
    described = json.loads(done.description.read_text())
    assert described["output"]["meaning"] == "logits of regions, each with its own sigmoid"
    assert described["metadata"]["regions"] == REGIONS
    expected = Segmenter(model, region_masks=True, **PLAIN).segment(picture)
    made = Segmenter(done.path, region_masks=True, device="cpu").segment(picture)
    np.testing.assert_array_equal(made.label_map.array, expected.label_map.array)
    np.testing.assert_array_equal(made.region_masks.array, expected.region_masks.array)


# ------------------------------------------------------------------------------------------------- scores


@pytest.fixture
def folders(tmp_path):
    """References with ignored voxels, and predictions that are right but for "core" where "Core" is."""
    rng = np.random.default_rng(0)
    truth = rng.choice(np.array([0, 1, 2, 4, 9], np.uint8), (6, 7, 8))
    for name in "ab":
        write_label_map(Volume(truth, spacing_mm=(1.0,) * 3), tmp_path / f"references/{name}.nii.gz")
        guess = np.where(truth == 4, 2, np.where(truth == 9, 1, truth)).astype(np.uint8)
        write_label_map(Volume(guess, spacing_mm=(1.0,) * 3), tmp_path / f"predictions/{name}.nii.gz")
        write_label_map(Volume(guess, spacing_mm=(1.0,) * 3), tmp_path / f"predictions/{name}_region_core.nii.gz")
    return tmp_path / "predictions", tmp_path / "references"


def test_regions_and_the_ignored_value_of_a_model_are_scored(model, folders, tmp_path):
    from resvox.weights import read_header

    metadata = {**read_header(model).metadata, "ignore": 9}
    path = resvox.save_model(resvox.load_model(model), tmp_path / "m.safetensors", metadata=metadata)
    result = evaluate(*folders, labels=path, json_path=tmp_path / "scores.json")
    assert result.labels == {"whole tumour": (1, 2, 4), "core": (2, 4), "Core": 4}
    assert (result.missing, result.extra) == ((), ())  # masks of regions are no cases
    assert "ignored value 9" in result.remarks[0]
    scores = json.loads((tmp_path / "scores.json").read_text())["a"]
    assert {name: each["dice"] for name, each in scores.items()} == {"whole tumour": 1, "core": 1, "Core": 0}


@pytest.mark.parametrize("listed", [False, True])
def test_of_a_partly_labelled_case_only_its_labels_are_scored(folders, tmp_path, listed):
    described = {"labels": {"whole": [1, 2, 4], "core": [2, 4], "ignore": 9}}
    if listed:
        described["training"] = [
            {"image": "a.nii.gz", "label": "references/a.nii.gz", "labelled": ["whole"]},
            {"image": "b.nii.gz", "label": "references/b.nii.gz"},
        ]
    else:
        described["labelled"] = {"a": ["whole"]}
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    result = evaluate(*folders)
    assert {case: list(scores) for case, scores in result.scores.to_dict().items()} == {
        "a": ["whole"],
        "b": ["whole", "core"],
    }
    assert not [remark for remark in result.remarks if "no label has" in remark]


def test_an_unknown_name_of_a_partly_labelled_case_is_refused(folders, tmp_path):
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"whole": [1, 2, 4]}, "labelled": {"a": ["hole"]}}))
    with pytest.raises(Exception, match=r"dataset\.json: case 'a' is labelled with 'hole'"):
        evaluate(*folders)
