"""Which prediction belongs to which reference, and the scores of all pairs."""

from __future__ import annotations

import glob
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resvox.errors import EvaluationError, ResvoxError
from resvox.evaluation.result import OnCase
from resvox.volumes.formats import is_label_map, stem_of

BESIDE = ("_probabilities.", "_uncertainty.", "_disagreement.")  # what `resvox predict` writes beside label maps


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Predictions and references by name of the case.

    Args:
        files: (prediction, reference) of each case that has both.
        missing: references without a prediction.
        extra: predictions without a reference.
    """

    files: Mapping[str, tuple[Path, Path]]
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()

    @property
    def references(self) -> list[Path]:
        """The references that are compared."""
        return [reference for _, reference in self.files.values()]


@dataclass(frozen=True, kw_only=True)
class PairScores:
    """Scores by case; one line per case that failed, and per remark."""

    scores: dict[str, Any]
    failed: tuple[str, ...]
    remarks: tuple[str, ...]


def match(predictions: Path, references: Path) -> Pairs:
    """Two files, or the files of two folders that have the same name without their ending.

    Raises:
        EvaluationError: nothing there, nothing in common, or two files of one folder with the same name.
    """
    for path in (predictions, references):
        if not path.exists():
            raise EvaluationError("no such file or folder", expected="label maps", path=path)
    if predictions.is_file() and references.is_file():
        return Pairs(files={stem_of(references): (predictions, references)})
    if predictions.is_file() or references.is_file():
        raise EvaluationError(
            f"a file against a folder ({references})",
            expected="two files, or two folders",
            path=predictions,
        )
    ours, theirs = _images(predictions), _images(references)
    files = {case: (ours[case], theirs[case]) for case in theirs if case in ours}
    if not files:
        raise EvaluationError(
            f"{len(ours)} predictions and {len(theirs)} references in {references} share no case name",
            expected="files of the same names in both folders",
            fix="rename them, or name two files",
            path=predictions,
        )
    return Pairs(
        files=files,
        missing=tuple(case for case in theirs if case not in ours),
        extra=tuple(case for case in ours if case not in theirs),
    )


def score_pairs(
    pairs: Mapping[str, tuple[Path, Path]], score: Callable[[Path, Path], Any], on_case: OnCase | None
) -> PairScores:
    """Score every pair; a case that cannot be compared does not prevent the others.

    Raises:
        EvaluationError: no case could be compared.
    """
    scores: dict[str, Any] = {}
    failed: list[str] = []
    remarks: list[str] = []
    for number, (case, (prediction, reference)) in enumerate(pairs.items()):
        if on_case is not None:
            on_case(case, number, len(pairs))
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", UserWarning)
                scores[case] = score(prediction, reference)
            remarks += [str(each.message) for each in caught if each.category is UserWarning]
        except (ResvoxError, OSError) as error:
            failed.append(str(error))
    if not scores:
        first = next(iter(pairs.values()))[0]
        raise EvaluationError(
            f"none of {len(pairs)} cases could be compared; the first: {failed[0]}", path=first.parent
        )
    return PairScores(scores=scores, failed=tuple(failed), remarks=tuple(remarks))


def _is_mask_of_region(path: Path) -> bool:
    """Whether a file is what ``resvox predict --region-masks`` writes beside a label map."""
    case, found, _ = path.name.partition("_region_")
    return bool(found) and any(stem_of(each) == case for each in path.parent.glob(f"{glob.escape(case)}.*"))


def _images(folder: Path) -> dict[str, Path]:
    """The image files of a folder by name; a link that leads nowhere is among them, so that its case is reported."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        is_other = path.name.startswith(".") or path.is_dir() or not is_label_map(path)
        if is_other or any(kind in path.name for kind in BESIDE) or _is_mask_of_region(path):
            continue
        case = stem_of(path)
        if case in found:
            raise EvaluationError(
                f"{found[case].name} and {path.name} are both the case {case!r}",
                expected="one file per case",
                fix="move one of them to another folder, or name two files",
                path=folder,
            )
        found[case] = path
    # the label map of an image file x_0000 is called x_0000 too, where its reference is called x
    short = {case.removesuffix("_0000"): path for case, path in found.items()}
    return short if len(short) == len(found) else found
