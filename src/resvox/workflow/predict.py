"""`predict`: what to do with the inputs, by what the model is for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from resvox.prediction.batch import Heard, Inputs, SegmentOptions, segment_cases
from resvox.prediction.model_files import Paths
from resvox.prediction.outcomes import CaseOutcome, PredictResult


def predict(
    model: Paths,
    inputs: Inputs,
    out: str | os.PathLike[str],
    *,
    mirror: bool = False,
    overlap: float | None = None,
    engine: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    resample: str = "logits",
    skip_empty: bool = False,
    memory_gb: float = 2.5,
    series: str | None = None,
    processes: int = 1,
    probabilities: bool = False,
    overwrite: bool = False,
    suffix: str = "",
    split: str | None = None,
    on_start: Callable[[int], object] | None = None,
    on_windows: Callable[[str, int, int], object] | None = None,
    on_case: Callable[[CaseOutcome], object] | None = None,
    on_note: Callable[[str], object] | None = None,
) -> PredictResult:
    """Write ``out/<case>.nii.gz`` for every input, on the grid of the input; 2D pictures give ``<case>.png``.

    A label map is written at once or not at all, so one that is there is done: a second run does what is
    missing. Several processes may work on one folder; claim files keep them from doing a case twice. An input
    that cannot be used is an outcome with a reason, not an exception; the others are done. While one case is in the
    network, the next one is read and the last one is written.

    Args:
        model: a ``model.safetensors``, the folder of a training run, an exported network, or several of these, whose
            logits are averaged.
        inputs: image files, folders of them, folders of DICOM series.
        mirror, overlap, engine, device, precision, resample, skip_empty, memory_gb: see `Segmenter`.
        series: of a DICOM folder that holds several: its UID or its number.
        processes: that share the work; with several GPUs each takes the next one.
        probabilities: also write ``<case>_probabilities.nii.gz``, (classes, *spatial) float32.
        overwrite: do again what is there.
        suffix: put behind the case's name.
        split: of manifests and ``.npz`` files, for a classifier: see `predict_classes`.
        on_start, on_windows, on_case: called with the number of cases; with (case, windows done, windows); with
            each outcome.
        on_note: called with a line of text where an engine is given up or memory runs out; a warning by default.

    Returns:
        The outcomes. One line of JSON a case (stage times, model, versions) is added to ``out/predict.jsonl``.

    Raises:
        WeightsError: a model that cannot be used. InferenceError: a device or option that cannot be.
    """
    from resvox.prediction.tasks import predict_other, task_of_model

    task = task_of_model(model)
    if task != "segmentation":
        assert isinstance(model, (str, os.PathLike))
        asked = {
            "mirror": mirror, "overlap": overlap, "engine": engine, "resample": resample, "skip_empty": skip_empty,
            "series": series, "processes": processes, "probabilities": probabilities, "suffix": suffix, "split": split,
        }  # fmt: skip
        return predict_other(
            task, model, inputs, out, asked, device=device, precision=precision, overwrite=overwrite,
            on_start=on_start, on_windows=on_windows, on_case=on_case,
        )  # fmt: skip
    choices: dict[str, Any] = {
        "mirror": mirror,
        "overlap": overlap,
        "engine": engine,
        "device": device,
        "precision": precision,
        "resample": resample,
        "skip_empty": skip_empty,
        "memory_gb": memory_gb,
    }
    options = SegmentOptions(
        model=model,
        inputs=inputs,
        out=Path(out),
        choices=choices,
        series=series,
        probabilities=probabilities,
        overwrite=overwrite,
        suffix=suffix,
    )
    heard = Heard(on_start=on_start, on_windows=on_windows, on_case=on_case, on_note=on_note)
    if processes > 1:
        from resvox.prediction.processes import predict_in_processes

        return predict_in_processes(options, heard, processes)
    return segment_cases(options, heard)
