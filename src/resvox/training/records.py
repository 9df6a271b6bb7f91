"""What the best validation leaves for a report: the score of each case, and slices of the worst ones."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resvox.files import write_atomically

WORST = 3  # cases of each process whose slices are kept
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One slice of a validated case on the network's grid.

    Args:
        image: (height, width) float32, the first channel as the network sees it.
        prediction, reference: (height, width) positions of targets, from 1; 0 is the background.
        spacing_mm: of both axes.
    """

    case: str
    image: Array
    prediction: Array
    reference: Array
    spacing_mm: tuple[float, float]


def snapshot_of(case: str, image: Array, prediction: Array, reference: Array, spacing_mm: Sequence[float]) -> Snapshot:
    """The slice with most differences, or most labels, across the first axis of a volume; an image as it is.

    Args:
        image: (channels, *spatial).
        prediction, reference: (*spatial).
    """
    if prediction.ndim == 3:
        apart = (prediction != reference).sum(axis=(1, 2))
        at = int((apart if apart.any() else (reference > 0).sum(axis=(1, 2))).argmax())
        image, prediction, reference = image[:, at], prediction[at], reference[at]
    return Snapshot(
        case=case,
        image=np.asarray(image[0], np.float32),
        prediction=prediction.astype(np.uint16),
        reference=reference.astype(np.uint16),
        spacing_mm=(float(spacing_mm[-2]), float(spacing_mm[-1])),
    )


def write_scores(path: Path, step: int, cases: Mapping[str, Mapping[str, float | None]]) -> None:
    """Write the scores of each case at the best step."""
    text = json.dumps({"best_step": step, "best_cases": cases}, indent=2, ensure_ascii=False)
    write_atomically(path, text + "\n")


def write_snapshots(folder: Path, step: int, snapshots: Sequence[Snapshot]) -> None:
    """Write slices of a step, one file per case; those of earlier steps are left and not read any more."""
    for number, each in enumerate(snapshots):
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer, image=each.image, prediction=each.prediction, reference=each.reference,
            spacing_mm=np.asarray(each.spacing_mm), step=np.asarray(step), case=np.asarray(each.case),
        )  # fmt: skip
        write_atomically(folder / f"{number}-of-{len(snapshots)}.npz", buffer.getvalue())


def read_snapshots(folder: Path, step: int) -> list[Snapshot]:
    """The slices of a step, also those that other processes wrote."""
    found = []
    for path in sorted(folder.glob("*/*.npz")):
        with np.load(path) as file:
            if int(file["step"]) == step:
                across, along = (float(value) for value in file["spacing_mm"])
                found.append(
                    Snapshot(
                        case=str(file["case"]),
                        image=file["image"],
                        prediction=file["prediction"],
                        reference=file["reference"],
                        spacing_mm=(across, along),
                    )
                )
    return found
