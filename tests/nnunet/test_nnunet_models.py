"""Models of nnU-Net: stored toy models beside the label maps that nnU-Net 2.8.1 made with them (`peer_runs.py`)."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from nnunet.half_bounds import explained

from resvox.errors import InferenceError, WeightsError
from resvox.inference.blending import importance_map
from resvox.inference.windows import window_starts
from resvox.prediction.nnunet.stages import keep_largest
from resvox.prediction.segmenter import Segmenter
from resvox.preprocessing import preprocessing_of
from resvox.preprocessing.nnunet import IntensityRule, NnunetPreprocessing, Resampling, Resize, separate_axis
from resvox.preprocessing.nnunet.resampling import resized, resized_fast
from resvox.volumes import Grid, Volume, find_cases, read_case, read_label_map, write_volume
from resvox.workflow import convert, predict

REFERENCES = Path(__file__).parent / "references"
CASES = ("thick_slices", "slices", "transposed")
# Bits of a convolution differ between processors and numbers of threads, and decide where logits are equal to their
# last digits; on the machine that made the references no voxel differs.
ANOTHER_PROCESSOR = 0.002


def model_of(case):
    (folder,) = (REFERENCES / case / "models" / "Dataset001_Toy").iterdir()
    return folder


def differing(case, segmenter):
    """Fraction of voxels with another label than nnU-Net's."""
    labels = np.load(REFERENCES / case / "labels.npz")
    found = find_cases(REFERENCES / case / "scans", channels=1)
    maps = [segmenter.segment(read_case(each)).label_map.array for each in found]
    assert len(maps) == len(labels.files)
    return max(float(np.mean(made != labels[f"labels{number}"])) for number, made in enumerate(maps))


@pytest.mark.parametrize("case", CASES)
def test_label_maps_are_those_of_nnunet(case):
    assert differing(case, Segmenter(model_of(case), exact=True)) <= ANOTHER_PROCESSOR


@pytest.mark.parametrize("case", CASES)
def test_default_labels_differ_only_where_float16_decides(case):
    labels = np.load(REFERENCES / case / "labels.npz")
    for number, each in enumerate(find_cases(REFERENCES / case / "scans", channels=1)):
        found = explained(model_of(case), read_case(each), labels[f"labels{number}"])
        assert found.unexplained == 0
        assert found.own_error < 1e-5
        assert found.differing <= found.possible <= 0.05 * found.voxels


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("speed", ["balanced", "fast"])
def test_a_speed_is_used_as_far_as_it_may_change_labels(case, speed, tmp_path, monkeypatch):
    monkeypatch.setenv("RESVOX_CACHE", str(tmp_path))
    volume = read_case(find_cases(REFERENCES / case / "scans", channels=1)[0])
    full = Segmenter(model_of(case), engine="torch-plain").segment(volume)
    segmenter = Segmenter(model_of(case), engine="torch-plain", speed=speed, mirror=True)
    first, second = segmenter.segment(volume), segmenter.segment(volume)
    assert np.array_equal(first.label_map.array, full.label_map.array)
    record = second.log["speed"]
    assert record["computed"] <= record["measured"]["windows"] == first.log["speed"]["computed"]
    # measured on the network's grid, and compared here on the scan's, which has a few thousand other voxels
    other_grid = 0.01
    changed = float(np.mean(second.label_map.array != full.label_map.array))
    assert changed <= (0.0 if record["used"] == "full" else record["measured"]["labels_changed"] + other_grid)


def test_mirroring_is_the_default_and_changes_results():
    assert Segmenter(model_of("slices")).mirror_axes == (0, 1)
    without = Segmenter(model_of("slices"), mirror=False, engine="torch-plain")
    assert without.mirror_axes == ()
    assert differing("slices", without) > 0.01


def test_a_converted_model_gives_the_same_label_maps(tmp_path):
    case = "thick_slices"
    made = convert(model_of(case), tmp_path / "model.safetensors", to="torch")
    one, other = (Segmenter(each, engine="torch-plain") for each in (made.path, model_of(case)))
    volume = read_case(find_cases(REFERENCES / case / "scans", channels=1)[0])
    assert one.card == other.card
    assert np.array_equal(one.segment(volume).label_map.array, other.segment(volume).label_map.array)


