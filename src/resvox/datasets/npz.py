"""An ``.npz`` as MedMNIST lays it out: arrays of images and labels, one pair for each split.

Yang et al. 2023, "MedMNIST v2 - A large-scale lightweight benchmark for 2D and 3D biomedical image classification".
"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from resvox.datasets.class_folders import channel_names, in_order
from resvox.datasets.classification import ClassificationDataset, ImageCase
from resvox.errors import DatasetError
from resvox.volumes import Volume

PARTS = {"train": "train", "val": "validation", "test": "test"}
# What a damaged archive or array raises, by the byte that is wrong; encrypted or exotic archives are a RuntimeError.
UNREADABLE = (KeyError, ValueError, OSError, EOFError, AttributeError, RuntimeError, MemoryError, zipfile.BadZipFile,
              zlib.error, struct.error, SyntaxError)  # fmt: skip
COLOURS = (1, 3, 4)  # a last axis this long is colour, not depth


def read_npz(path: Path) -> ClassificationDataset:
    """Every image of ``train_images``, ``val_images`` and ``test_images`` as a case ``<part>_<row>``.

    Class names come from a JSON file of the same name beside it, ``{"labels": {"0": "adipose", ...}}``; without
    one, classes are called by their numbers. ``<part>_groups``, if it exists, holds the group of each image.
    """
    found = {part: npz_array(path, f"{part}_labels") for part in PARTS if f"{part}_images" in npz_names(path)}
    if "train" not in found:
        raise DatasetError(
            f"arrays {', '.join(npz_names(path)) or '(none)'}",
            expected="train_images and train_labels, and val_* and test_*, as in MedMNIST",
            path=path,
        )
    numbers = {part: _class_numbers(labels, f"{part}_labels", path) for part, labels in found.items()}
    names = _class_names(path, sorted({int(n) for each in numbers.values() for n in each}))
    cases: list[ImageCase] = []
    for part, each in numbers.items():
        count = npz_shape(path, f"{part}_images")[0]
        if count != len(each):
            raise DatasetError(
                f"{count} {part}_images and {len(each)} {part}_labels", expected="one label per image", path=path
            )
        groups = _groups(path, part, len(each))
        cases += [
            ImageCase(
                id=f"{part}_{row}",
                images=(path,),
                label=names[int(number)],
                split=PARTS[part] if part != "train" or "val" in numbers else None,
                group=groups[row],
                member=(f"{part}_images", row),
            )
            for row, number in enumerate(each)
        ]
    first = image_volume(np.empty(npz_shape(path, "train_images")[1:], np.uint8), path)
    return ClassificationDataset(
        name=path.stem,
        cases=tuple(cases),
        classes=tuple(names.values()) if _names_file(path).is_file() else in_order(names.values()),
        channel_names=channel_names(first.channels, first.spatial_dims),
        spatial_dims=first.spatial_dims,
        is_picture=True,
        source=path,
    )


def image_volume(image: np.ndarray[Any, Any], path: Path) -> Volume:
    """One image of an array, (h, w), (h, w, channels), (d, h, w) or (d, h, w, channels), channels first.

    Raises:
        DatasetError: another number of axes.
    """
    if image.ndim == 4 or (image.ndim == 3 and image.shape[-1] in COLOURS):
        image = np.moveaxis(image, -1, 0)
        dims = image.ndim - 1
    elif image.ndim in (2, 3):
        dims = image.ndim
    else:
        raise DatasetError(
            f"images of {image.ndim} axes",
            expected="(n, h, w), (n, h, w, channels), (n, d, h, w) or (n, d, h, w, channels)",
            path=path,
        )
    return Volume(np.ascontiguousarray(image), spacing_mm=(1.0,) * dims)


def npz_names(path: Path) -> tuple[str, ...]:
    """The arrays in a file.

    Raises:
        DatasetError: not an ``.npz``.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return tuple(file.files)
    except UNREADABLE as error:
        raise DatasetError(f"not a .npz ({error})", expected="what numpy.savez writes", path=path) from error


def npz_shape(path: Path, name: str) -> tuple[int, ...]:
    """The shape of an array, from its header: gigabytes of images stay where they are.

    Raises:
        DatasetError: no such array.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            version = np.lib.format.read_magic(file)
            header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
            shape: tuple[int, ...] = header(file)[0]
    except UNREADABLE as error:
        raise DatasetError(f"no array {name} that can be read ({error})", expected="an array", path=path) from error
    if len(shape) < 3 or shape[0] < 1:
        raise DatasetError(f"{name} of shape {shape}", expected="(n, h, w) or more axes, one image at least", path=path)
    return shape


def forget_arrays() -> None:
    """Give the memory back that `npz_array` keeps."""
    _array.cache_clear()


def npz_array(path: Path, name: str) -> np.ndarray[Any, Any]:
    """An array of a file, read once for each process.

    Raises:
        DatasetError: no such array, or one of Python objects.
    """
    return _array(str(path.resolve()), path.stat().st_mtime_ns, name)


@lru_cache(maxsize=8)
def _array(path: str, modified: int, name: str) -> np.ndarray[Any, Any]:
    try:
        with np.load(path, allow_pickle=False) as file:
            found: np.ndarray[Any, Any] = file[name]
    except UNREADABLE as error:
        raise DatasetError(
            f"no array {name} that can be read ({error})", expected="arrays of numbers", path=path
        ) from error
    return found


def _class_numbers(labels: np.ndarray[Any, Any], name: str, path: Path) -> np.ndarray[Any, Any]:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iub":
        raise DatasetError(
            f"{name} of shape {labels.shape} and type {labels.dtype}",
            expected="one whole number per image",
            fix="several labels per image are not supported; choose one",
            path=path,
        )
    return labels


def _names_file(path: Path) -> Path:
    return path.with_suffix(".json")


def _class_names(path: Path, numbers: list[int]) -> dict[int, str]:
    beside = _names_file(path)
    if not beside.is_file():
        return {number: str(number) for number in numbers}
    try:
        names = {
            int(number): str(name) for number, name in json.loads(beside.read_text(encoding="utf-8"))["labels"].items()
        }
        return {number: names[number] for number in numbers}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"no names for the classes {numbers} ({type(error).__name__}: {error})",
            expected='{"labels": {"0": "adipose", "1": "background"}}',
            path=beside,
        ) from error


def _groups(path: Path, part: str, count: int) -> list[str | None]:
    name = f"{part}_groups"
    if name not in npz_names(path):
        return [None] * count
    return [str(group) for group in npz_array(path, name).reshape(count)]
