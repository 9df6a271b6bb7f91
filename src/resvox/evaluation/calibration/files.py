"""Calibration of the probabilities that lie beside label maps, and the doubts of a review list."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resvox.errors import EvaluationError
from resvox.evaluation.calibration.boxes import box_around
from resvox.evaluation.calibration.reliability import Reliability, reliability_of
from resvox.evaluation.calibration.risk import RiskCoverage, risk_coverage
from resvox.evaluation.rounding import rounded
from resvox.volumes.formats import stem_of

if TYPE_CHECKING:
    from resvox.evaluation.label_sets import LabelSet
    from resvox.evaluation.table import ScoreTable

PROBABILITIES, REVIEW = "_probabilities.nii.gz", "review.csv"
NAMED = 5  # cases named in a remark, at most
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How well probabilities and doubts fit what is true.

    Args:
        cases: the reliability of each case's probabilities.
        risk: scores against doubt; None without a review list.
        left_out: cases with probabilities whose references are annotated with some of the labels alone: where such a
            reference has the background, one of the other labels may be right.
    """

    cases: Mapping[str, Reliability] = field(default_factory=dict)
    risk: RiskCoverage | None = None
    left_out: tuple[str, ...] = ()

    @property
    def overall(self) -> Reliability:
        """All voxels of all cases together."""
        return sum(self.cases.values(), Reliability())

    def to_dict(self) -> dict[str, Any]:
        """The numbers as JSON holds them."""
        cases = {case: {"ece": rounded(each.ece), "brier": rounded(each.brier)} for case, each in self.cases.items()}
        risk = {} if self.risk is None else {"risk": self.risk.to_dict()}
        left_out = {"left_out": list(self.left_out)} if self.left_out else {}
        return {**self.overall.to_dict(), "cases": cases, **left_out, **risk}

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was unusual, one line each."""
        if not self.left_out:
            return ()
        named = ", ".join(self.left_out[:NAMED]) + (", ..." if len(self.left_out) > NAMED else "")
        return (f"calibration without {len(self.left_out)} cases that are not annotated with every label ({named})",)


def calibration_of(files: Mapping[str, tuple[Path, Path]], labels: LabelSet, table: ScoreTable) -> Calibration:
    """The calibration of cases whose probabilities lie beside their label maps.

    Args:
        files: prediction and reference of each case.
        labels: of the references; the channels of probabilities are background and labels in the order of their values,
            or the regions.
        table: the scores of the cases, for the risk.

    Raises:
        EvaluationError: neither probabilities nor a review list, probabilities with other channels, or every case left
            out and no review list.
    """
    cases, left_out = {}, []
    for case, (prediction, reference) in files.items():
        path = prediction.parent / f"{stem_of(prediction)}{PROBABILITIES}"
        if not path.is_file():
            continue
        found = reliability_of_file(path, reference, labels, annotated=labels.labelled.get(case))
        if found is None:
            left_out.append(case)
        else:
            cases[case] = found
    folders = {prediction.parent for prediction, _ in files.values()}
    doubts = {case: value for folder in folders for case, value in _doubts(folder / REVIEW).items()}
    dice = {case: _mean_dice(table, case) for case in table.scores}
    by_stem = {stem_of(prediction): case for case, (prediction, _) in files.items()}
    doubts = {by_stem.get(case, case): value for case, value in doubts.items()}
    if left_out and not cases and not doubts:
        raise EvaluationError(
            f"probabilities of {len(left_out)} cases, none of which is annotated with every label",
            expected="a case that is annotated with every label",
            fix="leave --calibration out",
            path=next(iter(folders)),
        )
    if not cases and not doubts:
        raise EvaluationError(
            "neither probabilities nor a review.csv beside the label maps",
            expected="what resvox predict --probabilities --uncertainty writes",
            path=next(iter(folders)),
        )
    risk = risk_coverage(doubts, dice) if doubts else None
    return Calibration(cases=cases, risk=risk, left_out=tuple(left_out))


def reliability_of_file(
    path: Path, reference: Path, labels: LabelSet, *, annotated: Sequence[str] | None = None
) -> Reliability | None:
    """The reliability of one case's probabilities in the box around what is labelled or predicted.

    Args:
        path: the probabilities.
        reference: the label map.
        labels: of all cases; they decide what the channels are.
        annotated: the labels with which the reference was annotated; None for all. Of regions, which are decided one by
            one, the channels of these are scored.

    Returns:
        None where some of the labels are not annotated, which are decided together, or none of the regions is.

    Raises:
        EvaluationError: channels that do not fit the labels, or another grid.
    """
    from resvox.volumes import read_label_map, read_volume

    volume, truth = read_volume(path), read_label_map(reference)
    channels = volume.with_channel_axis()
    if not volume.grid.matches(truth.grid):
        raise EvaluationError(
            "probabilities on another grid than their reference",
            expected="the same shape, spacing, origin and direction",
            path=path,
        )
    values = list(labels.scored.values())
    is_regions = len(channels) == len(values)
    if not is_regions and len(channels) != len(values) + 1:
        raise EvaluationError(
            f"{len(channels)} channels of probabilities",
            expected=f"{len(values) + 1} for background and labels, or {len(values)} for regions",
            path=path,
        )
    scored = [annotated is None or name in annotated for name in labels.scored]
    if not any(scored) or not (is_regions or all(scored)):
        return None
    if is_regions and not all(scored):
        kept = {name: own for name, own in labels.scored.items() if annotated is not None and name in annotated}
        channels, labels = channels[scored], replace(labels, scored=kept)
    return _reliability(channels, truth.array, labels, is_regions=is_regions)


def _reliability(probabilities: Array, truth: Array, labels: LabelSet, *, is_regions: bool) -> Reliability:
    """See `reliability_of_file`; ``is_regions``: one channel per label, decided by itself."""
    predicted = (probabilities > 0.5).any(axis=0) if is_regions else probabilities.argmax(axis=0) > 0
    known = ~np.isin(truth, labels.ignored)
    box = box_around(predicted | (known & np.isin(truth, [each for own in labels.scored.values() for each in own])))
    kept = known[box]
    inside, reference = probabilities[(slice(None), *box)][:, kept], truth[box][kept]
    if not is_regions:
        index = np.zeros(len(reference), np.intp)
        for place, own in enumerate(sorted(labels.scored.values()), start=1):
            index[np.isin(reference, own)] = place
        return reliability_of(inside, index)
    found = Reliability()
    for channel, own in zip(inside, labels.scored.values(), strict=True):
        found += reliability_of(np.stack([1 - channel, channel]), np.isin(reference, own).astype(np.intp))
    return found


def _mean_dice(table: ScoreTable, case: str) -> float | None:
    known = [score.dice for score in table.scores[case].values() if score.dice is not None]
    return sum(known) / len(known) if known else None


def _doubts(path: Path) -> dict[str, float]:
    """The doubt of each case in a review list; empty if the list does not exist."""
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {row["case"]: float(row["doubt"]) for row in csv.DictReader(file) if row.get("doubt")}
    except (ValueError, KeyError, TypeError) as error:
        raise EvaluationError(
            f"not a review list ({type(error).__name__}: {error})",
            expected="columns case and doubt, as resvox predict --uncertainty writes",
            path=path,
        ) from error
