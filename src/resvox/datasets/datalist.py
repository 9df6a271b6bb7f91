"""Cases that a `dataset.json` lists: ``training``, ``validation``, ``test`` (MSD, MONAI); ``dataset`` (nnU-Net)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resvox.datasets.channel_files import case_id, own_names
from resvox.datasets.description import shown
from resvox.datasets.label_values import labelled_names
from resvox.datasets.manifest import GROUPS, find_file
from resvox.datasets.splits import NAMED, fold_splits, read_split
from resvox.errors import DatasetError
from resvox.volumes.formats import stem_of

PARTS = {"training": None, "validation": "validation", "test": "test", "testing": "test"}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One listed case: its channel files, its answer (label map, targets), its part, group and annotated labels."""

    id: str
    images: tuple[Path, ...]
    answers: tuple[Path, ...]
    split: str | None = None
    group: str | None = None
    fold: int | None = None
    labelled: tuple[str, ...] | None = None


def lists_cases(described: Mapping[str, Any]) -> bool:
    """Whether a description lists its training cases."""
    return any(described.get(key) is not None for key in ("training", "validation", "dataset"))


def listed_cases(
    described: Mapping[str, Any], folder: Path, channels: int, source: Path, *, answer: str = "label"
) -> tuple[list[Entry], str]:
    """The cases that a description lists, and why its validation cases validate.

    Args:
        channels: how many channels a case has; nnU-Net v1 lists ``a.nii.gz`` and stores ``a_0000.nii.gz``.
        answer: the field that names the label map or the targets.

    Raises:
        DatasetError: an entry that is not understood, or a file that is missing; names the field.
    """
    entries: list[Entry] = []
    for field, split in PARTS.items():
        if described.get(field) is not None:
            entries += _entries(described[field], field, split, folder, channels, source, answer)
    names = own_names([entry.images[0] for entry in entries])
    entries = [replace(entry, id=name) for entry, name in zip(entries, names, strict=True)]
    table = described.get("dataset")
    if table is not None and not (entries and isinstance(table, str)):  # a word is the name of a collection
        if not isinstance(table, Mapping):
            raise _not_understood(
                f"dataset {shown(table)}", source, 'an object {"case": {"images": [...], "label": "..."}}'
            )
        for name, given in table.items():
            entry = _entry(given, f"dataset[{name!r}]", None, folder, channels, source, answer)
            entries.append(replace(entry, id=str(name)))
    return _with_folds(entries, source)


def _entries(
    listed: Any, field: str, split: str | None, folder: Path, channels: int, source: Path, answer: str
) -> list[Entry]:
    if not isinstance(listed, list):
        raise _not_understood(f"{field} {shown(listed)}", source, f"a list of {_example(answer)}")
    found, missing = [], []
    for number, given in enumerate(listed):
        where = f"{field} entry {number} {shown(given)}"
        if split == "test" and isinstance(given, (str, list)):
            given = {"image": given}
        try:
            found.append(_entry(given, where, split, folder, channels, source, answer))
        except DatasetError as error:
            if split != "test" or error.path == source:
                raise
            missing.append(str(error.path))  # archives are often unpacked without their test images
    if missing:
        warnings.warn(
            f"{source}: {len(missing)} of {len(listed)} cases of {field} are left out: no file {missing[0]}",
            UserWarning,
            stacklevel=2,
        )
    return found


def _entry(given: Any, where: str, split: str | None, folder: Path, channels: int, source: Path, answer: str) -> Entry:
    expected = _example(answer)
    if not isinstance(given, Mapping):
        raise _not_understood(where, source, expected)
    names = given.get("images", given.get("image"))
    images = _files(names, f"{where}: image", folder, channels, source)
    if not images:
        raise _not_understood(where, source, expected)
    answers = _files(given.get(answer), f"{where}: {answer}", folder, 1, source)
    if not answers and split != "test":
        raise _not_understood(where, source, expected)
    if answer == "label" and len(answers) > 1:
        raise _not_understood(f"{where}: {len(answers)} label maps", source, f"one, as {expected}")
    fold, group = given.get("fold"), next((given[name] for name in GROUPS if given.get(name) is not None), None)
    if isinstance(fold, str) and fold.strip().isdecimal():
        fold = int(fold)
    if fold is not None and (isinstance(fold, bool) or not isinstance(fold, int) or fold < 0):
        raise _not_understood(f"{where}: fold {shown(fold)}", source, "a whole number from 0 on")
    own = given.get("split")
    if own is not None and not isinstance(own, str):
        raise _not_understood(f"{where}: split {shown(own)}", source, "'train', 'validation' or 'test'")
    return Entry(
        id="",
        images=images,
        answers=answers,
        split=split or read_split(own or "", where=where, path=source),
        group=None if group is None else str(group),
        fold=fold,
        labelled=labelled_names(given.get("labelled"), where, source),
    )


def _files(value: Any, where: str, folder: Path, channels: int, source: Path) -> tuple[Path, ...]:
    """Files that a field names: one, or a list of them. One name may stand for numbered channel files."""
    names = [value] if isinstance(value, str) else value
    if names is None or names == [] or names == "":
        return ()
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise _not_understood(where, source, "the name of a file, or a list of names")
    if len(names) == 1:
        numbered = _numbered(folder, names[0], channels)
        if numbered:
            return numbered
    kind = where.rsplit(" ", 1)[-1]
    return tuple(
        find_file(folder, name.strip(), f"{kind} file for case {case_id(Path(name))[:80]!r} ({where})", source)
        for name in names
    )


def _numbered(folder: Path, name: str, channels: int) -> tuple[Path, ...]:
    """nnU-Net v1 lists ``a.nii.gz`` and stores ``a_0000.nii.gz``; MSD stores what it lists."""
    if "\0" in name:
        return ()
    image = folder / name
    stem = stem_of(image)
    ending = image.name[len(stem) :]
    try:
        numbered = [image.with_name(f"{stem}_{index:04d}{ending}") for index in range(channels)]
        stored = numbered[0].is_file() and not (image.is_file() and channels == 1)
    except (OSError, ValueError):  # a name that no file can have; the caller raises the error
        return ()
    if not stored:
        return ()
    missing = [path for path in numbered if not path.exists()]
    if missing:
        raise DatasetError(
            f"no image file for case {stem!r}", expected=f"{channels} channels, as {numbered[0].name}", path=missing[0]
        )
    return tuple(numbered)


def _with_folds(entries: list[Entry], source: Path) -> tuple[list[Entry], str]:
    folds = [entry.fold for entry in entries if entry.split != "test"]
    if not any(fold is not None for fold in folds):
        return entries, NAMED
    if any(entry.split == "validation" for entry in entries):
        warnings.warn(f"{source}: fold is not used: the dataset names its validation cases", UserWarning, stacklevel=2)
        return entries, NAMED
    splits, named = fold_splits(folds, source)
    following = iter(splits)
    return [e if e.split == "test" else replace(e, split=next(following)) for e in entries], named


def _example(answer: str) -> str:
    return f'{{"image": "./imagesTr/a.nii.gz", "{answer}": "./{answer}sTr/a.nii.gz"}}'


def _not_understood(got: str, source: Path, expected: str) -> DatasetError:
    return DatasetError(got, expected=expected, path=source)
