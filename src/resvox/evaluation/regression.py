"""Volumes of values against references: absolute and square errors, PSNR, structural similarity."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resvox.errors import EvaluationError
from resvox.evaluation.grids import on_reference_grid, without_single_slice
from resvox.evaluation.rounding import mean, rounded
from resvox.files import write_atomically
from resvox.machine import block_tensorflow_import

if TYPE_CHECKING:
    from rich.table import Table

    from resvox.volumes import Volume

WINDOW = 11  # voxels of SSIM's Gaussian (Wang et al. 2004), less where an axis is shorter
SIGMA = 1.5


@dataclass(frozen=True, kw_only=True)
class ValueScore:
    """How far the values of one channel of one case are off.

    Args:
        mae: mean absolute error, in the units of the values.
        rmse: root of the mean square error.
        psnr_db: peak signal-to-noise ratio in dB; the peak is the reference's range. None where the values are
            equal or the reference is constant.
        ssim: structural similarity, at most 1 (Wang et al. 2004). None where the reference is constant or an axis
            is shorter than 3 voxels.
    """

    mae: float
    rmse: float
    psnr_db: float | None
    ssim: float | None

    def to_dict(self) -> dict[str, float | None]:
        """The numbers, as `rounded`: small ones keep their digits."""
        return {name: rounded(getattr(self, name)) for name in METRICS}


METRICS = tuple(item.name for item in fields(ValueScore))


@dataclass(frozen=True)
class ValueTable:
    """Scores of several cases: ``{case: {value name: ValueScore}}``."""

    scores: Mapping[str, Mapping[str, ValueScore]]

    @property
    def summary(self) -> dict[str, dict[str, float | None]]:
        """Means over cases of each value, None where no case has the number."""
        found: dict[str, list[ValueScore]] = {}
        for values in self.scores.values():
            for name, score in values.items():
                found.setdefault(name, []).append(score)
        return {
            name: {metric: mean([getattr(score, metric) for score in scores]) for metric in METRICS}
            for name, scores in found.items()
        }

    def to_dict(self) -> dict[str, dict[str, dict[str, float | None]]]:
        """``case -> value name -> mae, rmse, psnr_db, ssim``; plain numbers and None."""
        return {case: {name: s.to_dict() for name, s in values.items()} for case, values in self.scores.items()}

    def to_json(self, path: str | os.PathLike[str]) -> Path:
        """Write :meth:`to_dict`, at once or not at all."""
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        return write_atomically(Path(path), text + "\n")

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write one row for every case and value; undefined numbers are left empty."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["case", "value", *METRICS])
        for case, values in self.to_dict().items():
            for name, score in values.items():
                writer.writerow([case, name, *("" if number is None else number for number in score.values())])
        return write_atomically(Path(path), text.getvalue())

    def table(self, *, title: str = "") -> Table:
        """The rows, then their means where there are several cases, for a terminal."""
        from resvox.evaluation.console import Row, draw

        rows = [
            Row(cells=(case, name, *_cells(score)))
            for case, values in self.to_dict().items()
            for name, score in values.items()
        ]
        means = [Row(cells=("mean", name, *_cells(each)), style="bold") for name, each in self.summary.items()]
        headings = ("case", "value", "MAE", "RMSE", "PSNR (dB)", "SSIM")
        return draw(headings, [rows, means if len(self.scores) > 1 else []], title=title)


def score_values(
    prediction: Volume,
    reference: Volume,
    *,
    resample_to_reference: bool = False,
    prediction_path: str | os.PathLike[str] = "prediction",
    reference_path: str | os.PathLike[str] = "reference",
) -> dict[str, ValueScore]:
    """Errors of every channel of one case: ``{"value": ...}``, or ``value_0``, ``value_1``, ...

    Args:
        prediction: (*spatial) or (channels, *spatial).
        reference: the same number of channels, on the same grid. A volume of one slice scores as the slice.
        resample_to_reference: bring a prediction on another grid to the reference's by linear interpolation, instead
            of rejecting it.
        prediction_path, reference_path: the files' names, for messages.

    Raises:
        EvaluationError: other grids or another number of channels.
    """
    if prediction.channels != reference.channels:
        raise EvaluationError(
            f"{prediction.channels} channels against {reference.channels} of {os.fspath(reference_path)}",
            expected="as many values for each voxel",
            path=prediction_path,
        )
    brought = on_reference_grid(
        prediction,
        reference,
        resample=resample_to_reference,
        interpolation="linear",
        prediction_path=prediction_path,
        reference_path=reference_path,
    )
    ours, theirs = brought.with_channel_axis(), reference.with_channel_axis()
    names = ["value"] if len(ours) == 1 else [f"value_{index}" for index in range(len(ours))]
    return {name: _score(one, other) for name, one, other in zip(names, ours, theirs, strict=True)}


def score_value_files(
    prediction: str | os.PathLike[str],
    reference: str | os.PathLike[str],
    *,
    resample_to_reference: bool = False,
) -> dict[str, ValueScore]:
    """:func:`score_values` of two files, named in every message.

    Raises:
        VolumeError: a file that cannot be read.
        EvaluationError: as `score_values`.
    """
    from resvox.volumes import read_volume

    return score_values(
        read_volume(prediction, channels=None),
        read_volume(reference, channels=None),
        resample_to_reference=resample_to_reference,
        prediction_path=prediction,
        reference_path=reference,
    )


def _score(ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any]) -> ValueScore:
    difference = np.abs(ours.astype(np.float64) - theirs)
    largest = float(difference.max())
    # relative to the largest one, for the square of 1e-200 is 0
    rmse = largest * math.sqrt(np.square(difference / largest).mean()) if largest > 0 else 0.0
    extent = float(theirs.max()) - float(theirs.min())
    return ValueScore(
        mae=float(difference.mean()),
        rmse=rmse,
        psnr_db=20 * math.log10(extent / rmse) if rmse > 0 and extent > 0 else None,
        ssim=_ssim(ours, theirs, extent),
    )


def _ssim(ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any], extent: float) -> float | None:
    (ours, theirs), _ = without_single_slice((ours, theirs), (1.0,) * theirs.ndim)
    smallest = min(theirs.shape)
    window = min(WINDOW, smallest if smallest % 2 else smallest - 1)
    if window < 3 or extent <= 0:
        return None
    block_tensorflow_import()
    import torch
    from monai.metrics.regression import SSIMMetric

    # From 0 on: SSIM compares means by their ratio, which has no meaning for values from -1000 on. And up to 1, for
    # squares of values of 1e-20 are 0 in float32; a common factor changes no SSIM.
    low = float(theirs.min())
    pair = [
        torch.from_numpy(((each.astype(np.float64) - low) / extent).astype(np.float32))[None, None]
        for each in (ours, theirs)
    ]
    metric = SSIMMetric(
        spatial_dims=theirs.ndim, data_range=1.0, kernel_type="gaussian", win_size=window, kernel_sigma=SIGMA
    )
    answer = metric(*pair)
    assert isinstance(answer, torch.Tensor)
    return float(answer)


def _cells(score: Mapping[str, float | None]) -> tuple[str, ...]:
    from resvox.evaluation.console import UNDEFINED, shown

    errors = (UNDEFINED if score[key] is None else f"{score[key]:.4g}" for key in ("mae", "rmse"))
    return (*errors, shown(score["psnr_db"], 2), shown(score["ssim"], 4))
