"""Reading labelled scans: a folder with `dataset.json`, and a CSV manifest."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from resvox.datasets.channel_files import cases_of_files, channel_name, images_in
from resvox.datasets.datalist import listed_cases, lists_cases
from resvox.datasets.description import (
    read_channel_names,
    read_ending,
    read_json,
    read_title,
    shown,
    warn_of_counts,
)
from resvox.datasets.label_values import LabelValues, labelled_names, read_label_values
from resvox.datasets.manifest import read_manifest
from resvox.datasets.segmentation import Case, Dataset
from resvox.datasets.splits import NAMED
from resvox.errors import DatasetError, suggest
from resvox.volumes import read_label_map, read_volume
from resvox.volumes.formats import is_dicom_name, is_label_map, stem_of

MOST_LABELS = 1000  # in label maps without a dataset.json; more are intensities, or instances


def read_label_folder(folder: Path) -> Dataset:
    """Read a folder with `dataset.json` in the dialect of MSD, nnU-Net or MONAI's datalists."""
    source = folder / "dataset.json"
    described = read_json(source)
    channels, values = read_channel_names(described, source), read_label_values(described, source)
    ending, named = read_ending(described, source), NAMED
    if lists_cases(described):
        entries, named = listed_cases(described, folder, len(channels), source)
        cases = [
            replace(
                _case(e.id, e.images, e.answers[0] if e.answers else None, e.split, e.group, source),
                labelled=e.labelled,
            )
            for e in entries
        ]
    else:
        cases = _found_cases(folder, "imagesTr", "labelsTr", ending, len(channels), numbered=False)
    train = [case for case in cases if case.split != "test"]
    if not train:
        raise DatasetError("no training cases", expected="images in imagesTr and label maps in labelsTr", path=folder)
    numbered = any(
        channel_name(case.images[0]).channel is not None and case.id == stem_of(case.images[0]) for case in train
    )
    known = {case.id for case in cases}
    test = _found_cases(folder, "imagesTs", "labelsTs", ending, len(channels), numbered=numbered)
    warn_of_counts(described, training=len(train), source=source)
    cases += [case for case in test if case.id not in known]
    return Dataset(
        name=read_title(described, folder),
        cases=_labelled(cases, described, source),
        labels=values.labels,
        regions=values.regions,
        ignore=values.ignore,
        channel_names=channels,
        spatial_dims=first_look(train[0].images, len(channels))[0],
        source=source,
        named=named,
    )


def read_label_manifest(path: Path) -> Dataset:
    """Read a CSV manifest; label and channel names from a `dataset.json` beside it, otherwise from the data."""
    manifest = read_manifest(path, files=("image", "label"), optional=("label",), additional=("labelled",))
    beside = path.with_name("dataset.json")
    described = read_json(beside) if beside.is_file() else {}
    cases = tuple(
        replace(
            _case(
                row.id, row.files["image"], _one_label(row.files["label"], row.line, path), row.split, row.group, path
            ),
            labelled=labelled_names(row.words["labelled"], f"line {row.line}", path),
        )
        for row in manifest.rows
    )
    values = read_label_values(described, beside) if described else LabelValues(labels=_labels_in_data(cases, path))
    names = read_channel_names(described, beside) if described else None
    spatial_dims, count = first_look(cases[0].images, len(names) if names else None)
    return Dataset(
        name=path.stem,
        cases=cases,
        labels=values.labels,
        regions=values.regions,
        ignore=values.ignore,
        channel_names=names or tuple(f"channel_{index}" for index in range(count)),
        spatial_dims=spatial_dims,
        source=path,
        named=manifest.named,
    )


def _labelled(cases: list[Case], described: Mapping[str, Any], source: Path) -> tuple[Case, ...]:
    """The cases with the field ``labelled``: ``{"case": ["liver"]}``; cases that it does not name have all labels."""
    given = described.get("labelled")
    if given is None:
        return tuple(cases)
    if not isinstance(given, Mapping):
        raise DatasetError(f"labelled {shown(given)}", expected='an object {"case": ["liver"]}', path=source)
    known = [case.id for case in cases]
    for name in given:
        if name not in known:
            raise DatasetError(
                f"labelled names the case {name!r}",
                expected=f"cases of the dataset, such as {known[0]!r}",
                fix=suggest(name, known),
                path=source,
            )
    return tuple(
        replace(case, labelled=labelled_names(given[case.id], f"case {case.id!r}", source))
        if case.id in given
        else case
        for case in cases
    )


