"""Tasks of TotalSegmentator with toy weights, beside a step-by-step reference; and the table of tasks."""

import json

import nibabel
import numpy as np
import pydicom
import pytest
from delivery.series import write_series
from hypothesis import given, settings
from hypothesis import strategies as some
from nnunet.total_reference import reference
from nnunet.total_toys import write_scan, write_weights
from scipy import ndimage

from resvox.errors import InferenceError, WeightsError
from resvox.prediction.options import PredictOptions
from resvox.prediction.outputs import label_set_of
from resvox.prediction.totalsegmentator.choices import TotalChoices
from resvox.prediction.totalsegmentator.cleaning import cleaned
from resvox.prediction.totalsegmentator.geometry import box_around, canonical
from resvox.prediction.totalsegmentator.predictor import TotalSegmenter
from resvox.prediction.totalsegmentator.table import Cleaning, codes_of, task_names, task_of
from resvox.prediction.totalsegmentator.weights import results_folder
from resvox.volumes import Grid, read_volume
from resvox.workflow import predict

PLAIN = {"engine": "torch-plain", "precision": "float32"}
RAS = nibabel.orientations.axcodes2ornt("RAS")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights of all tasks that are run here."""
    results = tmp_path_factory.mktemp("results")
    write_weights(results, "total")
    for task, run in (
        ("total", "fastest"),
        ("total", "fast"),
        ("body", "fast"),
        ("liver_vessels", "default"),
        ("total_mr", "fast"),
    ):
        write_weights(results, task, run=run)
    return results


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Scans with other axes than the models, one of them oblique, and with fractions."""
    folder = tmp_path_factory.mktemp("scans")
    write_scan(folder / "a.nii.gz", codes="LPS")
    write_scan(folder / "b.nii.gz", codes="SAR", shape=(15, 20, 24), turn=0.3, dtype=np.float32, seed=1)
    return folder


@pytest.fixture(scope="module")
def wide_scan(tmp_path_factory):
    """A scan of which a region is a part."""
    path = tmp_path_factory.mktemp("wide") / "scan.nii.gz"
    return write_scan(path, shape=(24, 26, 22), spacing_mm=(4.0, 3.5, 5.0), dtype=np.float32, seed=2)


def labels_in(path):
    return np.asanyarray(nibabel.load(path).dataobj)


def options(task, weights, **choices):
    return PredictOptions(model=task, total=TotalChoices(weights_folder=weights, **choices), **PLAIN)


# --- whole tasks ---------------------------------------------------------------------------------------------------


def test_five_parts_are_merged_as_by_the_reference(weights, scans, tmp_path):
    result = predict("total", scans, tmp_path / "out", total=TotalChoices(weights_folder=weights), **PLAIN)
    assert [case.status for case in result.cases] == ["written", "written"]
    for case in "ab":
        made = labels_in(tmp_path / "out" / f"{case}.nii.gz")
        wanted = reference("total", scans / f"{case}.nii.gz", weights, tmp_path, **PLAIN)
        assert np.array_equal(made, wanted)
        # every part has labels, and the voxels of an earlier one are written over by a later one
        assert {int(np.searchsorted((24, 50, 68, 91), value)) for value in np.unique(made) if value} == set(range(5))
    affine, source = (nibabel.load(folder / "b.nii.gz").affine for folder in (tmp_path / "out", scans))
    assert np.allclose(affine, source, atol=1e-4)
    again = predict("total", scans, tmp_path / "out", total=TotalChoices(weights_folder=weights), **PLAIN)
    assert [case.status for case in again.cases] == ["present", "present"]
    line = json.loads((tmp_path / "out" / "predict.jsonl").read_text().splitlines()[0])
    assert len(line["options"]["also"]) == 4
    assert line["options"]["overlap"] == [0.2] * 5


@pytest.mark.parametrize(
    ("task", "run", "choices"),
    [
        ("total", "fastest", {"resampling_order": 3}),
        ("body", "fast", {}),
        ("total_mr", "fast", {}),
    ],
)
def test_resolutions_are_those_of_the_reference(weights, scans, tmp_path, task, run, choices):
    segmenter = TotalSegmenter(options(task, weights, run=run, **choices))
    for case in "ab":
        made = segmenter.segment(read_volume(scans / f"{case}.nii.gz")).label_map.array.T
        order = choices.get("resampling_order", 1)
        assert np.array_equal(
            made, reference(task, scans / f"{case}.nii.gz", weights, tmp_path, run=run, order=order, **PLAIN)
        )
        assert len(np.unique(made)) > 1


