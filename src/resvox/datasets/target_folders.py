"""Reading scans and their target volumes from a folder with `dataset.json`, and from a CSV manifest."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path

from resvox.datasets.class_folders import SPLIT_NAMES
from resvox.datasets.folders import case_id, read_channel_names, read_json
from resvox.datasets.regression import RegressionCase, RegressionDataset
from resvox.errors import DatasetError
from resvox.volumes import read_volume
from resvox.volumes.formats import is_image


def read_target_folder(folder: Path) -> RegressionDataset:
    """``imagesTr`` and ``targetsTr``, matched by case name."""
    source = folder / "dataset.json"
    described = read_json(source)
    named = described.get("target_names")
    train = _cases(folder, "imagesTr", "targetsTr", None)
    test = [case for case in _cases(folder, "imagesTs", "targetsTs", "test") if case.id not in {c.id for c in train}]
    if not train:
        raise DatasetError("no training cases", expected="images in imagesTr and values in targetsTr", path=folder)
    targets = tuple(str(named[key]) for key in sorted(named, key=int)) if isinstance(named, dict) else None
    return _dataset(source, folder.resolve().name, [*train, *test], read_channel_names(described, source), targets)


def _cases(folder: Path, images: str, targets: str, split: str | None) -> list[RegressionCase]:
    found, answers = _by_case(folder / images), _by_case(folder / targets)
    for name, files in found.items():
        if name not in answers and split != "test":
            raise DatasetError(
                f"no target for case {name!r} (its image is {files[0].name})",
                expected="a volume of values on the grid of the image",
                fix="add it, or move the image to imagesTs",
                path=folder / targets,
            )
    return [
        RegressionCase(id=name, images=tuple(files), targets=tuple(answers.get(name, ())), split=split)
        for name, files in found.items()
    ]


def _by_case(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*")):
        if is_image(path) and not path.name.startswith("."):
            found.setdefault(case_id(path), []).append(path)
    return found


def read_target_manifest(path: Path) -> RegressionDataset:
    """Columns image and target (or image_0, ..., target_0, ...), and optionally split and id."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        columns = [name.strip() for name in reader.fieldnames or []]
        rows = [{(k or "").strip(): (v or "").strip() for k, v in row.items() if k} for row in reader]
    images, targets = _columns(columns, "image"), _columns(columns, "target")
    if not images or not targets or not rows:
        raise DatasetError(
            f"{len(rows)} rows with columns {', '.join(columns) or '(none)'}",
            expected="image and target (or image_0, ..., target_0, ...), optionally split and id, and one row a case",
            path=path,
        )
    cases = [_manifest_case(row, images, targets, path, line) for line, row in enumerate(rows, start=2)]
    beside = path.with_name("dataset.json")
    names = read_channel_names(read_json(beside), beside) if beside.is_file() else None
    return _dataset(path, path.stem, cases, names, None)


def _columns(columns: list[str], name: str) -> list[str]:
    return [name] if name in columns else sorted(c for c in columns if re.fullmatch(rf"{name}_\d+", c))


def _manifest_case(
    row: Mapping[str, str], images: list[str], targets: list[str], path: Path, line: int
) -> RegressionCase:
    def files(columns: list[str]) -> tuple[Path, ...]:
        joined = ";".join(row.get(column, "") for column in columns)
        return tuple(path.parent / name.strip() for name in joined.split(";") if name.strip())

    found = files(images)
    if not found:
        raise DatasetError(f"line {line} names no image", expected="a path in the image column", path=path)
    for each in (*found, *files(targets)):
        if not each.exists():
            raise DatasetError(f"no such file (line {line} of {path.name})", expected="a scan or target", path=each)
    split = row.get("split", "").lower()
    return RegressionCase(
        id=row.get("id") or case_id(found[0]),
        images=found,
        targets=files(targets),
        split=SPLIT_NAMES.get(split, split) or None,
    )


def _dataset(
    source: Path,
    name: str,
    cases: list[RegressionCase],
    channels: tuple[str, ...] | None,
    targets: tuple[str, ...] | None,
) -> RegressionDataset:
    first = next((case for case in cases if case.targets), None)
    if first is None:
        raise DatasetError("only test cases", expected="at least one case with a target", path=source)
    image = read_volume(first.images[0], channels=None if len(first.images) == 1 else 1)
    target = read_volume(first.targets[0], channels=None if len(first.targets) == 1 else 1)
    counts = [v.channels if len(files) == 1 else len(files)
              for v, files in ((image, first.images), (target, first.targets))]  # fmt: skip
    return RegressionDataset(
        name=name,
        cases=tuple(cases),
        channel_names=channels or tuple(f"channel_{index}" for index in range(counts[0])),
        target_names=targets or (("value",) if counts[1] == 1 else tuple(f"value_{i}" for i in range(counts[1]))),
        spatial_dims=image.spatial_dims,
        source=source,
    )
