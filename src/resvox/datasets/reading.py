"""A path becomes a dataset: one function per task, which chooses the reader by what lies there."""

from __future__ import annotations

import os
from pathlib import Path

from resvox.datasets.class_folders import read_class_folders, read_class_manifest
from resvox.datasets.classification import ClassificationDataset
from resvox.datasets.folders import read_label_folder, read_label_manifest
from resvox.datasets.manifest import is_manifest
from resvox.datasets.npz import read_npz
from resvox.datasets.regression import RegressionDataset
from resvox.datasets.segmentation import Dataset
from resvox.datasets.target_folders import read_target_folder, read_target_manifest
from resvox.errors import DatasetError


def read_dataset(path: str | os.PathLike[str]) -> Dataset:
    """Read a dataset for segmentation: a folder with `dataset.json` (MSD, nnU-Net, MONAI) or a CSV manifest.

    Folder: ``imagesTr``, ``labelsTr`` and optionally ``imagesTs``, ``labelsTs``; several channels of a case as
    ``<case>_0000``, ``<case>_0001``; or the cases that `dataset.json` lists. Manifest: columns ``image`` (several
    channels ``;``-separated, or ``image_0``, ``image_1``), ``label``, optionally ``split`` or ``fold``, ``id`` and
    ``group`` (or ``patient``, ``subject``); paths relative to the manifest. docs/inputs.md lists what is repaired and
    what is refused.

    Raises:
        DatasetError: a missing `dataset.json`, label or image file, or a field that is not understood.
        VolumeError: the first image cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        return read_label_folder(path)
    if path.is_file() and path.name == "dataset.json":
        return read_label_folder(path.parent)
    if path.is_file() and is_manifest(path):
        return read_label_manifest(path)
    fix = "an .npz holds images and their classes: --task classification" if path.suffix.lower() == ".npz" else ""
    raise _not_a_dataset(path, "a folder with dataset.json, or a .csv manifest", fix)


def read_classification(path: str | os.PathLike[str]) -> ClassificationDataset:
    """Read a dataset of classified images.

    A folder: one sub-folder per class (``cat/1.png``), or the same below ``train``, ``val`` and ``test``. A CSV
    manifest: columns ``image`` (several channels ``;``-separated, or ``image_0``, ``image_1``) and ``class``,
    optionally ``split`` or ``fold``, ``id`` and ``group``; paths relative to the manifest. An ``.npz`` as MedMNIST lays
    it out: ``train_images``, ``train_labels``, ``val_*``, ``test_*``; images (n, h, w[, channels]) or (n, d, h, w).

    Raises:
        DatasetError: no such dataset, one class only, a class that is unknown or a file that is missing.
        VolumeError: the first image cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        return read_class_folders(path)
    if path.is_file() and is_manifest(path):
        return read_class_manifest(path)
    if path.is_file() and path.suffix.lower() == ".npz":
        return read_npz(path)
    fix = "leave --task classification out for label maps" if path.name == "dataset.json" else ""
    raise _not_a_dataset(path, "a folder with a sub-folder for each class, a .csv manifest, or a .npz", fix)


def read_regression(path: str | os.PathLike[str]) -> RegressionDataset:
    """Read a dataset of scans and volumes of values on the scans' grids.

    A folder: `dataset.json` with ``channel_names``, optionally ``target_names`` {"0": "dose"}; ``imagesTr`` and
    ``targetsTr``, optionally ``imagesTs`` and ``targetsTs``; several channels as ``<case>_0000``, ``<case>_0001``.
    A CSV manifest: columns ``image`` (several channels ``;``-separated, or ``image_0``, ``image_1``) and ``target``
    (the same), optionally ``split`` or ``fold``, ``id`` and ``group``; paths relative to the manifest.

    Raises:
        DatasetError: no such dataset, a file that is missing, a field that is not understood.
        VolumeError: the first scan or target cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        return read_target_folder(path)
    if path.is_file() and path.name == "dataset.json":
        return read_target_folder(path.parent)
    if path.is_file() and is_manifest(path):
        return read_target_manifest(path)
    raise _not_a_dataset(path, "a folder with dataset.json, imagesTr and targetsTr, or a .csv manifest")


def _not_a_dataset(path: Path, expected: str, fix: str = "") -> DatasetError:
    got = "not a dataset" if path.exists() else "no such file or folder"
    return DatasetError(got, expected=expected, fix=fix, path=path)