def test_a_task_looks_around_what_another_one_finds(weights, wide_scan, tmp_path):
    """The box is a part of the scan, and what is outside is 0."""
    made = TotalSegmenter(options("liver_vessels", weights)).segment(read_volume(wide_scan)).label_map.array.T
    assert np.array_equal(made, reference("liver_vessels", wide_scan, weights, tmp_path, **PLAIN))
    assert made.any()
    assert not made.any(axis=(1, 2)).all()


@pytest.mark.parametrize(("run", "wide"), [("fastest", True), ("fast", True), ("default", False)])
def test_a_subset_is_looked_for_around_itself(weights, scans, wide_scan, tmp_path, run, wide):
    scan = wide_scan if wide else scans / "a.nii.gz"
    volume = read_volume(scan)
    whole = TotalSegmenter(options("total", weights, run="fastest")).segment(volume).label_map.array
    values, counts = np.unique(whole, return_counts=True)
    rare = [int(value) for value in values[counts.argsort()] if value][:3]
    subset = tuple(name for name, value in task_of("total").labels.items() if value in rare)
    made = TotalSegmenter(options("total", weights, run=run, roi_subset=subset)).segment(volume).label_map.array.T
    assert np.array_equal(made, reference("total", scan, weights, tmp_path, run=run, subset=subset, **PLAIN))
    assert made.any() or run != "fastest"  # other models know other labels
    assert set(np.unique(made)) <= {0, *rare}


def test_a_subset_runs_the_models_that_it_needs(weights):
    segmenter = TotalSegmenter(options("total", weights, roi_subset=("aorta", "heart")))
    names = [path.parts[-4][:10] for path in segmenter.paths]
    assert names == ["Dataset293", "Dataset298"]  # the part, and the models of 6 mm for its region
    assert segmenter.card.labels == {"background": 0, "heart": 51, "aorta": 52}


def test_progress_is_that_of_all_models(weights, wide_scan):
    parts = []
    segmenter = TotalSegmenter(options("liver_vessels", weights))
    made = segmenter.segment(read_volume(wide_scan), progress=lambda done, total: parts.append(done / total))
    assert parts == sorted(parts)
    assert parts[-1] == 1
    assert made.windows == len(parts) - segmenter.chain.models  # each model also reports that it begins


def test_nothing_found_where_a_task_would_look(weights, scans):
    segmenter = TotalSegmenter(options("liver_vessels", weights))
    volume = read_volume(scans / "a.nii.gz")
    air = volume.with_array(np.full_like(volume.array, -1000))
    done = []
    made = segmenter.segment(air, progress=lambda *counts: done.append(counts))
    assert made.label_map.grid == volume.grid
    assert not made.label_map.array.any()
    assert done[-1][0] == done[-1][1]


# --- geometry ------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    shape=some.tuples(*[some.integers(1, 9)] * 3),
    spacing=some.tuples(*[some.floats(0.5, 6.0, width=32)] * 3),
    codes=some.sampled_from(("RAS", "LPS", "SAR", "IPL", "ASL")),
    turn=some.floats(-0.7, 0.7),
    wanted=some.sampled_from(((1.5, 1.5, 1.5), (3.0, 3.0, 3.0), (0.703125, 0.703125, 1.0))),
    order=some.sampled_from((1, 3)),
    whole=some.booleans(),
)
def test_orientation_and_resampling_are_those_of_nibabel_and_scipy(
    tmp_path_factory, shape, spacing, codes, turn, wanted, order, whole
):
    path = tmp_path_factory.mktemp("one") / "scan.nii.gz"
    write_scan(path, shape=shape, spacing_mm=spacing, codes=codes, turn=turn, dtype=np.int16 if whole else np.float32)
    image, volume = nibabel.load(path), read_volume(path)
    turned = nibabel.as_closest_canonical(nibabel.Nifti1Image(image.get_fdata(), image.affine))
    zooms = np.array(turned.header.get_zooms())
    expected, factors = turned.get_fdata(), zooms / np.array(wanted)
    if any(round(n * factor) == 0 for n, factor in zip(turned.shape, factors, strict=True)):
        with pytest.raises(InferenceError, match="mm thick"):
            canonical(volume.array, volume.grid, spacing_mm=wanted, order=order)
        return
    if not np.array_equal(zooms, wanted):
        expected = ndimage.zoom(expected, factors, order=order, mode="nearest").astype(np.int32)
    made = canonical(volume.array, volume.grid, spacing_mm=wanted, order=order)
    assert np.array_equal(made.volume.array.T, expected)
    labels = np.random.default_rng(0).integers(0, 200, expected.shape).astype(np.uint8)
    back = labels
    if labels.shape != turned.shape:
        back = ndimage.zoom(labels, np.array(turned.shape) / np.array(labels.shape), order=0, mode="nearest")
    order_back = nibabel.orientations.ornt_transform(RAS, nibabel.io_orientation(image.affine))
    assert np.array_equal(made.inverse(labels.T).T, nibabel.orientations.apply_orientation(back, order_back))