def first_look(images: tuple[Path, ...], channels: int | None) -> tuple[int, int]:
    """(spatial dimensions, channels) of a dataset by the files of one case; one file may hold all channels."""
    alone = len(images) == 1
    volume = read_volume(images[0], channels=channels if alone else 1)
    return volume.spatial_dims, volume.channels if alone else len(images)


def _one_label(files: tuple[Path, ...], line: int, path: Path) -> Path | None:
    if len(files) > 1:
        raise DatasetError(f"line {line} names {len(files)} label maps", expected="one label map per case", path=path)
    return files[0] if files else None


def _found_cases(
    folder: Path, images: str, labels: str, ending: str | None, channels: int, *, numbered: bool
) -> list[Case]:
    """The cases in a folder of images and a folder of label maps, matched by name.

    Args:
        numbered: numbers at the end of names are no channels, as other cases have shown.
    """
    is_test = images == "imagesTs"
    maps = _label_maps(folder / labels, ending)
    found = cases_of_files(
        images_in(folder / images, ending),
        channels,
        folder=folder / images,
        is_answered=lambda name: name in maps or (numbered and channel_name(Path(name)).channel is not None),
    )
    alone = sorted(set(maps) - set(found))
    if alone and (found or not is_test):
        listed = ", ".join(maps[name].name for name in alone[:5]) + (" ..." if len(alone) > 5 else "")
        warnings.warn(
            f"{folder / labels}: {len(alone)} label maps without an image in {images}: {listed}",
            UserWarning,
            stacklevel=2,
        )
    cases = []
    for name, files in found.items():
        label = maps.get(name)
        if label is None and not is_test:
            label = folder / labels / f"{name}{ending or '.nii.gz'}"  # absent: the error names where it should be
        cases.append(_case(name, files, label, "test" if is_test else None, None, folder / "dataset.json"))
    return cases


def _label_maps(folder: Path, ending: str | None) -> dict[str, Path]:
    """Label maps by name; of several with one name the one with the dataset's ending."""
    found: dict[str, Path] = {}
    for path in images_in(folder):
        name = stem_of(path)
        if name not in found or (ending and path.name.lower().endswith(ending)):
            found[name] = path
        elif not (ending and found[name].name.lower().endswith(ending)):
            raise DatasetError(
                f"two label maps for case {name!r} ({found[name].name}, {path.name})",
                expected="one label map per case",
                fix="move one away, or name the ending in file_ending of dataset.json",
                path=folder,
            )
    return found


def _case(
    name: str, images: tuple[Path, ...], label: Path | None, split: str | None, group: str | None, source: Path
) -> Case:
    if label is not None:
        if not label.exists():
            raise DatasetError(
                f"no label file for case {name!r} (its image is {images[0].name})",
                expected="a label map on the grid of the image",
                fix="add the label map, or move the image to imagesTs",
                path=label,
            )
        if label.is_file() and not is_label_map(label) and not is_dicom_name(label) and label.suffix:
            raise DatasetError(
                f"a label map of case {name!r} in this format",
                expected="a format that keeps every value: .nii.gz, .nrrd, .mha, .png, .tif",
                fix="convert it",
                path=label,
            )
    return Case(id=name, images=images, label=label, split=split, group=group)


def _labels_in_data(cases: tuple[Case, ...], path: Path) -> dict[str, int]:
    values: set[int] = {0}
    for case in cases:
        if case.label is None:
            continue
        found = np.unique(read_label_map(case.label).array)
        whole = np.isfinite(found).all() and (found == np.rint(found)).all()
        if not whole or found[0] < 0 or found.size > MOST_LABELS:
            raise DatasetError(
                f"{found.size} different values from {found[0]:g} to {found[-1]:g} in the label map",
                expected=f"at most {MOST_LABELS} whole numbers from 0 on",
                fix=f"name label maps in the column 'label' of {path}, and scans in 'image'",
                path=case.label,
            )
        values.update(int(value) for value in found)
    return {"background" if value == 0 else f"label_{value}": value for value in sorted(values)}