def test_a_folder_is_predicted_by_the_batch_loop(tmp_path):
    case = "slices"
    result = predict(model_of(case), REFERENCES / case / "scans", tmp_path / "out", exact=True)
    assert [outcome.status for outcome in result.cases] == ["written", "written"]
    for number in range(2):
        written = read_label_map(tmp_path / "out" / f"case{number}.nii.gz")
        scan = read_case(find_cases(REFERENCES / case / "scans", channels=1)[number])
        assert written.grid.matches(scan.grid)
    again = predict(model_of(case), REFERENCES / case / "scans", tmp_path / "out", exact=True)
    assert [outcome.status for outcome in again.cases] == ["present", "present"]


@pytest.mark.parametrize("beside", ["spacing", "nothing"])
def test_a_stack_of_tiff_has_the_spacing_beside_it_or_1_mm(beside, tmp_path):
    case, folder, scans = "thick_slices", tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres", tmp_path / "scans"
    shutil.copytree(model_of(case), folder)
    plans = json.loads((folder / "plans.json").read_text())
    (folder / "plans.json").write_text(json.dumps(plans | {"image_reader_writer": "Tiff3DIO"}))
    scan = read_case(find_cases(REFERENCES / case / "scans", channels=1)[0])
    wanted = scan.spacing_mm if beside == "spacing" else (1.0, 1.0, 1.0)
    # the TIFF itself states another spacing, which nnU-Net does not read
    write_volume(Volume(scan.array[0], spacing_mm=(9.0, 8.0, 7.0)), scans / "a_0000.tif")
    if beside == "spacing":
        (scans / "a.json").write_text(json.dumps({"spacing": wanted}))
    options = {"engine": "torch-plain", "precision": "float32"}
    expected = Segmenter(model_of(case), **options).segment(Volume(scan.array[0], spacing_mm=wanted))
    predict(folder, scans, tmp_path / "out", **options)
    made = read_label_map(tmp_path / "out" / "a.tif")
    assert np.array_equal(made.array, expected.label_map.array)
    assert made.spacing_mm == wanted
    assert json.loads((tmp_path / "out" / "a.json").read_text()) == {"spacing": list(wanted)}
    assert [each.status for each in predict(folder, scans, tmp_path / "out", **options).cases] == ["present"]
    (scans / "a.json").write_text(json.dumps({"spacing": [2.0, 2.0, 2.0]}))
    assert [each.status for each in predict(folder, scans, tmp_path / "out", **options).cases] == ["failed"]
    predict(folder, scans, tmp_path / "out", **options, sidecar=True, overwrite=True)
    assert json.loads((tmp_path / "out" / "a.json").read_text())["spacing"] == [2.0, 2.0, 2.0]
    predict(folder, scans, tmp_path / "other", **options, format="nrrd")
    assert (tmp_path / "other" / "a.nrrd").exists()


def test_a_scan_is_turned_to_the_axes_of_the_training_images():
    case = "thick_slices"
    volume = read_case(find_cases(REFERENCES / case / "scans", channels=1)[0])
    turned = Volume.on_grid(np.ascontiguousarray(volume.array[:, :, ::-1]), flipped(volume.grid))
    segmenter = Segmenter(model_of(case), engine="torch-plain", orientation=volume.axis_codes)
    made, wanted = segmenter.segment(turned).label_map, segmenter.segment(volume).label_map
    assert made.grid == turned.grid
    assert np.array_equal(made.array[:, ::-1], wanted.array)


def flipped(grid):
    direction = grid.direction.copy()
    direction[:, 1] *= -1
    origin = tuple(grid.world_mm([0, grid.shape[1] - 1, 0]))
    return Grid(grid.shape, spacing_mm=grid.spacing_mm, origin_mm=origin, direction=direction)


def test_folds_and_checkpoints_are_named(tmp_path):
    folder = tmp_path / "nnUNetTrainer__nnUNetPlans__2d"
    shutil.copytree(model_of("slices"), folder)
    shutil.copytree(folder / "fold_0", folder / "fold_all")
    assert len(Segmenter(folder, engine="torch-plain").paths) == 1
    assert Segmenter(folder, engine="torch-plain", folds=("all",)).paths[0].parent.name == "fold_all"
    with pytest.raises(WeightsError, match="fold 3"):
        Segmenter(folder, folds=("3",))
    with pytest.raises(WeightsError, match="checkpoint_best"):
        Segmenter(folder, checkpoint="checkpoint_best.pth")


