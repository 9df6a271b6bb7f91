"""What a demo made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resvox.evaluation import ScoreTable
    from resvox.prediction.outcomes import PredictResult
    from resvox.training import FitResult, Plan
    from resvox.workflow.demo.data import DemoData


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """Files of a demo, its scores, what they mean, and seconds per part."""

    out: Path
    model: Path
    prediction: Path
    metrics: Path
    report: Path
    scores: ScoreTable
    meaning: tuple[str, ...]
    seconds: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class DemoRun:
    """What the report shows."""

    data: DemoData
    plan: Plan
    fit: FitResult
    predicted: PredictResult
    prediction: Path
    scores: ScoreTable
    meaning: tuple[str, ...]
    seconds: dict[str, float]
    commands: tuple[str, ...]
    page: Path | None = None  # the interactive page, where it could be made
