"""From two files to scores."""

from __future__ import annotations

import os
from collections.abc import Mapping

from resvox.evaluation.segmentation import LabelScore, score_case


def score_files(
    prediction: str | os.PathLike[str],
    reference: str | os.PathLike[str],
    labels: Mapping[str, int],
    *,
    tolerance_mm: float = 1.0,
    resample_to_reference: bool = False,
) -> dict[str, LabelScore]:
    """:func:`resvox.evaluation.score_case` of two label map files, named in every message.

    Raises:
        VolumeError: a file that cannot be read.
        EvaluationError: as ``score_case``.
    """
    from resvox.volumes import read_label_map

    return score_case(
        read_label_map(prediction),
        read_label_map(reference),
        labels,
        tolerance_mm=tolerance_mm,
        resample_to_reference=resample_to_reference,
        prediction_path=prediction,
        reference_path=reference,
    )
