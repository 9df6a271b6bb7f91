"""Prediction with models of other tasks than segmentation: which one a model is for, and what it has no use for."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resvox.errors import InferenceError

if TYPE_CHECKING:
    from resvox.prediction.outcomes import CaseOutcome, PredictResult

DEFAULTS: dict[str, Any] = {
    "mirror": False, "overlap": None, "engine": "auto", "resample": "logits", "skip_empty": False, "series": None,
    "processes": 1, "probabilities": False, "suffix": "", "split": None,
}  # fmt: skip
USED = {"classification": ("split",), "regression": ("mirror", "overlap", "suffix")}


def task_of_model(model: Any) -> str:
    """What a model was trained for; "segmentation" where nothing says otherwise, and for several.

    Raises:
        WeightsError: no model there, or a damaged one.
    """
    from resvox.prediction.model_files import metadata_of, model_file, task_of

    if not isinstance(model, (str, os.PathLike)):
        return "segmentation"
    path = Path(model)
    if path.is_dir() and not (path / "model.safetensors").is_file():
        return "segmentation"  # folds, or nothing: the segmenter tells
    return task_of(metadata_of(model_file(path)))


def predict_other(
    task: str,
    model: str | os.PathLike[str],
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    choices: Mapping[str, Any],
    *,
    device: str,
    precision: str,
    overwrite: bool,
    on_start: Callable[[int], object] | None,
    on_windows: Callable[[str, int, int], object] | None,
    on_case: Callable[[CaseOutcome], object] | None,
) -> PredictResult:
    """Predict with a classifier or a regressor.

    Args:
        choices: `predict`'s other arguments by name; those that the task has no use for must be left alone.

    Raises:
        InferenceError: an option that the task has no use for.
    """
    named = [inputs] if isinstance(inputs, (str, os.PathLike)) else list(inputs)
    for name, default in DEFAULTS.items():
        if name not in USED[task] and choices.get(name, default) != default:
            raise InferenceError(
                f"{name}={choices[name]!r} with a model for {task}",
                expected=f"of such options only {', '.join(USED[task])}",
                fix=f"leave --{name.replace('_', '-')} out",
                path=model,
            )
    if task == "classification":
        from resvox.prediction.classes import predict_classes

        return predict_classes(
            model, named, out, split=choices.get("split"), device=device, precision=precision, overwrite=overwrite,
            on_start=on_start, on_case=on_case,
        )  # fmt: skip
    from resvox.prediction.values import predict_values

    return predict_values(
        model, named, out, mirror=choices.get("mirror", False), overlap=choices.get("overlap"),
        suffix=choices.get("suffix", ""), device=device, precision=precision, overwrite=overwrite,
        on_start=on_start, on_windows=on_windows, on_case=on_case,
    )  # fmt: skip
