"""Paired comparison of sets of scores."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from typer.testing import CliRunner

from resvox.cli import app
from resvox.errors import EvaluationError
from resvox.evaluation.comparison.paired import OVERALL, compare_scores, holm
from resvox.workflow import compare


def scores(seed, shift=0.0, cases=12):
    rng = np.random.default_rng(seed)
    return {
        f"c{at}": {"liver": float(rng.uniform(0.7, 0.8) + shift), "tumour": float(rng.uniform(0.3, 0.6))}
        for at in range(cases)
    }


def written(path, found):
    inner = {case: {name: {"dice": value} for name, value in own.items()} for case, own in found.items()}
    path.write_text(json.dumps(inner))
    return path


def test_a_constant_gain_is_found_and_its_numbers_are_those_of_scipy():
    first, second = scores(0), scores(1, shift=0.1)
    found = {each.label: each for each in compare_scores({"a": first, "b": second})}
    assert list(found) == ["liver", "tumour", OVERALL]
    changes = np.array([second[case]["liver"] - first[case]["liver"] for case in first])
    liver = found["liver"]
    assert liver.difference == pytest.approx(changes.mean())
    assert liver.p == pytest.approx(stats.wilcoxon(changes).pvalue)
    assert liver.low < changes.mean() < liver.high
    assert liver.low > 0
    assert [found[name].adjusted for name in found] == holm([found[name].p for name in found])
    assert found[OVERALL].cases == 12


def test_holms_correction_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holms_correction_only_raises_and_keeps_the_order(values):
    adjusted = holm(values)
    assert all(value <= new <= 1 for value, new in zip(values, adjusted, strict=True))
    order = np.argsort(values, kind="stable")
    assert all(np.diff(np.array(adjusted)[order]) >= 0)


def test_equal_sets_missing_values_and_single_cases_have_answers():
    same = compare_scores({"a": scores(0), "b": scores(0)})
    assert [(each.difference, each.p, each.adjusted) for each in same] == [(0.0, 1.0, 1.0)] * 3
    first, second = {"x": {"l": 0.5}, "y": {"l": None}}, {"x": {"l": 0.7}, "y": {"l": 0.9}, "z": {"l": 0.1}}
    (only,) = compare_scores({"a": first, "b": second})
    assert (only.cases, only.low, round(only.difference, 6)) == (1, None, 0.2)
    with pytest.raises(EvaluationError, match="a and b have no case and label in common"):
        compare_scores({"a": {"x": {"l": 1.0}}, "b": {"y": {"l": 1.0}}})
    with pytest.raises(EvaluationError, match="at least two"):
        compare_scores({"a": first})


def test_runs_cross_validations_and_files_are_compared_from_the_command_line(tmp_path):
    file = written(tmp_path / "a.json", scores(0))
    folds, run = tmp_path / "folds", tmp_path / "run"
    for folder in (folds, run):
        folder.mkdir()
    inner = {case: {name: {"dice": value} for name, value in own.items()} for case, own in scores(1).items()}
    (folds / "cross_validation.json").write_text(json.dumps({"folds": 5, "scores": inner}))
    (run / "validation.json").write_text(json.dumps({"best_step": 10, "best_cases": scores(2)}))
    out = tmp_path / "d.json"
    shown = CliRunner().invoke(
        app, ["compare", str(file), str(folds), str(run), "-o", str(out)], env={"COLUMNS": "200"}
    )
    assert shown.exit_code == 0, shown.output
    assert "folds less a.json" in shown.output
    result = json.loads(out.read_text())
    assert result["sets"] == ["a.json", "folds", "run"]
    assert len(result["differences"]) == 6
    with pytest.raises(EvaluationError, match=r"no scores of 'hd95_mm'.*--metric"):
        compare([file, folds], metric="hd95_mm")
    with pytest.raises(EvaluationError, match="no readable scores"):
        compare([file, tmp_path / "nothing"])
