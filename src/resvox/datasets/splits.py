"""Which cases train, validate and test: the names of the parts, and drawing by hash, whole groups at a time."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from resvox.errors import DatasetError

SPLITS = ("train", "validation", "test")
NAMED = "the dataset names its validation cases"
_MEANINGS = {
    **dict.fromkeys(("train", "training", "tr"), "train"),
    **dict.fromkeys(("validation", "val", "valid", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "ts"), "test"),
}


class SplitCase(Protocol):
    """What dividing needs to know of a case."""

    @property
    def id(self) -> str:
        """Its name, unlike any other in the dataset."""

    @property
    def split(self) -> str | None:
        """The part that the dataset puts it in, or None."""

    @property
    def group(self) -> str | None:
        """The patient, scan or other group whose cases stay together, or None."""


AnyCase = TypeVar("AnyCase", bound=SplitCase)


def split_meaning(text: str) -> str | None:
    """The part that a word stands for ("val", "Validation"), or None where it stands for none."""
    return _MEANINGS.get(text.strip().lower())


def read_split(text: str, *, where: str, path: Path) -> str | None:
    """The part that a cell of a manifest or a field names; None for an empty one.

    Raises:
        DatasetError: another word; the message names ``where`` in the file it stands.
    """
    if not text.strip():
        return None
    meaning = split_meaning(text)
    if meaning is None:
        raise DatasetError(
            f"split={text.strip()!r} ({where})",
            expected="'train', 'validation', 'test' or nothing",
            fix="correct it",
            path=path,
        )
    return meaning


def check_split(case: str, split: str | None) -> None:
    """Refuse a part that does not exist.

    Raises:
        DatasetError: ``split`` is not one of `SPLITS` or None.
    """
    if split is not None and split not in SPLITS:
        raise DatasetError(
            f"case {case!r} has split={split!r}",
            expected="'train', 'validation', 'test' or nothing",
            fix="correct the split column",
        )


def check_together(cases: Sequence[SplitCase], source: Path | None) -> None:
    """Refuse two cases of one id; warn of a group that the dataset itself has put into several parts.

    Raises:
        DatasetError: two cases have one id.
    """
    twice = [name for name, count in Counter(case.id for case in cases).items() if count > 1]
    if twice:
        raise DatasetError(
            f"two cases are called {twice[0]!r}",
            expected="one id per case",
            fix="rename one, or add an 'id' column to the manifest",
            path=source,
        )
    parts: dict[str, set[str]] = {}
    for case in cases:
        if case.group is not None and case.split is not None:
            parts.setdefault(case.group, set()).add(case.split)
    torn = {name: sorted(found) for name, found in parts.items() if len(found) > 1}
    if torn:
        name, found = next(iter(torn.items()))
        more = f" and {len(torn) - 1} more" if len(torn) > 1 else ""
        warnings.warn(
            f"{source}: group {name!r}{more} has cases in {' and '.join(found)}: scores will be too good",
            UserWarning,
            stacklevel=2,
        )


def fold_splits(folds: Sequence[int | None], source: Path) -> tuple[list[str | None], str]:
    """Splits for cases that are marked with a fold: the lowest fold validates, as in MONAI's datalists.

    Returns:
        One split per case, and the reason in a sentence. Cases without a fold train.

    Raises:
        DatasetError: all cases have one fold, so that none would be left for training.
    """
    found = sorted({fold for fold in folds if fold is not None})
    if len(found) == 1 and None not in folds:
        raise DatasetError(
            f"every case has fold {found[0]}",
            expected="at least two folds: the lowest validates, the others train",
            fix="remove the fold, or number several",
            path=source,
        )
    splits: list[str | None] = ["validation" if fold == found[0] else "train" for fold in folds]
    return splits, f"fold {found[0]} of {len(found)} that the dataset names validates"


def divide(
    cases: Iterable[AnyCase],
    *,
    fraction: float,
    seed: int,
    source: Path | None,
    named: str = NAMED,
    classes: Mapping[str, Hashable] | None = None,
) -> tuple[tuple[AnyCase, ...], tuple[AnyCase, ...], str]:
    """Cases that train, cases that validate, and the reason; independent of the order of ``cases``.

    Explicit splits are kept; unmarked cases follow the marked ones of their group. Where no case is marked for
    validation, about ``fraction`` of the unmarked ones is drawn, at least one, whole groups at a time, by a hash of the
    group (or id) and the seed: a case that is added later moves as few others as possible. Where nothing can be drawn,
    or ``fraction`` is 0, the training cases validate.

    Args:
        named: the reason to give where the dataset names its validation cases.
        classes: the class of each id; then the fraction is that of each class.

    Raises:
        DatasetError: no labelled cases, or all of them are marked 'validation'.
    """
    labelled = sorted((case for case in cases if case.split != "test"), key=lambda case: case.id)
    if not labelled:
        raise DatasetError("only test cases", expected="at least one labelled case", path=source)
    parts = _parts_of(labelled)
    chosen = {name for name, part in parts.items() if part == "validation"}
    reason = named
    if not chosen and len(labelled) > 1 and fraction > 0:
        groups: dict[tuple[bool, str], list[str]] = {}
        for case in labelled:
            if parts[case.id] is None:
                groups.setdefault((case.group is not None, case.group or case.id), []).append(case.id)
        chosen = _draw(groups, fraction, seed, len(labelled)) if classes is None else _draw_by_class(
            groups, classes, fraction, seed
        )  # fmt: skip
        how = "by id" if classes is None else "class by class"
        together = ", whole groups at a time," if any(grouped for grouped, _ in groups) else ""
        reason = f"{len(chosen)} of {len(labelled)} cases drawn for validation {how}{together} and seed {seed}"
    train = tuple(case for case in labelled if case.id not in chosen)
    if not train:
        raise DatasetError("every labelled case is marked 'validation'", expected="cases to train on", path=source)
    validation = tuple(case for case in labelled if case.id in chosen)
    if not validation:
        why = "no case is left for validation" if fraction > 0 else "validation_fraction is 0"
        return train, train, f"{why}: validating on the training cases themselves"
    return train, validation, reason


def _parts_of(labelled: Sequence[SplitCase]) -> dict[str, str | None]:
    """The part of each id: its own, otherwise that of the marked cases of its group, validation first."""
    marked: dict[str, set[str]] = {}
    for case in labelled:
        if case.group is not None and case.split is not None:
            marked.setdefault(case.group, set()).add(case.split)
    parts: dict[str, str | None] = {}
    for case in labelled:
        found = marked.get(case.group or "", set()) if case.group is not None else set()
        inherited = "validation" if "validation" in found else "train" if found else None
        parts[case.id] = case.split or inherited
    return parts


def _ranked(groups: Iterable[tuple[bool, str]], seed: int) -> list[tuple[bool, str]]:
    return sorted(groups, key=lambda key: (hashlib.sha256(f"{seed}:{key[1]}".encode()).hexdigest(), key))


def _draw(groups: Mapping[tuple[bool, str], list[str]], fraction: float, seed: int, labelled: int) -> set[str]:
    """Ids of groups that together are about ``fraction`` of the candidates, one group at least, never all cases."""
    count = sum(map(len, groups.values()))
    wanted = max(1, round(fraction * count))
    ranked = _ranked(groups, seed)
    chosen: list[tuple[bool, str]] = []
    for key in ranked:
        if len(groups[key]) <= wanted:
            chosen.append(key)
            wanted -= len(groups[key])
    if not chosen and ranked:  # every group is larger than the share: the smallest comes nearest
        chosen = [min(ranked, key=lambda key: len(groups[key]))]
    drawn = {name for key in chosen for name in groups[key]}
    return drawn if len(drawn) < labelled else set()


def _draw_by_class(
    groups: Mapping[tuple[bool, str], list[str]], classes: Mapping[str, Hashable], fraction: float, seed: int
) -> set[str]:
    """As `_draw`, of each class; a group that holds the last cases of a class stays for training."""
    left = Counter(classes[name] for names in groups.values() for name in names)
    wanted = {label: max(1, round(fraction * count)) if count > 1 else 0 for label, count in left.items()}
    chosen: set[str] = set()
    for key in _ranked(groups, seed):
        found = Counter(classes[name] for name in groups[key])
        needed = any(wanted[label] > 0 for label in found)
        if needed and all(left[label] > count for label, count in found.items()):
            chosen.update(groups[key])
            wanted = {label: count - found[label] for label, count in wanted.items()}
            left -= found
    return chosen
