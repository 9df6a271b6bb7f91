"""Which case validates in which fold: by hash, whole groups at a time, classes spread evenly."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from resvox.errors import DatasetError


def assign_folds(cases: Sequence[Any], folds: int, *, seed: int, source: Any = None) -> dict[str, int]:
    """The fold in which each labelled case validates, from 0; independent of the order of ``cases``.

    Groups (patients) stay together. The largest group comes first, equal ones in the order of a hash of the name and
    the seed, and each goes to the fold that has the fewest cases of its classes, then the fewest cases. Parts that the
    dataset names ("train", "validation") are not used, but its test cases are in no fold.

    Args:
        cases: of any task: ``id``, ``group`` and ``split``; the ``label`` of a classification is its class.

    Raises:
        DatasetError: fewer cases or groups than folds.
    """
    groups: dict[tuple[bool, str], list[Any]] = {}
    for case in sorted((case for case in cases if case.split != "test"), key=lambda case: case.id):
        groups.setdefault((case.group is not None, case.group or case.id), []).append(case)
    if len(groups) < folds:
        what = "groups of labelled cases" if any(grouped for grouped, _ in groups) else "labelled cases"
        raise DatasetError(
            f"{len(groups)} {what} for {folds} folds",
            expected="at least one for each fold",
            fix=f"use --folds {len(groups)}" if len(groups) > 1 else "leave --folds out",
            path=source,
        )

    def order(key: tuple[bool, str]) -> tuple[Any, ...]:
        return -len(groups[key]), hashlib.sha256(f"{seed}:{key[1]}".encode()).hexdigest(), key

    counts = [Counter[Any]() for _ in range(folds)]
    found: dict[str, int] = {}
    for key in sorted(groups, key=order):
        classes = Counter(_class_of(case) for case in groups[key])
        fold = min(range(folds), key=lambda at: (sum(counts[at][each] for each in classes), counts[at].total(), at))
        counts[fold].update(classes)
        found.update({case.id: fold for case in groups[key]})
    return dict(sorted(found.items()))


def _class_of(case: Any) -> Any:
    """The class of a classified image; one for all cases of other tasks, whose labels are files."""
    label = getattr(case, "label", None)
    return label if isinstance(label, str) else None


def dataset_of_fold(dataset: Any, assignment: Mapping[str, int], fold: int) -> Any:
    """The dataset in which the cases of one fold validate and those of the others train; test cases stay."""
    cases = tuple(
        replace(case, split="validation" if assignment[case.id] == fold else "train") if case.id in assignment else case
        for case in dataset.cases
    )
    count = len(set(assignment.values()))
    return replace(dataset, cases=cases, named=f"fold {fold} of {count} validates")
