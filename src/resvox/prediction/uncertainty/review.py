"""``review.csv``: the cases of a folder, the most doubtful one first."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from resvox.files import write_atomically
from resvox.inference.uncertainty.doubt import DoubtScores

NAME = "review.csv"


def doubt_fields(scores: DoubtScores, names: Iterable[str]) -> dict[str, Any]:
    """What the line of a case in predict.jsonl holds of its doubt.

    Args:
        names: of the outputs but the background.
    """
    apart = {} if scores.disagreement is None else {"disagreement": round(scores.disagreement, 6)}
    expected = {name: round(value, 6) for name, value in zip(names, scores.expected_dice, strict=True)}
    return {"doubt": round(scores.doubt, 6), **apart, "expected_dice": expected}


def write_review(folder: Path, lines: Iterable[Mapping[str, Any]]) -> Path:
    """Write the list of the cases of ``lines``, out of predict.jsonl; those whose doubt is unknown come last."""
    ordered = sorted(lines, key=lambda line: (-float(line.get("doubt", -1.0)), str(line["case"])))
    names = list(dict.fromkeys(name for line in ordered for name in line.get("expected_dice") or {}))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "doubt", "disagreement", *(f"expected_dice_{name}" for name in names), "file"])
    for line in ordered:
        expected = line.get("expected_dice") or {}
        cells = [line.get("doubt", ""), line.get("disagreement", ""), *(expected.get(name, "") for name in names)]
        writer.writerow([line["case"], *cells, line.get("file")])
    return write_atomically(folder / NAME, text.getvalue())


def review_of(folder: Path) -> Path:
    """Write the list of the cases that have a result in a folder of predictions, from its log."""
    from resvox.prediction.log import RunLog

    lines = RunLog(folder).by_case.values()
    return write_review(folder, [line for line in list(lines) if (folder / str(line.get("file"))).exists()])


def read_review(path: Path) -> dict[str, float]:
    """The doubt of each case of a list; those whose doubt is unknown are left out."""
    with path.open(encoding="utf-8", newline="") as file:
        return {row["case"]: float(row["doubt"]) for row in csv.DictReader(file) if row.get("doubt")}
