"""Six patients of BRATS 2013 out of DeepMedic's examples, packed without loss, and the folders that all read.

The files hold scores per channel, ``(value - mean) / deviation`` of whole numbers; `pack` finds the step between two
neighbouring values and stores the whole numbers again, 0 outside the brain, as scans have it before a preprocessing.
The images carry the terms of BRATS: they are for benchmarks, and not part of this project.
"""

from __future__ import annotations

import gzip
import io
import json
import lzma
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = "examples/dataForExamples/brats2015TrainingData"
PATIENTS = {"1": "test", "2": "test", "3": "validation", "4": "validation", "5": "train", "6": "train"}
CHANNELS = {"flair": "Flair_subtrMeanDivStd", "t1c": "T1c_subtrMeanDivStd"}
REGIONS = {"whole": (1, 2, 3, 4), "core": (1, 3, 4), "enhancing": (4,)}
ORDER = (2, 1, 4)  # the value that is written for each region: oedema, necrosis, enhancing
FOLDS = (("1", "4"), ("2", "5"), ("3", "6"))  # held out: of each part of DeepMedic's example no two together
NAME = "Dataset001_Brats"


@dataclass(frozen=True)
class Patient:
    """One patient: channels (2, z, y, x) int16, labels (z, y, x) uint8, on a grid of 1 mm."""

    id: str
    image: np.ndarray[Any, Any]
    label: np.ndarray[Any, Any]


def pack(repository: Path, target: Path) -> None:
    """Write the patients of a clone of deepmedic/deepmedic, or of its bare git directory, into one compressed file."""
    with lzma.open(target, "wb", preset=6) as file:
        for name, part in PATIENTS.items():
            folder = f"{FOLDER}/{part}/brats_2013_pat000{name}_1"
            planes = [_whole_numbers(read(repository, f"{folder}/{stem}.nii.gz")) for stem in CHANNELS.values()]
            label = read(repository, f"{folder}/OTMultiClass.nii.gz").astype(np.uint8)
            np.save(file, np.stack(planes))
            np.save(file, label)


def read(repository: Path, path: str) -> np.ndarray[Any, Any]:
    """The array (z, y, x) of a NIfTI file in a work tree or a git directory."""
    import nibabel

    held = repository / path
    data = held.read_bytes() if held.is_file() else subprocess.run(
        ["git", "-C", str(repository), "show", f"HEAD:{path}"], check=True, capture_output=True
    ).stdout  # fmt: skip
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(data))
    return np.asarray(image.dataobj, dtype=np.float32).transpose(2, 1, 0)


def _whole_numbers(scores: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The whole numbers behind scores: 0 for the lowest, the background; neighbouring scores are one step apart."""
    values = np.unique(scores).astype(np.float64)
    span = float(values[-1] - values[0])
    step = span / round(span / np.diff(values).min())
    exact = (scores.astype(np.float64) - values[0]) / step
    numbers = np.rint(exact)
    if np.abs(exact - numbers).max() > 0.01:
        raise ValueError("scores that are not whole numbers times one step")
    return numbers.astype(np.int16)


def patients(packed: Path) -> Iterator[Patient]:
    """The patients of a file that `pack` has written."""
    content = io.BytesIO(lzma.decompress(packed.read_bytes()))
    for name in PATIENTS:
        image = np.load(content)
        yield Patient(id=f"pat{name}", image=image, label=np.load(content))


def write_folds(packed: Path, out: Path) -> list[Path]:
    """A folder per fold: a dataset in nnU-Net's layout with four patients, two to predict, and their label maps.

    Returns:
        The folders of the folds, each with `NAME` (imagesTr, labelsTr, imagesTs, dataset.json) and ``truth``.
    """
    folders = [out / f"fold_{fold}" for fold in range(len(FOLDS))]
    done = out / "written.json"
    if done.is_file():
        return folders
    for patient in patients(packed):
        for fold, held_out in zip(folders, FOLDS, strict=True):
            _write_patient(fold, patient, is_held_out=patient.id.removeprefix("pat") in held_out)
    for fold, held_out in zip(folders, FOLDS, strict=True):
        labels = {"background": 0, **{name: list(values) for name, values in REGIONS.items()}}
        description = {
            "channel_names": {"0": "FLAIR", "1": "T1c"},
            "labels": labels,
            "regions_class_order": list(ORDER),
            "numTraining": len(PATIENTS) - len(held_out),
            "file_ending": ".nii",
            "overwrite_image_reader_writer": "NibabelIO",
        }
        (fold / NAME / "dataset.json").write_text(json.dumps(description, indent=1))
    done.write_text(json.dumps({"folds": FOLDS}))
    return folders


def _write_patient(fold: Path, patient: Patient, *, is_held_out: bool) -> None:
    images = fold / NAME / ("imagesTs" if is_held_out else "imagesTr")
    for place, channel in enumerate(patient.image):
        write_nifti(images / f"{patient.id}_{place:04d}.nii", channel)
    labels = fold / "truth" if is_held_out else fold / NAME / "labelsTr"
    write_nifti(labels / f"{patient.id}.nii", patient.label)


def write_nifti(path: Path, array: np.ndarray[Any, Any], spacing_mm: Sequence[float] = (1.0, 1.0, 1.0)) -> None:
    """An array (z, y, x) with the spacing of these axes; x to the left, y to the back, z to the head."""
    import nibabel

    path.parent.mkdir(parents=True, exist_ok=True)
    z, y, x = spacing_mm
    image = nibabel.Nifti1Image(array.transpose(2, 1, 0), np.diag([-x, -y, z, 1.0]))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def read_nifti(path: Path) -> np.ndarray[Any, Any]:
    """The array (z, y, x) of a label map."""
    import nibabel

    return np.asarray(nibabel.load(path).dataobj).transpose(2, 1, 0)


def spacing_of(path: Path) -> tuple[float, float, float]:
    """The spacing in mm of the axes (z, y, x)."""
    import nibabel

    x, y, z = nibabel.load(path).header.get_zooms()[:3]
    return float(z), float(y), float(x)


if __name__ == "__main__":
    import sys

    pack(Path(sys.argv[1]), Path(sys.argv[2]))
