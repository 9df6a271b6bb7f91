"""Scores of cases from what resvox writes: a run, a cross-validation, or the JSON of `resvox evaluate`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resvox.errors import EvaluationError

CROSS_VALIDATION, VALIDATION = "cross_validation.json", "validation.json"
EXPECTED = "a run of resvox train, its cross_validation.json, or the JSON of resvox evaluate -o"


def read_scores(path: Path, metric: str) -> dict[str, dict[str, float | None]]:
    """The scores of one metric: case -> label -> number or None.

    Args:
        path: a folder of a run (that of a cross-validation gives the scores out of fold, another one those of its best
            validation, which are Dice alone), or a JSON file.
        metric: "dice", "hd95_mm", "surface_dice", or what the file has.

    Raises:
        EvaluationError: no scores there, or none of the metric.
    """
    file = next((path / name for name in (CROSS_VALIDATION, VALIDATION) if (path / name).is_file()), path)
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        scores = found.get("scores", found.get("best_cases", found))
        read = {str(case): _labels(own, metric) for case, own in scores.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise EvaluationError(f"no readable scores ({reason})", expected=EXPECTED, path=path) from error
    if not any(own for own in read.values()):
        raise EvaluationError(f"no scores of {metric!r}", expected=EXPECTED, fix="choose another --metric", path=file)
    return read


def _labels(own: Mapping[str, Any], metric: str) -> dict[str, float | None]:
    """The numbers of one case; a label's entry is an object of metrics, or the Dice alone."""
    found: dict[str, float | None] = {}
    for label, value in own.items():
        if isinstance(value, Mapping):
            if metric in value:
                found[str(label)] = None if value[metric] is None else float(value[metric])
        elif metric == "dice":
            found[str(label)] = None if value is None else float(value)
    return found
