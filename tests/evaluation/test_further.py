"""Metrics that are asked for: volumes, and the Dice of centrelines."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resvox.errors import EvaluationError
from resvox.evaluation import ScoreTable, score_case
from resvox.evaluation.further.centrelines import centreline_dice
from resvox.volumes import Volume, write_label_map
from resvox.workflow import evaluate

LABELS = {"background": 0, "tube": 1, "other": 2}


def tube(radius, shape=(40, 20, 20), cut=None):
    grid = np.indices(shape)
    made = ((grid[1] - 10) ** 2 + (grid[2] - 10) ** 2 <= radius**2).astype(np.uint8)
    if cut is not None:
        made[cut] = 0
    return made


def cldice(prediction, reference):
    return dict(centreline_dice(prediction > 0, reference > 0, (1.0, 1.0, 1.0)))["cldice"]


def test_centrelines_do_not_mind_thickness_and_do_mind_gaps():
    assert cldice(tube(2), tube(4)) == pytest.approx(1.0, abs=0.06)
    gap = tube(3, cut=slice(15, 25))
    assert cldice(gap, tube(3)) < 0.9
    assert cldice(np.zeros((5, 5), bool), np.zeros((5, 5), bool)) is None
    assert cldice(tube(2), np.zeros((40, 20, 20))) == 0.0
    apart = np.roll(tube(1), 8, axis=1)
    assert cldice(apart, tube(1)) == 0.0


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 3), st.integers(0, 5))
def test_a_mask_agrees_with_itself_and_the_score_is_symmetric(dims, seed):
    rng = np.random.default_rng(seed)
    one, other = (rng.random((12,) * dims) > 0.6 for _ in range(2))
    assert cldice(one, one) == 1.0
    found = cldice(one, other)
    assert found == pytest.approx(cldice(other, one))
    assert 0 <= found <= 1


def test_volumes_are_in_millilitres_of_scans_and_square_millimetres_of_images():
    reference = np.zeros((10, 10, 10), np.uint8)
    reference[:5] = 1
    prediction = reference.copy()
    prediction[5] = 1
    spacing_mm = (2.0, 1.0, 5.0)
    found = score_case(
        Volume(prediction, spacing_mm=spacing_mm), Volume(reference, spacing_mm=spacing_mm), LABELS, further=["volume"]
    )
    tube_values = dict(found["tube"].further)
    assert tube_values == {"volume_ml": 6.0, "reference_ml": 5.0, "volume_difference_ml": 1.0}
    assert dict(found["other"].further) == {"volume_ml": 0.0, "reference_ml": 0.0, "volume_difference_ml": 0.0}
    flat = Volume(reference[:, :, 0], spacing_mm=(2.0, 1.0))
    assert dict(score_case(flat, flat, LABELS, further=["volume"])["tube"].further)["area_mm2"] == 100.0
    assert score_case(flat, flat, LABELS)["tube"].to_dict().keys() == {"dice", "hd95_mm", "surface_dice"}


def test_files_tables_and_terminals_have_the_further_columns(tmp_path):
    for name, folder in (("a", "p"), ("b", "p"), ("a", "r"), ("b", "r")):
        volume = Volume(tube(2 if folder == "p" else 3), spacing_mm=(1.0, 1.0, 1.0))
        write_label_map(volume, tmp_path / folder / f"{name}.nii.gz")
    result = evaluate(
        tmp_path / "p", tmp_path / "r", labels=LABELS, further=["cldice", "volume", "cldice"],
        json_path=tmp_path / "s.json", csv_path=tmp_path / "s.csv",
    )  # fmt: skip
    row = next(csv.DictReader((tmp_path / "s.csv").open()))
    assert list(row)[-5:] == ["cldice", "volume_ml", "reference_ml", "volume_difference_ml", "outcome"]
    written = json.loads((tmp_path / "s.json").read_text())["a"]["tube"]
    assert float(row["cldice"]) == written["cldice"] > 0.9
    assert written["volume_difference_ml"] < 0
    assert result.scores.further_means["tube"]["volume_ml"] == pytest.approx(written["volume_ml"])
    headings = [str(column.header) for column in result.scores.table().columns]
    assert headings[-5:] == ["cldice", "volume_ml", "reference_ml", "volume_difference_ml", ""]
    assert ScoreTable({}).further == ()
    with pytest.raises(EvaluationError, match=r"metric 'cldise'.*volume, cldice"):
        evaluate(tmp_path / "p", tmp_path / "r", labels=LABELS, further=["cldise"])
