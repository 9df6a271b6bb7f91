import subprocess
import sys
import warnings

import numpy as np
import pytest

from resvox.errors import EvaluationError
from resvox.evaluation import LabelScore, score_case


def test_by_hand_a_box_shifted_by_one_voxel(label_map, boxes):
    # Each box of 4 x 4 x 4 has 56 boundary voxels. Shifted by one voxel of 2 mm, the rims (12 voxels) of
    # three of its slices lie on the other's boundary; the 4 inner voxels of the near face and the 16 of the
    # far face are 2 mm off: 36 of 56.
    near, far = (
        score_case(*(label_map(box, (3.0, 3.0, 2.0)) for box in boxes), {"box": 1}, tolerance_mm=mm)["box"]
        for mm in (1.0, 2.0)
    )
    assert near.dice == 2 * 48 / 128
    assert near.hd95_mm == 2
    assert near.surface_dice == 36 / 56
    assert far.surface_dice == 1
    assert near.outcome == "compared"
    assert [type(number) for number in (near.dice, near.hd95_mm, near.surface_dice)] == [float] * 3


def test_both_empty_is_undefined(label_map):
    empty = label_map(np.zeros((4, 4), np.uint8))
    score = score_case(empty, empty, {"thing": 3})["thing"]
    assert score == LabelScore(dice=None, hd95_mm=None, surface_dice=None)
    assert score.outcome == "absent"
    assert score.to_dict() == {"dice": None, "hd95_mm": None, "surface_dice": None}