def test_options_that_do_not_suit_are_refused():
    with pytest.raises(InferenceError, match="engine='openvino' with exact"):
        Segmenter(model_of("slices"), exact=True, engine="openvino")
    with pytest.raises(InferenceError, match="speed='balanced' with exact"):
        Segmenter(model_of("slices"), exact=True, speed="balanced")
    with pytest.raises(InferenceError, match=r"postprocess.*postprocessing\.json"):
        Segmenter(model_of("slices"), postprocess=True)


def test_windows_are_at_equal_distances():
    assert window_starts((110,), (64,), (0.5,), placement="even") == [(0,), (23,), (46,)]
    assert window_starts((64,), (64,), (0.5,), placement="even") == [(0,)]
    assert window_starts((105,), (100,), (0.2,), placement="even") == [(0,), (5,)]
    assert window_starts((4,), (1,), (0.5,), placement="even") == [(0,), (1,), (2,), (3,)]  # each slice once
    assert window_starts((180,), (100,), (0.2,), placement="even") == [(0,), (80,)]  # no window more by rounding


def test_weights_are_rounded_to_half_precision_and_positive():
    weights = importance_map((1, 12, 16), mode="half-gaussian")
    assert weights[0, 6, 8] == weights.max() == 10
    assert np.array_equal(weights, weights.astype(np.float16))
    assert weights.min() > 0
    assert np.array_equal(weights[0], importance_map((12, 16), mode="half-gaussian"))


@pytest.mark.parametrize(
    ("current", "new", "force", "axis"),
    [
        ((5, 1, 1), (1, 1, 1), None, 0),
        ((1, 1, 1), (1, 4, 1), None, 1),
        ((5, 1, 1), (1, 1, 1), False, None),
        ((1, 4, 4), (1, 3, 3), None, None),  # two axes share the largest spacing
        ((1, 1, 2), (1, 1, 1), True, 2),
        ((3, 1, 1), (3, 1, 1), None, None),  # not more than three times
    ],
)
def test_the_axis_that_is_resampled_on_its_own(current, new, force, axis):
    assert separate_axis(current, new, force=force, threshold=3.0) == axis


@pytest.mark.parametrize("axis", [None, 0, 2])
@pytest.mark.parametrize("order", [0, 1, 3])
def test_products_with_matrices_are_the_splines(axis, order):
    array = np.random.default_rng(order).standard_normal((2, 9, 14, 11)).astype(np.float32)
    for shape in ((9, 20, 8), (13, 9, 11), (4, 5, 6)):
        rule = Resampling(order=order)
        exact, fast = resized(array, shape, rule, axis), resized_fast(array, shape, rule, axis)
        assert np.abs(exact - fast).max() < 1e-5


def test_a_masked_z_score_changes_what_is_inside_alone():
    array = np.zeros((4, 6, 6), np.float32)
    array[:, 1:5, 1:5] = np.arange(64).reshape(4, 4, 4) + 5
    rule = IntensityRule(scheme="ZScoreNormalization", masked=True)
    settings = {"spacing_mm": (1, 1, 1), "rules": (rule,)}
    prepared = NnunetPreprocessing(**settings).apply(Volume(array, spacing_mm=(1, 1, 1)))
    assert prepared.array.shape == (1, 4, 4, 4)  # cropped to what is not 0
    assert prepared.array.mean() == pytest.approx(0, abs=1e-6)
    assert prepared.array.std() == pytest.approx(1, abs=1e-6)


def test_the_settings_survive_a_file():
    rule = IntensityRule(scheme="CTNormalization", mean=1.0, std=2.0, percentile_00_5=-3.0, percentile_99_5=4.0)
    made = NnunetPreprocessing(spacing_mm=(2, 1, 1), order=(1, 0, 2), rules=(rule,), orientation="SPL")
    assert preprocessing_of(made.to_dict()) == made


def test_a_scan_of_less_than_a_voxel_is_refused_with_both_spacings():
    rule = Resampling()
    step = Resize(
        source=Grid((1, 9, 9), spacing_mm=(1, 1, 1)), spacing_mm=(4, 1, 1), image=rule, labels=rule, scores=rule
    )
    with pytest.raises(Exception, match=r"4 x 1 x 1 mm"):
        _ = step.shape


def test_the_largest_component_of_a_group_is_kept():
    labels = np.zeros((5, 9), np.uint8)
    labels[0:3, 0:3], labels[3, 3], labels[0, 7] = 1, 2, 1  # 2 touches 1 at a corner
    made = keep_largest(labels, [(1, 2)])
    assert made[0, 7] == 0
    assert made[3, 3] == 2
    assert np.array_equal(keep_largest(labels, [(2,)]), labels)
