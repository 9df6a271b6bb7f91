"""Reading the two spellings of a dataset: a folder with `dataset.json`, and a CSV manifest."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from resvox.datasets.segmentation import Case, Dataset
from resvox.errors import DatasetError
from resvox.volumes import read_label_map, read_volume
from resvox.volumes.formats import READ_ENDINGS, is_image, stem_of


def read_folder(folder: Path) -> Dataset:
    """Read a folder with `dataset.json` in MSD's or nnU-Net v2's dialect."""
    source = folder / "dataset.json"
    described = read_json(source)
    channel_names = read_channel_names(described, source)
    labels = _labels(described, source)
    if "training" in described:
        train = _listed_cases(described["training"], folder, len(channel_names), source)
    elif "dataset" in described:
        train = _tabled_cases(described["dataset"], folder)
    else:
        train = _found_cases(folder, "imagesTr", "labelsTr", described.get("file_ending"), len(channel_names))
    test = _found_cases(folder, "imagesTs", "labelsTs", described.get("file_ending"), len(channel_names))
    if not train:
        raise DatasetError("no training cases", expected="images in imagesTr and label maps in labelsTr", path=folder)
    known = {case.id for case in train}
    return Dataset(
        name=str(described.get("name", folder.resolve().name)),
        cases=(*train, *(case for case in test if case.id not in known)),
        labels=labels,
        channel_names=channel_names,
        spatial_dims=_first_look(train[0], len(channel_names))[0],
        source=source,
    )


def read_manifest(path: Path) -> Dataset:
    """Read a CSV manifest; label and channel names from a `dataset.json` beside it, else from the data."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        columns = [name.strip() for name in reader.fieldnames or []]
        rows = [{(k or "").strip(): (v or "").strip() for k, v in row.items() if k} for row in reader]
    image_columns = ["image"] if "image" in columns else sorted(c for c in columns if re.fullmatch(r"image_\d+", c))
    if not image_columns or "label" not in columns:
        raise DatasetError(
            f"columns {', '.join(columns) or '(none)'}",
            expected="image (or image_0, image_1, ...), label and optionally split and id",
            path=path,
        )
    if not rows:
        raise DatasetError("no rows", expected="one row a case", path=path)
    cases = tuple(_manifest_case(row, image_columns, path, line) for line, row in enumerate(rows, start=2))
    beside = path.with_name("dataset.json")
    described = read_json(beside) if beside.is_file() else {}
    names = read_channel_names(described, beside) if described else None
    spatial_dims, count = _first_look(cases[0], len(names) if names else None)
    return Dataset(
        name=path.stem,
        cases=cases,
        labels=_labels(described, beside) if described else _labels_in_data(cases),
        channel_names=names or tuple(f"channel_{index}" for index in range(count)),
        spatial_dims=spatial_dims,
        source=path,
    )


def case_id(path: Path) -> str:
    """The name of a case from one of its files: without the ending and without ``_0000``."""
    return re.sub(r"_\d{4}$", "", stem_of(path))


