"""Reading classified images from folders, one a class, and from a CSV manifest."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from resvox.datasets.classification import ClassificationDataset, ImageCase
from resvox.datasets.folders import case_id
from resvox.errors import DatasetError
from resvox.volumes import find_cases, read_volume
from resvox.volumes.formats import is_picture

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


def read_class_folders(root: Path) -> ClassificationDataset:
    """One sub-folder a class, or that below sub-folders for the splits."""
    folders = _folders(root)
    parts = {SPLIT_NAMES[folder.name.lower()]: folder for folder in folders if folder.name.lower() in SPLIT_NAMES}
    if parts and len(parts) < len(folders):
        odd = next(folder for folder in folders if folder.name.lower() not in SPLIT_NAMES)
        raise DatasetError(
            f"a folder {odd.name!r} beside {', '.join(folder.name for folder in parts.values())}",
            expected="either classes, or train, val and test with the classes inside",
            path=root,
        )
    cases: list[ImageCase] = []
    searched: list[tuple[str | None, Path]] = [*parts.items()] or [(None, root)]
    for split, folder in searched:
        cases += _cases_in_classes(folder, split)
    taken = sorted({case.id for case in cases})
    if len(taken) < len(cases):  # the same name in two splits
        cases = [_renamed(case, f"{case.split}_{case.id}") for case in cases]
    return _dataset(root, root.resolve().name, cases)


def _cases_in_classes(folder: Path, split: str | None) -> list[ImageCase]:
    # All in one call, so that `resvox predict FOLDER` gives every case the name that it has here.
    found = find_cases([folder], channels=None)
    cases = []
    for case in found:
        inside = case.paths[0].relative_to(folder).parts
        if case.problem is not None:
            raise DatasetError(case.problem.text, expected="images in a folder for each class", path=folder)
        if len(inside) < 2:
            raise DatasetError(
                "an image beside the folders of the classes",
                expected="every image in the folder of its class",
                fix="move it, or write a CSV manifest with the columns image,class",
                path=case.paths[0],
            )
        group = inside[1] if len(inside) > 2 else None  # class/patient/image
        cases.append(ImageCase(id=case.id, images=case.paths, label=inside[0], split=split, group=group))
    return cases


def read_class_manifest(path: Path) -> ClassificationDataset:
    """Columns image (or image_0, image_1, ...), class, and optionally split, id and group."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        columns = [name.strip() for name in reader.fieldnames or []]
        rows = [{(k or "").strip(): (v or "").strip() for k, v in row.items() if k} for row in reader]
    image_columns = ["image"] if "image" in columns else sorted(c for c in columns if re.fullmatch(r"image_\d+", c))
    if not image_columns or "class" not in columns:
        raise DatasetError(
            f"columns {', '.join(columns) or '(none)'}",
            expected="image (or image_0, image_1, ...), class and optionally split, id and group",
            path=path,
        )
    if not rows:
        raise DatasetError("no rows", expected="one row a case", path=path)
    cases = [_manifest_case(row, image_columns, path, line) for line, row in enumerate(rows, start=2)]
    return _dataset(path, path.stem, cases)


def _manifest_case(row: Mapping[str, str], image_columns: list[str], path: Path, line: int) -> ImageCase:
    joined = ";".join(row.get(column, "") for column in image_columns)
    images = tuple(path.parent / name.strip() for name in joined.split(";") if name.strip())
    if not images:
        raise DatasetError(f"line {line} names no image", expected="a path in the image column", path=path)
    for image in images:
        if not image.exists():
            raise DatasetError(f"no image file (line {line} of {path.name})", expected="an image", path=image)
    split = row.get("split", "").lower()
    return ImageCase(
        id=row.get("id") or case_id(images[0]),
        images=images,
        label=row["class"] or None,
        split=SPLIT_NAMES.get(split, split) or None,
        group=row.get("group") or None,
    )


def _dataset(source: Path, name: str, cases: list[ImageCase]) -> ClassificationDataset:
    if not cases:
        raise DatasetError("no images", expected="a folder with a sub-folder for each class", path=source)
    first = cases[0]
    alone = len(first.images) == 1
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
    )


def channel_names(channels: int, spatial_dims: int) -> tuple[str, ...]:
    """Names where the data have none."""
    if channels == 3 and spatial_dims == 2:
        return ("red", "green", "blue")
    return ("intensity",) if channels == 1 else tuple(f"channel_{index}" for index in range(channels))


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Classes sorted as people would: 2 before 10."""
    return tuple(sorted(names, key=lambda name: [(not p.isdigit(), int(p) if p.isdigit() else 0, p)
                                                 for p in re.split(r"(\d+)", name) if p]))  # fmt: skip


def _folders(root: Path) -> list[Path]:
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _renamed(case: ImageCase, name: str) -> ImageCase:
    return ImageCase(id=name, images=case.images, label=case.label, split=case.split, group=case.group)
