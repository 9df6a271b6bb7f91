"""RUN/report.html: one file with curves, scores, the worst cases, the plan, the data and the time."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from workflow.test_folds import write_cases, write_plan

from resvox.training.records import WORST, read_snapshots, snapshot_of, write_snapshots
from resvox.workflow import train
from resvox.workflow.training_report.following import after_step, report_of
from resvox.workflow.training_report.page import write_training_report


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    data = write_cases(folder / "data")
    plan = write_plan(data, folder / "plan.yaml")
    (folder / "run").mkdir()
    (folder / "planned" / "fingerprint.json").rename(folder / "run" / "fingerprint.json")
    train(data, folder / "run", plan=plan, device="cpu", progress=False)
    return folder / "run"


def test_the_page_has_all_parts_and_needs_no_other_file(run):
    text = (run / "report.html").read_text()
    for title in ("Curves", "Scores", "Cases", "The worst cases", "The plan", "The data", "Time"):
        assert f"<h2>{title}</h2>" in text
    assert not re.search(r'(src|href|srcset)="(?!data:)', text)
    found = json.loads((run / "validation.json").read_text())
    for case, scores in found["best_cases"].items():
        assert f'<th scope="row">{case}</th><td>{scores["block"]:.4f}</td>' in text
    assert "learning_rate" in text  # of the plan
    assert list(run.glob(".*partial*")) == []


def test_scores_of_cases_are_those_of_metrics_csv(run):
    found = json.loads((run / "validation.json").read_text())
    rows = (run / "metrics.csv").read_text().splitlines()
    best = dict(zip(rows[0].split(","), rows[found["best_step"]].split(","), strict=True))
    values = [own["block"] for own in found["best_cases"].values()]
    assert float(best["dice_block"]) == pytest.approx(np.mean(values))


def test_slices_of_the_best_step_are_kept_and_older_ones_are_not_read(tmp_path):
    image = np.zeros((1, 4, 5, 6), np.float32)
    prediction, reference = np.zeros((4, 5, 6), np.uint8), np.zeros((4, 5, 6), np.uint8)
    prediction[3, 1, 2] = 1
    made = snapshot_of("a", image, prediction, reference, (3.0, 2.0, 1.0))
    assert (made.prediction[1, 2], made.spacing_mm) == (1, (2.0, 1.0))
    write_snapshots(tmp_path / "0", 4, [made])
    write_snapshots(tmp_path / "1", 8, [made])
    assert [each.case for each in read_snapshots(tmp_path, 8)] == ["a"]
    assert read_snapshots(tmp_path, 5) == []
    assert WORST == 3


def test_a_report_that_cannot_be_written_does_not_end_a_training(run, tmp_path):
    assert write_training_report(tmp_path) is None  # before the first step
    (tmp_path / "metrics.csv").write_text((run / "metrics.csv").read_text())
    (tmp_path / "validation.json").write_text("{}")
    with pytest.warns(UserWarning, match=r"report\.html could not be written"):
        assert report_of(tmp_path) is None


def test_reports_follow_validations_of_the_first_process_alone(run, tmp_path):
    from types import SimpleNamespace

    (tmp_path / "metrics.csv").write_text((run / "metrics.csv").read_text())
    for rank, score, written in ((1, 0.5, False), (0, None, False), (0, 0.5, True)):
        after_step(SimpleNamespace(rank=rank, score=score), folder=tmp_path)
        assert (tmp_path / "report.html").exists() == written
