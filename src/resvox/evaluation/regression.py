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
from resvox.evaluation.grids import on_reference_grid
from resvox.evaluation.table import write_text

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
        """The numbers, rounded to six decimals."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: None if value is None else round(value, 6) for name, value in values.items()}


METRICS = tuple(item.name for item in fields(ValueScore))


@dataclass(frozen=True)
class ValueTable:
    """Scores of several cases: ``{case: {value name: ValueScore}}``."""

    scores: Mapping[str, Mapping[str, ValueScore]]

    @property
    def summary(self) -> dict[str, dict[str, float | None]]:
        """Means over cases of each value, None where no case has the number."""
        found: dict[str, list[dict[str, float | None]]] = {}
        for values in self.scores.values():
            for name, score in values.items():
                found.setdefault(name, []).append(score.to_dict())
        return {
            name: {metric: _mean([s[metric] for s in scores]) for metric in METRICS} for name, scores in found.items()
        }

    def to_dict(self) -> dict[str, dict[str, dict[str, float | None]]]:
        """``case -> value name -> mae, rmse, psnr_db, ssim``; plain numbers and None."""
        return {case: {name: s.to_dict() for name, s in values.items()} for case, values in self.scores.items()}

    def to_json(self, path: str | os.PathLike[str]) -> Path:
        """Write :meth:`to_dict`, at once or not at all."""
        return write_text(Path(path), json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write one row for every case and value; undefined numbers are left empty."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["case", "value", *METRICS])
        for case, values in self.to_dict().items():
            for name, score in values.items():
                writer.writerow([case, name, *("" if number is None else number for number in score.values())])
        return write_text(Path(path), text.getvalue())

    def table(self, *, title: str = "") -> Table:
        """The rows, then the means, for a terminal."""
        from resvox.evaluation.console import draw_value_scores

        return draw_value_scores(self, title=title)


def score_values(
    prediction: Volume,
    reference: Volume,
    *,
    prediction_path: str | os.PathLike[str] = "prediction",
    reference_path: str | os.PathLike[str] = "reference",
) -> dict[str, ValueScore]:
    """Errors of every channel of one case: ``{"value": ...}``, or ``value_0``, ``value_1``, ...

    Args:
        prediction, reference: (*spatial) or (channels, *spatial), on one grid.

    Raises:
        EvaluationError: other grids or another number of channels.
    """
    if prediction.channels != reference.channels:
        raise EvaluationError(
            f"{prediction.channels} channels against {reference.channels} of {os.fspath(reference_path)}",
            expected="as many values for each voxel",
            path=prediction_path,
        )
    on_reference_grid(
        prediction, reference, resample=False, prediction_path=prediction_path, reference_path=reference_path
    )
    ours, theirs = prediction.with_channel_axis(), reference.with_channel_axis()
    names = ["value"] if len(ours) == 1 else [f"value_{index}" for index in range(len(ours))]
    return {name: _score(one, other) for name, one, other in zip(names, ours, theirs, strict=True)}


def score_value_files(prediction: str | os.PathLike[str], reference: str | os.PathLike[str]) -> dict[str, ValueScore]:
    """:func:`score_values` of two files, named in every message.

    Raises:
        VolumeError: a file that cannot be read. EvaluationError: as `score_values`.
    """
    from resvox.volumes import read_volume

    return score_values(
        read_volume(prediction, channels=None),
        read_volume(reference, channels=None),
        prediction_path=prediction,
        reference_path=reference,
    )


def _score(ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any]) -> ValueScore:
    difference = ours.astype(np.float64) - theirs
    square = float(np.square(difference).mean())
    extent = float(theirs.max()) - float(theirs.min())
    return ValueScore(
        mae=float(np.abs(difference).mean()),
        rmse=math.sqrt(square),
        psnr_db=10 * math.log10(extent**2 / square) if square > 0 and extent > 0 else None,
        ssim=_ssim(ours, theirs, extent),
    )


def _ssim(ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any], extent: float) -> float | None:
    smallest = min(theirs.shape)
    window = min(WINDOW, smallest if smallest % 2 else smallest - 1)
    if window < 3 or extent <= 0:
        return None
    import torch
    from monai.metrics.regression import SSIMMetric

    # From 0 on: SSIM compares means by their ratio, which has no meaning for values from -1000 on.
    pair = [
        torch.from_numpy(np.ascontiguousarray(each, np.float32) - float(theirs.min()))[None, None]
        for each in (ours, theirs)
    ]
    metric = SSIMMetric(
        spatial_dims=theirs.ndim, data_range=extent, kernel_type="gaussian", win_size=window, kernel_sigma=SIGMA
    )
    answer = metric(*pair)
    assert isinstance(answer, torch.Tensor)
    return float(answer)


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
