import numpy as np
import pytest

from resvox.errors import EvaluationError
from resvox.evaluation import score_case, score_files
from resvox.volumes import Volume, write_label_map

LABELS = {"thing": 1}


def cube(**geometry):
    array = np.zeros((8, 8, 8), np.uint8)
    array[2:6, 2:6, 2:6] = 1
    return Volume(array, **{"spacing_mm": (2.0, 1.0, 1.0), **geometry})


def test_the_last_digits_of_a_file_do_not_make_another_grid():
    near = cube(spacing_mm=(2.0000001, 1.0, 0.9999999), origin_mm=(1e-4, 0.0, -1e-4))
    assert score_case(near, cube(), LABELS)["thing"].dice == 1


@pytest.mark.parametrize(
    ("geometry", "words"),
    [
        ({"spacing_mm": (2.0, 1.0, 1.25)}, "spacing_mm [2.0, 1.0, 1.25] instead of [2.0, 1.0, 1.0]"),
        ({"origin_mm": (0.0, 3.0, 0.0)}, "origin_mm [0.0, 3.0, 0.0] instead of [0.0, 0.0, 0.0]"),
        ({"direction": -np.eye(3)[:, ::-1]}, "direction [["),
    ],
)
def test_another_grid_is_refused_and_both_files_are_named(geometry, words):
    with pytest.raises(EvaluationError) as caught:
        score_case(cube(**geometry), cube(), LABELS, prediction_path="out/a.nii.gz", reference_path="ref/a.nrrd")
    text = str(caught.value)
    assert text.startswith(f"out/a.nii.gz: a prediction on another grid than its reference ref/a.nrrd: {words}")
    assert "fix: predict on the image that the reference was drawn on, or resample" in text
    assert "--resample" in text


def test_another_shape_is_refused():
    small = Volume(np.ones((4, 8, 8), np.uint8), spacing_mm=(2.0, 1.0, 1.0))
    with pytest.raises(EvaluationError, match=r"reference: shape \(4, 8, 8\) instead of \(8, 8, 8\)"):
        score_case(small, cube(), LABELS)


def test_asked_to_it_resamples_the_prediction():
    fine = np.zeros((16, 8, 8), np.uint8)
    fine[4:12, 2:6, 2:6] = 1  # the same box, on slices half as thick
    # The first fine slice's centre lies half a fine voxel below the coarse one's: -0.5 mm along z.
    prediction = Volume(fine, spacing_mm=(1.0, 1.0, 1.0), origin_mm=(0.0, 0.0, -0.5))
    score = score_case(prediction, cube(), LABELS, resample_to_reference=True)["thing"]
    assert (score.dice, score.hd95_mm, score.surface_dice) == (1, 0, 1)


def test_resampling_favours_no_side():
    """A coarse prediction scores the same whichever way round its file stores it: half voxels fall to both sides."""
    coarse = np.zeros((4, 8, 8), np.uint8)
    coarse[1:3, 2:5, 3:6] = 1
    reference = Volume(np.roll(cube().array.repeat(2, 0), 1, axis=2), spacing_mm=(1.0, 1.0, 1.0))
    as_it_is = Volume(coarse, spacing_mm=(2.0, 2.0, 1.0))
    turned = Volume(
        coarse[:, ::-1],
        spacing_mm=(2.0, 2.0, 1.0),
        origin_mm=(0.0, 14.0, 0.0),
        direction=np.array([[0.0, 0.0, 1.0], [0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]),
    )
    scores = [score_case(p, reference, LABELS, resample_to_reference=True)["thing"] for p in (as_it_is, turned)]
    assert scores[0] == scores[1]


def test_a_mirrored_grid_is_undone_by_resampling():
    flipped = Volume(
        cube().array[:, :, ::-1],
        spacing_mm=(2.0, 1.0, 1.0),
        origin_mm=(7.0, 0.0, 0.0),
        direction=np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]),
    )
    shifted = np.roll(cube().array, 1, axis=2)
    reference = Volume(shifted, spacing_mm=(2.0, 1.0, 1.0))
    moved = flipped.with_array(np.roll(flipped.array, -1, axis=2))
    assert score_case(moved, reference, LABELS, resample_to_reference=True)["thing"].dice == 1


def test_files_are_read_scored_and_named(tmp_path):
    prediction, reference = tmp_path / "prediction.nii.gz", tmp_path / "reference.nrrd"
    write_label_map(cube(), prediction)
    write_label_map(cube(), reference)
    assert score_files(prediction, reference, LABELS)["thing"].hd95_mm == 0
    write_label_map(cube(origin_mm=(0.0, 0.0, 40.0)), reference)
    with pytest.raises(EvaluationError) as caught:
        score_files(prediction, reference, LABELS)
    assert str(prediction) in str(caught.value)
    assert str(reference) in str(caught.value)
    assert score_files(prediction, reference, LABELS, resample_to_reference=True)["thing"].missed