def test_intensities_of_a_box_are_cut_to_whole_numbers():
    array = np.random.default_rng(0).normal(0, 3, (4, 5, 6)).astype(np.float32)
    grid = Grid(array.shape, spacing_mm=(1.0, 2.0, 3.0))
    made = canonical(array, grid, spacing_mm=None, order=1, whole_numbers=True).volume.array
    assert np.array_equal(np.sort(made, axis=None), np.sort(np.trunc(array), axis=None))
    kept = canonical(array, grid, spacing_mm=None, order=1).volume.array
    assert np.array_equal(np.sort(kept, axis=None), np.sort(array, axis=None))


def test_the_box_around_what_was_found():
    mask = np.zeros((10, 20, 30), bool)
    grid = Grid(mask.shape, spacing_mm=(5.0, 2.0, 0.7))
    assert box_around(mask, grid, 20.0) is None
    mask[4, 15, 3:9] = True
    assert box_around(mask, grid, 20.0) == (slice(0, 9), slice(5, 20), slice(0, 30))
    assert box_around(mask, grid, 0.69) == (slice(4, 5), slice(15, 16), slice(3, 9))


def test_small_components_are_removed():
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[0, 0, :3] = labels[2, :2, :3] = labels[5, 5, 5] = 1
    labels[4, 0, :4] = labels[4, 2, :2] = 2
    rules = (Cleaning(label="a"), Cleaning(label="b", up_to_mm3=16.0))
    made = cleaned(labels, rules, {"a": 1, "b": 2}, (2.0, 2.0, 2.0))
    assert np.argwhere(made == 1).tolist() == [[2, y, x] for y in range(2) for x in range(3)]
    assert np.argwhere(made == 2).tolist() == [[4, 0, x] for x in range(4)]


# --- the table -----------------------------------------------------------------------------------------------------


def test_the_table_is_whole():
    assert len(task_of("total").labels) == 117
    assert len(task_of("total_mr").labels) == 50
    assert task_of("total").labels["spleen"] == 1
    assert task_of("total").labels["costal_cartilages"] == 117
    for name in task_names():
        task = task_of(name)
        assert "default" in task.runs
        for run in task.runs.values():
            covered = [label for model in run.models for label in model.labels]
            assert covered == list(task.labels)  # each label by one model, in the order of their values
            assert all(rule.label in task.labels for rule in run.clean)
            assert max(task.labels.values()) < 256
            if run.crop is not None:
                other = task_of(run.crop.task)
                assert run.crop.run in other.runs
                assert set(run.crop.labels) <= set(other.labels)


def test_the_codes_of_labels():
    assert set(codes_of(tuple(task_of("total").labels))) == set(task_of("total").labels)
    codes = codes_of(("rib_left_3", "kidney_cyst_right", "liver"))
    assert codes["rib_left_3"]["type"] == {"value": "25888004", "meaning": "Third rib", "scheme": "SCT"}
    assert codes["rib_left_3"]["side"] == "left"
    assert codes["kidney_cyst_right"]["category"]["value"] == "49755003"
    assert "side" not in codes["liver"]


def test_results_name_structures_by_these_codes(weights):
    card = TotalSegmenter(options("total", weights, roi_subset=("aorta", "rib_left_3"))).card
    named = {each.name: each.structure for each in label_set_of(card).labels}
    assert named["rib_left_3"].type.value == "25888004"
    assert named["rib_left_3"].side.meaning == "Left"


def test_a_dicom_object_has_the_labels_and_codes(weights, tmp_path):
    series = write_series(tmp_path / "series", shape=(20, 24, 24))
    choices = TotalChoices(weights_folder=weights, run="fastest")
    result = predict("total", series, tmp_path / "out", total=choices, dicom="seg", sidecar=True, **PLAIN)
    assert [case.status for case in result.cases] == ["written"]
    (path,) = (tmp_path / "out").glob("*_seg.dcm")
    found = {}
    for each in pydicom.dcmread(path).SegmentSequence:
        code = each.SegmentedPropertyTypeCodeSequence[0]
        found[each.SegmentLabel] = (code.CodingSchemeDesignator, code.CodeValue)
    assert found.items() >= {"liver": ("SCT", "10200004"), "rib_left_3": ("SCT", "25888004")}.items()
    assert list(found) == list(task_of("total").labels)
    assert pydicom.dcmread(path).SegmentSequence[0].SegmentAlgorithmName == "TotalSegmentator total"


