"""Reading classified images: folders, one per class, and a CSV manifest."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from resvox.datasets.channel_files import channel_name
from resvox.datasets.classification import ClassificationDataset, ImageCase
from resvox.datasets.manifest import read_manifest
from resvox.datasets.splits import NAMED, split_meaning
from resvox.errors import DatasetError
from resvox.volumes import InputCase, find_cases, read_volume
from resvox.volumes.formats import is_picture

# Folders of one dataset for another task: never two classes.
_OTHER_TASKS = (
    (
        "segmentation",
        re.compile(r"images?|imgs?|scans?|imagestr", re.IGNORECASE),
        re.compile(r"labels?|masks?|segs?|segmentations?|annotations?|labelstr|ground_?truths?", re.IGNORECASE),
    ),
    ("regression", re.compile(r"images?|imagestr|inputs?", re.IGNORECASE), re.compile(r"targets?(tr)?", re.IGNORECASE)),
)


def read_class_folders(root: Path) -> ClassificationDataset:
    """One sub-folder per class, or that below sub-folders for the splits."""
    folders = _folders(root)
    _refuse_other_tasks(root, folders)
    meanings = {folder: split_meaning(folder.name) for folder in folders}
    parts = {folder: meaning for folder, meaning in meanings.items() if meaning is not None}
    if parts and len(parts) < len(folders):
        odd = next(folder for folder in folders if folder not in parts)
        raise DatasetError(
            f"a folder {odd.name!r} beside {', '.join(folder.name for folder in parts)}",
            expected="either classes, or train, val and test with the classes inside",
            path=root,
        )
    cases: list[ImageCase] = []
    searched: list[tuple[str | None, Path]] = [(part, folder) for folder, part in parts.items()] or [(None, root)]
    for split, folder in searched:
        cases += _cases_in_classes(folder, split)
    if len({case.id for case in cases}) < len(cases):  # the same name in two splits
        cases = [replace(case, id=f"{case.split}_{case.id}") for case in cases]
    return _dataset(root, root.resolve().name, cases, NAMED)


def read_class_manifest(path: Path) -> ClassificationDataset:
    """Columns image (or image_0, image_1, ...), class, and optionally split, id and group."""
    manifest = read_manifest(path, files=("image",), words=("class",))
    cases = [
        ImageCase(
            id=row.id, images=row.files["image"], label=row.words["class"] or None, split=row.split, group=row.group
        )
        for row in manifest.rows
    ]
    return _dataset(path, path.stem, cases, manifest.named)


def _refuse_other_tasks(root: Path, folders: list[Path]) -> None:
    names = [folder.name for folder in folders]
    for task, inputs, answers in _OTHER_TASKS:
        images = next((name for name in names if inputs.fullmatch(name)), None)
        others = next((name for name in names if answers.fullmatch(name)), None)
        if images is not None and others is not None:
            raise DatasetError(
                f"folders {images!r} and {others!r}: a dataset for {task}",
                expected="a folder for each class, with the images of that class",
                fix=f"--task {task}, or rename the folders where they are classes",
                path=root,
            )


def _cases_in_classes(folder: Path, split: str | None) -> list[ImageCase]:
    # All in one call, so that `resvox predict FOLDER` gives every case the name that it has here.
    found = find_cases([folder], channels=None)
    _warn_of_frames(found, folder)
    cases = []
    for case in found:
        if case.problem is not None:
            raise DatasetError(
                case.problem.got,
                expected=case.problem.expected or "images in a folder for each class",
                fix=case.problem.fix,
                path=case.problem.path or folder,
            )
        inside = case.paths[0].relative_to(folder).parts
        if len(inside) < 2:
            raise DatasetError(
                "an image beside the folders of the classes",
                expected="every image in the folder of its class",
                fix="move it, or write a CSV manifest with the columns image,class",
                path=case.paths[0],
            )
        group = "/".join(inside[1:-1]) or None  # class/patient/image
        cases.append(ImageCase(id=case.id, images=case.paths, label=inside[0], split=split, group=group))
    return cases


def _warn_of_frames(cases: Sequence[InputCase], folder: Path) -> None:
    """Say that numbered pictures (``frame_0000.png``, ``frame_0001.png``) are images of their own, not channels."""
    films: dict[tuple[Path, str], list[str]] = {}
    for case in cases:
        name = channel_name(case.paths[0])
        is_grouped = len(case.paths[0].relative_to(folder).parts) > 2  # class/patient/image
        if name.channel is not None and len(case.paths) == 1 and is_picture(case.paths[0]) and not is_grouped:
            films.setdefault((case.paths[0].parent, name.case), []).append(case.paths[0].name)
    films = {
        film: names for film, names in films.items() if len(names) > 1 and channel_name(Path(names[0])).channel == 0
    }
    if films:
        (place, _), names = next(iter(films.items()))
        more = f" and {len(films) - 1} more such series" if len(films) > 1 else ""
        warnings.warn(
            f"{place}: {names[0]} to {names[-1]}{more}: numbered pictures are images of their own, not channels; "
            "put those of one patient or film into a folder of their own inside the class, so that they stay together",
            UserWarning,
            stacklevel=2,
        )


def _dataset(source: Path, name: str, cases: list[ImageCase], named: str) -> ClassificationDataset:
    if not cases:
        raise DatasetError("no images", expected="a folder with a sub-folder for each class", path=source)
    first = cases[0]
    alone = len(first.images) == 1
    odd = next((case for case in cases if len(case.images) != len(first.images)), None)
    if odd is not None:
        raise DatasetError(
            f"{len(odd.images)} channel files ({', '.join(path.name for path in odd.images[:4])}), where "
            f"{first.images[0].name} has {len(first.images)}",
            expected="as many channels in every case",
            fix="names that end with _0000, _0001 are channels of one image; name single images otherwise",
            path=odd.images[0],
        )
    volume = read_volume(first.images[0], channels=None if alone else 1)
    channels = volume.channels if alone else len(first.images)
    return ClassificationDataset(
        name=name,
        cases=tuple(cases),
        classes=in_order({case.label for case in cases if case.label is not None}),
        channel_names=channel_names(channels, volume.spatial_dims),
        spatial_dims=volume.spatial_dims,
        is_picture=all(is_picture(case.images[0]) for case in cases),
        source=source,
        named=named,
    )


def channel_names(channels: int, spatial_dims: int) -> tuple[str, ...]:
    """Names where the data have none."""
    if channels == 3 and spatial_dims == 2:
        return ("red", "green", "blue")
    return ("intensity",) if channels == 1 else tuple(f"channel_{index}" for index in range(channels))


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Classes in natural order: 2 before 10."""
    return tuple(sorted(names, key=_natural))


def _natural(name: str) -> list[tuple[bool, int, str]]:
    parts = (part for part in re.split(r"([0-9]+)", name) if part)
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


def _folders(root: Path) -> list[Path]:
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
