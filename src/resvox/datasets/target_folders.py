"""Reading scans and their target volumes: a folder with `dataset.json`, and a CSV manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resvox.datasets.channel_files import cases_of_files, images_in
from resvox.datasets.datalist import listed_cases, lists_cases
from resvox.datasets.description import (
    read_channel_names,
    read_ending,
    read_json,
    read_names,
    read_title,
    warn_of_counts,
)
from resvox.datasets.folders import first_look
from resvox.datasets.manifest import read_manifest
from resvox.datasets.regression import RegressionCase, RegressionDataset
from resvox.datasets.splits import NAMED
from resvox.errors import DatasetError


def read_target_folder(folder: Path) -> RegressionDataset:
    """``imagesTr`` and ``targetsTr``, matched by case name, or the cases that `dataset.json` lists."""
    source = folder / "dataset.json"
    described = read_json(source)
    channels, targets = read_channel_names(described, source), _target_names(described, source)
    ending, named = read_ending(described, source), NAMED
    if lists_cases(described):
        entries, named = listed_cases(described, folder, len(channels), source, answer="target")
        cases = [
            RegressionCase(id=e.id, images=e.images, targets=e.answers, split=e.split, group=e.group) for e in entries
        ]
    else:
        cases = _found_cases(folder, "imagesTr", "targetsTr", ending, len(channels), targets)
    train = [case for case in cases if case.split != "test"]
    if not train:
        raise DatasetError("no training cases", expected="images in imagesTr and values in targetsTr", path=folder)
    known = {case.id for case in cases}
    test = _found_cases(folder, "imagesTs", "targetsTs", ending, len(channels), targets)
    warn_of_counts(described, training=len(train), source=source)
    all_cases = [*cases, *(case for case in test if case.id not in known)]
    return _dataset(source, read_title(described, folder), all_cases, channels, targets, named)


def read_target_manifest(path: Path) -> RegressionDataset:
    """Columns image and target (or image_0, ..., target_0, ...), and optionally split, id and group."""
    manifest = read_manifest(path, files=("image", "target"), optional=("target",))
    cases = [
        RegressionCase(
            id=row.id, images=row.files["image"], targets=row.files["target"], split=row.split, group=row.group
        )
        for row in manifest.rows
    ]
    beside = path.with_name("dataset.json")
    described = read_json(beside) if beside.is_file() else None
    channels = read_channel_names(described, beside) if described is not None else None
    targets = _target_names(described, beside) if described is not None else None
    return _dataset(path, path.stem, cases, channels, targets, manifest.named)


def _target_names(described: Mapping[str, Any], source: Path) -> tuple[str, ...] | None:
    value = described.get("target_names")
    return None if value in (None, {}, [], "") else read_names(value, "target_names", source)


def _found_cases(
    folder: Path, images: str, targets: str, ending: str | None, channels: int, names: Sequence[str] | None
) -> list[RegressionCase]:
    is_test = images == "imagesTs"
    target_files = images_in(folder / targets, ending)
    stems = {path.name[: -len(ending)] if ending else path.name.split(".")[0] for path in target_files}
    answers = cases_of_files(target_files, len(names) if names else None, folder=folder / targets)
    found = cases_of_files(
        images_in(folder / images, ending),
        channels,
        folder=folder / images,
        is_answered=lambda name: name in answers or (len(answers) > 1 and name in stems and channels == 1),
    )
    for name, files in found.items():
        if name not in answers and not is_test:
            raise DatasetError(
                f"no target for case {name!r} (its image is {files[0].name})",
                expected="a volume of values on the grid of the image",
                fix="add it, or move the image to imagesTs",
                path=folder / targets,
            )
    return [
        RegressionCase(id=name, images=files, targets=answers.get(name, ()), split="test" if is_test else None)
        for name, files in found.items()
    ]


def _dataset(
    source: Path,
    name: str,
    cases: list[RegressionCase],
    channels: tuple[str, ...] | None,
    targets: tuple[str, ...] | None,
    named: str,
) -> RegressionDataset:
    first = next((case for case in cases if case.targets), None)
    if first is None:
        raise DatasetError("only test cases", expected="at least one case with a target", path=source)
    spatial_dims, image_channels = first_look(first.images, len(channels) if channels else None)
    _, values = first_look(first.targets, len(targets) if targets else None)
    return RegressionDataset(
        name=name,
        cases=tuple(cases),
        channel_names=channels or tuple(f"channel_{index}" for index in range(image_channels)),
        target_names=targets or (("value",) if values == 1 else tuple(f"value_{index}" for index in range(values))),
        spatial_dims=spatial_dims,
        source=source,
        named=named,
    )
