"""Scores against doubt: what is left of the errors if the most doubtful cases are checked by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from resvox.errors import EvaluationError
from resvox.evaluation.rounding import rounded


@dataclass(frozen=True, kw_only=True)
class RiskCoverage:
    """Cases from the surest to the most doubtful one, with their risk (1 less the mean Dice of their labels).

    Args:
        cases: in order of doubt, the lowest first.
        risks: of each.
    """

    cases: tuple[str, ...]
    risks: tuple[float, ...]

    @property
    def curve(self) -> list[tuple[float, float]]:
        """Coverage, the share of cases that are kept (the surest ones), and the mean risk of these."""
        means = np.cumsum(self.risks) / np.arange(1, len(self.risks) + 1)
        return [((at + 1) / len(self.risks), float(risk)) for at, risk in enumerate(means)]

    @property
    def area(self) -> float:
        """The area under the curve: the mean risk over all coverages, the lower the better."""
        return float(np.mean([risk for _, risk in self.curve]))

    @property
    def least_area(self) -> float:
        """The area if doubt had the order of the risks: no doubt can do better."""
        return RiskCoverage(cases=self.cases, risks=tuple(sorted(self.risks))).area

    def found(self, *, dice_below: float, share: float = 1 / 3) -> tuple[int, int]:
        """How many cases with a Dice below a limit the first share of the review list holds, and how many there are."""
        first = set(self.cases[::-1][: max(1, round(share * len(self.cases)))])
        bad = [case for case, risk in zip(self.cases, self.risks, strict=True) if 1 - risk < dice_below]
        return len(first & set(bad)), len(bad)

    def to_dict(self) -> dict[str, Any]:
        """The numbers as JSON holds them."""
        points = [{"coverage": rounded(share), "risk": rounded(risk)} for share, risk in self.curve]
        return {"area": rounded(self.area), "least_area": rounded(self.least_area), "risk_coverage": points}


def risk_coverage(doubts: Mapping[str, float], dice: Mapping[str, float | None]) -> RiskCoverage:
    """The risk of the cases that have both a doubt and a Dice.

    Raises:
        EvaluationError: no case has both.
    """
    known = [(doubts[case], case, 1 - value) for case, value in dice.items() if value is not None and case in doubts]
    if not known:
        raise EvaluationError(
            "no case with both a doubt and a score", expected="the review.csv of resvox predict --uncertainty"
        )
    ordered = sorted(known)
    return RiskCoverage(cases=tuple(case for _, case, _ in ordered), risks=tuple(risk for *_, risk in ordered))
