"""Small numbers keep their digits in files and on the terminal."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from resvox.evaluation import LabelScore, ScoreTable, ValueTable, score_values
from resvox.evaluation.console import shown
from resvox.evaluation.rounding import rounded
from resvox.volumes import Volume


@given(value=st.floats(1e-300, 1e300), negative=st.booleans())
def test_a_rounded_number_keeps_six_digits_or_six_decimals(value, negative):
    value = -value if negative else value
    tolerance = {"rel": 5.1e-6, "abs": 0} if abs(value) < 0.1 else {"rel": 1e-15, "abs": 5.1e-7}
    assert rounded(value) == pytest.approx(value, **tolerance)
    assert rounded(value) != 0


def test_usual_numbers_have_six_decimals():
    assert [rounded(value) for value in (2 / 3, 0.0, 123.4567891, None)] == [0.666667, 0.0, 123.456789, None]


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.500"), (0.0, "0.000"), (4.2e-5, "4.2e-05"), (0.0004, "0.0004"), (None, "-")]
)
def test_a_terminal_shows_no_zero_for_a_small_number(value, text):
    assert shown(value, 3) == text


@given(exponent=st.integers(-30, 6))
@settings(deadline=None, max_examples=12)
def test_scores_of_scaled_values_are_scaled_scores(exponent):
    rng = np.random.default_rng(3)
    theirs = rng.random((12, 13, 14)).astype(np.float32)
    ours = theirs * 1.2
    unit = score_values(*(Volume(each, spacing_mm=(1,) * 3) for each in (ours, theirs)))["value"]
    factor = np.float32(10.0**exponent)
    small = score_values(*(Volume(each * factor, spacing_mm=(1,) * 3) for each in (ours, theirs)))["value"]
    assert small.mae == pytest.approx(unit.mae * float(factor), rel=1e-4)
    assert small.rmse == pytest.approx(unit.rmse * float(factor), rel=1e-4)
    assert small.psnr_db == pytest.approx(unit.psnr_db, rel=1e-4)
    assert small.ssim == pytest.approx(unit.ssim, rel=1e-3)


def test_an_error_of_a_billionth_is_in_json_csv_and_the_terminal(tmp_path):
    theirs = np.random.default_rng(0).random((8, 12, 12)).astype(np.float32) * np.float32(1e-9)
    score = score_values(*(Volume(each, spacing_mm=(1,) * 3) for each in (theirs * np.float32(1.2), theirs)))
    table = ValueTable({"a": score, "b": score})
    mae = score["value"].mae
    assert 0.5e-10 < mae < 2e-10
    written = json.loads(table.to_json(tmp_path / "s.json").read_text())
    assert written["a"]["value"]["mae"] == pytest.approx(mae, rel=1e-5)
    with table.to_csv(tmp_path / "s.csv").open() as file:
        assert float(next(csv.DictReader(file))["mae"]) == pytest.approx(mae, rel=1e-5)
    assert table.summary["value"]["mae"] == pytest.approx(mae)
    screen = Console(width=100)
    with screen.capture() as capture:
        screen.print(table.table())
    assert capture.get().count(f"{mae:.4g}") == 3


def test_a_label_and_a_case_called_mean_keep_their_rows(tmp_path):
    score = LabelScore(dice=0.5, hd95_mm=1.0, surface_dice=0.25)
    table = ScoreTable({"mean": {"mean": score, "all labels": score}, "b": {"mean": score, "all labels": score}})
    assert list(json.loads(table.to_json(tmp_path / "s.json").read_text())) == ["mean", "b"]
    with table.to_csv(tmp_path / "s.csv").open() as file:
        assert [(row["case"], row["label"]) for row in csv.DictReader(file)] == [
            ("mean", "mean"), ("mean", "all labels"), ("b", "mean"), ("b", "all labels")
        ]  # fmt: skip
    assert list(table.summary) == ["mean", "all labels"]