def test_one_empty_is_zero_without_a_distance(label_map):
    empty, full = label_map(np.zeros((4, 4), np.uint8)), label_map(np.eye(4, dtype=np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # MONAI warns of empty masks; ours never reach it
        missed = score_case(empty, full, {"thing": 1})["thing"]
        extra = score_case(full, empty, {"thing": 1})["thing"]
    assert missed == LabelScore(dice=0, hd95_mm=None, surface_dice=0, missed=True)
    assert extra == LabelScore(dice=0, hd95_mm=None, surface_dice=0, extra=True)
    assert (missed.outcome, extra.outcome) == ("missed", "extra")


def test_masks_apart_have_a_distance(label_map):
    left, right = np.zeros((2, 1, 9), np.uint8)
    left[0, 0] = right[0, 8] = 1
    score = score_case(label_map(left, (1.0, 0.5)), label_map(right, (1.0, 0.5)), {"thing": 1})["thing"]
    assert (score.dice, score.hd95_mm, score.surface_dice) == (0, 4.0, 0)
    assert score.outcome == "compared"


def random_map(seed, shape=(20, 24, 28)):
    """Blobs of labels 1 to 4; 4 is rare, and some touch the image's border."""
    random = np.random.default_rng(seed)
    coarse = random.choice(6, size=[n // 4 for n in shape], p=[0.5, 0.2, 0.15, 0.1, 0.03, 0.02])
    for axis in range(len(shape)):
        coarse = coarse.repeat(4, axis)
    return coarse.astype(np.uint8)


@pytest.mark.filterwarnings("ignore:monai.metrics.utils get_mask_edges:FutureWarning")
@pytest.mark.parametrize("shape", [(20, 24, 28), (40, 44)])
def test_boxes_around_labels_change_no_number(label_map, shape):
    """Scored alone in a larger volume, so in another box, by MONAI on everything."""
    import torch
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    spacing = (3.0, 0.8, 1.1)[: len(shape)]
    ours, theirs = random_map(1, shape), random_map(2, shape)
    labels = {f"label {value}": value for value in range(1, 6)}
    scores = score_case(label_map(ours, spacing), label_map(theirs, spacing), labels, tolerance_mm=2.0)
    assert list(scores) == list(labels)
    for name, value in labels.items():
        pair = [np.pad(mask == value, 5) for mask in (ours, theirs)]
        whole = [torch.from_numpy(mask[None, None]) for mask in pair]
        assert scores[name].dice == 2 * (pair[0] & pair[1]).sum() / (pair[0].sum() + pair[1].sum())
        hd95 = compute_hausdorff_distance(*whole, include_background=True, percentile=95, spacing=spacing)
        near = compute_surface_dice(*whole, [2.0], include_background=True, spacing=spacing)
        assert scores[name].hd95_mm == pytest.approx(hd95.item(), abs=1e-3)  # its percentile is float32
        assert scores[name].surface_dice == pytest.approx(near.item(), rel=1e-5)


def test_only_the_box_around_a_label_is_measured(label_map, monkeypatch):
    import resvox.evaluation.segmentation as module

    seen = []
    measure = module.surface_distances_mm
    monkeypatch.setattr(module, "surface_distances_mm", lambda a, b, s: seen.append(a.shape) or measure(a, b, s))
    ours, theirs = np.zeros((2, 60, 60, 60), np.uint8)
    ours[10:13, 20:22, 5:6] = 7
    theirs[11:14, 20:22, 5:9] = 7
    score_case(label_map(ours), label_map(theirs), {"thing": 7})
    assert seen == [(4, 2, 4)]


def test_values_that_no_label_has_are_reported_with_the_file(label_map):
    prediction = label_map(np.array([[0, 1, 9, 9, 4]], np.uint8))
    reference = label_map(np.array([[0, 1, 0, 5, 0]], np.uint8))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scores = score_case(prediction, reference, {"thing": 1}, prediction_path="out/case3.nii.gz")
    # Others warn too: importing older Matplotlib with newer pyparsing, for example.
    assert [str(w.message) for w in caught if w.category is UserWarning] == [
        "out/case3.nii.gz: values that no label has, not scored: 4 (1 voxels), 9 (2 voxels)",
        "reference: values that no label has, not scored: 5 (1 voxels); --labels names them, "
        "--ignore leaves their voxels out",
    ]
    assert scores["thing"].dice == 1


def test_many_unknown_values_are_cut_short(label_map):
    noise = label_map(np.arange(30, dtype=np.uint8)[None])
    empty = label_map(np.zeros((1, 30), np.uint8))
    with pytest.warns(UserWarning, match=r"2 \(1 voxels\), .* 9 \(1 voxels\) and 20 more$"):
        score_case(noise, empty, {"thing": 1})


def test_floats_of_whole_numbers_are_scored(label_map, boxes):
    prediction, reference = boxes
    exact = score_case(label_map(prediction), label_map(reference), {"box": 1})
    assert score_case(label_map(prediction * 1.0), label_map(reference.astype(np.float32)), {"box": 1}) == exact


@pytest.mark.parametrize("tolerance", [-1.0, float("nan"), float("inf")])
def test_a_tolerance_that_cannot_be_is_refused(label_map, tolerance):
    empty = label_map(np.zeros((4, 4), np.uint8))
    with pytest.raises(EvaluationError, match=r"tolerance_mm=.*expected millimetres, 0 or more"):
        score_case(empty, empty, {"thing": 1}, tolerance_mm=tolerance)


@pytest.mark.parametrize(
    "numbers",
    [
        {"dice": 1.2, "hd95_mm": 0.0, "surface_dice": 1.0},
        {"dice": 0.5, "hd95_mm": float("inf"), "surface_dice": 0.5},
        {"dice": float("nan"), "hd95_mm": 0.0, "surface_dice": 1.0},
        {"dice": 0.5, "hd95_mm": -1.0, "surface_dice": 0.5},
        {"dice": 0.5, "hd95_mm": None, "surface_dice": 0.5},
        {"dice": None, "hd95_mm": 1.0, "surface_dice": None},
        {"dice": 0.5, "hd95_mm": None, "surface_dice": 0.0, "missed": True},
        {"dice": 0.0, "hd95_mm": None, "surface_dice": 0.0, "missed": True, "extra": True},
    ],
)
def test_a_score_at_odds_with_itself_dies_at_birth(numbers):
    with pytest.raises(EvaluationError, match="expected"):
        LabelScore(**numbers)


def test_evaluation_loads_neither_torch_nor_monai_nor_scipy():
    code = (
        "import sys, resvox.evaluation;"
        "assert not {'torch', 'monai', 'scipy', 'rich'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path), "PATH": ""})


def test_scoring_loads_no_tensorflow():
    """Where it is installed, MONAI would load it by way of TensorBoard: seconds, and lines on the terminal."""
    code = (
        "import sys, numpy as np; from resvox.evaluation import score_case; from resvox.volumes import Volume;"
        "square = Volume(np.ones((3, 3), np.uint8), spacing_mm=(1.0, 1.0));"
        "assert score_case(square, square, {'thing': 1})['thing'].dice == 1;"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path), "PATH": ""})