def read_json(source: Path) -> dict[str, Any]:
    """The object in a `dataset.json`.

    Raises:
        DatasetError: no such file, or something else in it.
    """
    if not source.is_file():
        raise DatasetError(
            "no dataset.json",
            expected="the MSD or nnU-Net layout: dataset.json, imagesTr, labelsTr",
            fix="write dataset.json, or pass a CSV manifest with the columns image,label,split; "
            "for folders of classes, --task classification",
            path=source.parent,
        )
    try:
        described = json.loads(source.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DatasetError(f"not JSON ({error})", expected="a JSON object", path=source) from error
    if not isinstance(described, dict):
        raise DatasetError("not a JSON object", expected='{"labels": ..., ...}', path=source)
    return described


def read_channel_names(described: Mapping[str, Any], source: Path) -> tuple[str, ...]:
    """One name a channel, in order.

    Raises:
        DatasetError: none are given.
    """
    for key in ("channel_names", "modality"):
        named = described.get(key)
        if isinstance(named, dict) and named:
            return tuple(str(named[index]) for index in sorted(named, key=int))
    raise DatasetError(
        "neither channel_names nor modality",
        expected='channel_names {"0": "CT"} (nnU-Net) or modality {"0": "CT"} (MSD)',
        path=source,
    )


def _labels(described: Mapping[str, Any], source: Path) -> dict[str, int]:
    labels = described.get("labels")
    if not isinstance(labels, dict) or not labels:
        raise DatasetError(
            "no labels", expected='labels {"background": 0, "liver": 1} or {"0": "background"}', path=source
        )
    if any(isinstance(value, (list, tuple)) for value in labels.values()):
        raise DatasetError(
            "labels that are regions (lists of values)",
            expected="one value a label",
            fix="give every label its own value; regions are not supported",
            path=source,
        )
    if all(isinstance(value, str) and not value.strip().isdigit() for value in labels.values()):
        labels = {name: value for value, name in labels.items()}  # MSD writes {"0": "background"}
    try:
        read = {str(name): int(value) for name, value in labels.items()}
    except (TypeError, ValueError) as error:
        raise DatasetError(f"labels {labels}", expected="whole numbers as values", path=source) from error
    if "ignore" in read:
        raise DatasetError(
            "a label called 'ignore'", expected="labels that are all learned", fix="remove it", path=source
        )
    return read if 0 in read.values() else {"background": 0, **read}


def _listed_cases(listed: list[Any], folder: Path, channels: int, source: Path) -> list[Case]:
    cases = []
    for entry in listed:
        if not isinstance(entry, dict) or "image" not in entry or "label" not in entry:
            raise DatasetError(
                f"training entry {entry!r}",
                expected='{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}',
                path=source,
            )
        image = folder / entry["image"]
        name = stem_of(image)
        ending = image.name[len(name) :]
        numbered = [image.with_name(f"{name}_{index:04d}{ending}") for index in range(channels)]
        # nnU-Net v1 lists `a.nii.gz` and stores `a_0000.nii.gz`; MSD stores what it lists.
        images = [image] if (image.is_file() and channels == 1) or not numbered[0].is_file() else numbered
        cases.append(_case(case_id(image), images, folder / entry["label"]))
    return cases


def _tabled_cases(table: Mapping[str, Any], folder: Path) -> list[Case]:
    # nnU-Net v2's optional "dataset": {"case": {"images": [...], "label": "..."}}
    return [
        _case(name, [folder / image for image in entry["images"]], folder / entry["label"])
        for name, entry in table.items()
    ]


def _found_cases(folder: Path, images: str, labels: str, ending: str | None, channels: int) -> list[Case]:
    found: dict[str, list[Path]] = {}
    endings = (ending,) if ending else READ_ENDINGS
    for path in sorted((folder / images).glob("*")):
        if (path.name.endswith(ending) if ending else is_image(path)) and not path.name.startswith("."):
            found.setdefault(case_id(path), []).append(path)
    is_test = images == "imagesTs"
    cases = []
    for name, files in found.items():
        label = next((p for e in endings if (p := folder / labels / f"{name}{e}").is_file()), None)
        if label is None and not is_test:
            label = folder / labels / f"{name}{endings[0]}"  # absent: the error names where it should be
        if len(files) not in (1, channels):  # one file may hold all: RGB, or a 4-D NIfTI
            raise DatasetError(
                f"case {name!r} has {len(files)} image files ({', '.join(file.name for file in files)})",
                expected=f"{channels}: {name}_0000 to {name}_{channels - 1:04d}",
                path=folder / images,
            )
        cases.append(_case(name, files, label, "test" if is_test else None))
    return cases


def _manifest_case(row: Mapping[str, str], image_columns: list[str], path: Path, line: int) -> Case:
    joined = ";".join(row.get(column, "") for column in image_columns)
    images = [path.parent / name.strip() for name in joined.split(";") if name.strip()]
    if not images:
        raise DatasetError(f"line {line} names no image", expected="a path in the image column", path=path)
    split = {"val": "validation", "valid": "validation", "training": "train"}.get(
        row.get("split", "").lower(), row.get("split", "").lower()
    )
    label = path.parent / row["label"] if row.get("label") else None
    return _case(row.get("id") or case_id(images[0]), images, label, split or None)


def _case(name: str, images: list[Path], label: Path | None, split: str | None = None) -> Case:
    for image in images:
        if not image.exists():
            raise DatasetError(f"no image file for case {name!r}", expected="a scan", path=image)
    if label is not None and not label.exists():
        raise DatasetError(
            f"no label file for case {name!r} (its image is {images[0].name})",
            expected="a label map on the grid of the image",
            fix="add the label map, or move the image to imagesTs",
            path=label,
        )
    return Case(id=name, images=tuple(images), label=label, split=split)


def _first_look(case: Case, channels: int | None) -> tuple[int, int]:
    """(spatial dimensions, channels) of a dataset, from its first case; one file may hold all channels."""
    alone = len(case.images) == 1
    volume = read_volume(case.images[0], channels=channels if alone else 1)
    return volume.spatial_dims, volume.channels if alone else len(case.images)


def _labels_in_data(cases: tuple[Case, ...]) -> dict[str, int]:
    values: set[int] = {0}
    for case in cases:
        if case.label is not None:
            values.update(int(value) for value in np.unique(read_label_map(case.label).array))
    return {"background" if value == 0 else f"label_{value}": value for value in sorted(values)}
