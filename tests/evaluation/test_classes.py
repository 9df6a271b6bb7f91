"""Scores of classes against scikit-learn's, and what they say where a class is absent."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from sklearn import metrics

from resvox.errors import EvaluationError
from resvox.evaluation import score_classes
from resvox.evaluation.classification import area_under_curve


@st.composite
def answers(draw):
    count, classes = draw(st.integers(2, 40)), draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    # few distinct scores: ties are where areas under curves go wrong
    raw = rng.integers(1, 5, (count, classes)).astype(float)
    return raw / raw.sum(axis=1, keepdims=True), rng.integers(0, classes, count)


@given(answers=answers())
@settings(deadline=None, max_examples=60)
def test_scores_are_those_of_scikit_learn(answers):
    chances, truth = answers
    classes = [f"c{index}" for index in range(chances.shape[1])]
    scores = score_classes(chances, truth, classes)
    predicted = chances.argmax(axis=1)
    labels = range(len(classes))
    np.testing.assert_array_equal(scores.confusion, metrics.confusion_matrix(truth, predicted, labels=labels))
    assert scores.accuracy == pytest.approx(metrics.accuracy_score(truth, predicted))
    present = np.unique(truth)
    recalls = metrics.recall_score(truth, predicted, labels=present, average=None)
    assert scores.balanced_accuracy == pytest.approx(recalls.mean())
    assert scores.log_loss == pytest.approx(metrics.log_loss(truth, chances, labels=labels))
    for index, name in enumerate(classes):
        if 0 < (truth == index).sum() < len(truth):
            assert scores.auc[name] == pytest.approx(metrics.roc_auc_score(truth == index, chances[:, index]))
        else:
            assert scores.auc[name] is None
        if not (predicted == index).any():
            assert scores.precision[name] is None


def test_a_class_without_cases_counts_nowhere():
    scores = score_classes([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]], [0, 1], ["a", "b", "never"])
    assert scores.recall == {"a": 1.0, "b": 1.0, "never": None}
    assert (scores.accuracy, scores.balanced_accuracy, scores.mean_auc) == (1.0, 1.0, 1.0)
    assert area_under_curve(np.array([0.1, 0.2]), np.array([True, True])) is None


def test_json_csv_and_terminal(tmp_path):
    chances = [[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8]]
    scores = score_classes(chances, [0, 1, 1, 1], ["cat", "[dog]"], cases=["w", "x", "y", "z"])
    told = json.loads(scores.to_json(tmp_path / "s.json").read_text())
    assert told["confusion"] == {"cat": {"cat": 1, "[dog]": 0}, "[dog]": {"cat": 1, "[dog]": 2}}
    assert (told["cases"], told["accuracy"], told["auc"]) == (4, 0.75, 1.0)
    assert told["classes"]["[dog]"] == {"cases": 3, "recall": 0.666667, "precision": 1.0, "auc": 1.0}
    with scores.to_csv(tmp_path / "s.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[1] == {
        "case": "x", "reference": "[dog]", "predicted": "cat", "correct": "0", "probability_of_reference": "0.4"
    }  # fmt: skip
    screen = Console(width=100)
    with screen.capture() as capture:
        screen.print(scores.table(title="validation"))
    text = capture.get()
    assert "accuracy 0.7500 (3 of 4)" in text
    assert "[dog]" in text  # a name is no markup


@pytest.mark.parametrize(
    ("chances", "truth", "words"),
    [
        ([[0.5, 0.5]], [0, 1], "for 2 cases and 2 classes"),
        ([[0.5, 0.5]], [2], "a class index out of range"),
        ([[np.nan, 0.5]], [0], "not finite"),
        (np.zeros((0, 2)), [], "one case at least"),
    ],
)
def test_what_cannot_be_scored_is_refused(chances, truth, words):
    with pytest.raises(EvaluationError, match=words):
        score_classes(chances, truth, ["a", "b"])
