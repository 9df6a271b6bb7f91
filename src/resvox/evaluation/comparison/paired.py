"""Paired differences of scores: Wilcoxon's signed-rank test, Holm's correction, bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from resvox.errors import EvaluationError
from resvox.evaluation.rounding import rounded

RESAMPLES = 9999
LEVEL = 0.95
OVERALL = "mean of labels"
CaseScores = Mapping[str, Mapping[str, float | None]]  # case -> label -> score


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How far the second set of scores is from the first, on the cases that both have.

    Args:
        label: the label, or `OVERALL`: of each case the mean over its labels.
        cases: how many pairs there are.
        first, second: mean score of each over these cases.
        difference: mean of second less first.
        low, high: 95 % bootstrap interval of the mean difference (percentiles); None with fewer than two pairs.
        p: of Wilcoxon's signed-rank test, two-sided; 1 where no pair differs.
        adjusted: that p after Holm's correction for all tests of the comparison.
    """

    names: tuple[str, str]
    label: str
    cases: int
    first: float
    second: float
    difference: float
    low: float | None
    high: float | None
    p: float
    adjusted: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        """The numbers as JSON holds them."""
        return {
            "first": self.names[0],
            "second": self.names[1],
            "label": self.label,
            "cases": self.cases,
            "first_mean": rounded(self.first),
            "second_mean": rounded(self.second),
            "difference": rounded(self.difference),
            "interval_95": None if self.low is None else [rounded(self.low), rounded(self.high)],
            "p": rounded(self.p),
            "p_holm": rounded(self.adjusted),
        }


def compare_scores(sets: Mapping[str, CaseScores]) -> tuple[Difference, ...]:
    """Each set against the first one: for every label, and for the mean over labels.

    Pairs are cases that both sets score with that label; a case without a value in one of them is left out.

    Raises:
        EvaluationError: fewer than two sets, or no case in common.
    """
    if len(sets) < 2:
        raise EvaluationError(f"{len(sets)} set of scores", expected="at least two to compare")
    first, *others = sets
    found = []
    for other in others:
        pairs = _pairs(sets[first], sets[other])
        if not pairs:
            raise EvaluationError(
                f"{first} and {other} have no case and label in common",
                expected="scores of the same cases",
                fix="evaluate both on the same references",
            )
        found += [_difference((first, other), label, values) for label, values in pairs.items()]
    adjusted = holm([each.p for each in found])
    return tuple(replace(each, adjusted=p) for each, p in zip(found, adjusted, strict=True))


def holm(values: Sequence[float]) -> list[float]:
    """P values after Holm's step-down correction, in the order given (Holm 1979)."""
    order = sorted(range(len(values)), key=lambda at: values[at])
    adjusted, highest = [0.0] * len(values), 0.0
    for rank, at in enumerate(order):
        highest = max(highest, min(1.0, (len(values) - rank) * values[at]))
        adjusted[at] = highest
    return adjusted


def _pairs(first: CaseScores, second: CaseScores) -> dict[str, list[tuple[float, float]]]:
    """By label the scores of the cases that both have, that of the mean over labels as the last one."""
    found: dict[str, list[tuple[float, float]]] = {}
    means = []
    for case in (case for case in first if case in second):
        own = {}
        for label in (label for label in first[case] if label in second[case]):
            one, other = first[case][label], second[case][label]
            if one is not None and other is not None:
                own[label] = (float(one), float(other))
        for label, pair in own.items():
            found.setdefault(label, []).append(pair)
        if own:
            means.append(tuple(float(np.mean(side)) for side in zip(*own.values(), strict=True)))
    if len(found) > 1:
        found[OVERALL] = means  # type: ignore[assignment]
    return found


def _difference(names: tuple[str, str], label: str, pairs: Sequence[tuple[float, float]]) -> Difference:
    from scipy import stats

    values = np.asarray(pairs)
    changes = values[:, 1] - values[:, 0]
    low = high = None
    if len(changes) > 1:
        interval = stats.bootstrap(
            (changes,), np.mean, n_resamples=RESAMPLES, confidence_level=LEVEL, method="percentile",
            random_state=np.random.default_rng(0),
        ).confidence_interval  # fmt: skip
        low, high = float(interval.low), float(interval.high)
    p = float(stats.wilcoxon(changes).pvalue) if np.any(changes != 0) else 1.0
    return Difference(
        names=names,
        label=label,
        cases=len(changes),
        first=float(values[:, 0].mean()),
        second=float(values[:, 1].mean()),
        difference=float(changes.mean()),
        low=low,
        high=high,
        p=1.0 if math.isnan(p) else p,
    )