# --- what is refused -----------------------------------------------------------------------------------------------


def refused(kind, call, *words):
    with pytest.raises(kind) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    assert all(word in text for word in words), text


def test_weights_that_are_not_there(tmp_path, monkeypatch):
    scan = write_scan(tmp_path / "scan.nii.gz")
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path / "none"))
    words = (
        "Dataset291_TotalSegmentator_part1",
        "Dataset295",
        "totalseg_download_weights -t total",
        "--weights-folder",
    )
    refused(WeightsError, lambda: predict("total", scan, tmp_path / "out"), *words, str(tmp_path / "none"))
    assert not (tmp_path / "out").exists()
    write_weights(tmp_path / "some", "liver_vessels", only=(0,))
    (tmp_path / "some" / "Dataset298_TotalSegmentator_total_6mm_1559subj").rename(tmp_path / "away")
    choices = TotalChoices(weights_folder=tmp_path / "some")
    words = ("task total", "Dataset298_TotalSegmentator_total_6mm_1559subj", "that folder")
    refused(WeightsError, lambda: predict("liver_vessels", scan, tmp_path / "out", total=choices), *words)


def test_weights_of_another_version(tmp_path):
    folder = write_weights(tmp_path, "total", run="fastest") / "Dataset298_TotalSegmentator_total_6mm_1559subj"
    (folder / "nnUNetTrainer_4000epochs_NoMirroring__nnUNetPlans__3d_fullres").rename(folder / "nnUNetTrainer__a__b")
    words = ("nnUNetTrainer_4000epochs_NoMirroring", "nnUNetTrainer__a__b", "download it again")
    refused(WeightsError, lambda: TotalSegmenter(options("total", tmp_path, run="fastest")), *words)


def test_where_weights_are_looked_for(tmp_path, monkeypatch):
    for name in ("TOTALSEG_WEIGHTS_PATH", "TOTALSEG_HOME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert results_folder(None) == tmp_path / ".totalsegmentator" / "nnunet" / "results"
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(tmp_path / "home"))
    assert results_folder(None) == tmp_path / "home" / "nnunet" / "results"
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path / "weights"))
    assert results_folder(None) == tmp_path / "weights"
    (tmp_path / "home" / "nnunet" / "results").mkdir(parents=True)
    assert results_folder(tmp_path / "home") == tmp_path / "home" / "nnunet" / "results"
    assert results_folder("~/own") == tmp_path / "own"


def test_options_that_do_not_fit(weights, tmp_path):
    scan = write_scan(tmp_path / "scan.nii.gz")

    def run(task="total", choices=None, **others):
        total = TotalChoices(weights_folder=weights, **(choices or {}))
        return lambda: predict(task, scan, tmp_path / "out", total=total, **others)

    refused(InferenceError, run(choices={"roi_subset": ("livr",)}), "livr", "117 labels", "liver")
    refused(InferenceError, run("liver_vessels", {"run": "fast"}), "--fast", "liver_vessels", "leave --fast out")
    refused(InferenceError, run(mirror=True), "mirroring", "leave --mirror out")
    refused(InferenceError, run(probabilities=True), "probabilities", "TotalSegmentator")
    refused(InferenceError, run(folds=("0",)), "folds", "TotalSegmentator")
    (folder,) = weights.glob("Dataset291*/*")
    refused(InferenceError, run(folder), "--weights-folder", "leave --weights-folder out")
    assert not (tmp_path / "out").exists()


def test_names_that_are_no_tasks_and_the_wrong_order(scans, tmp_path):
    words = ("liver_vesels", "a task of TotalSegmentator", "fix: liver_vessels")
    refused(WeightsError, lambda: predict("liver_vesels", scans, tmp_path / "out"), *words)
    words = ("not a model, but total among the inputs is one", f"resvox predict total {scans}")
    refused(WeightsError, lambda: predict(scans, "total", tmp_path / "out"), *words)


def test_a_model_of_the_name_of_a_task_is_that_model(weights, tmp_path, monkeypatch):
    (folder,) = weights.glob("Dataset298*/*")
    (tmp_path / "total").symlink_to(folder)
    write_scan(tmp_path / "scan.nii.gz")
    monkeypatch.chdir(tmp_path)
    result = predict("total", "scan.nii.gz", "out", **PLAIN)
    assert [case.status for case in result.cases] == ["written"]
    line = json.loads((tmp_path / "out" / "predict.jsonl").read_text())
    assert "task" not in line["options"]
