"""What can stand for MODEL: a file of ours, the folder of a run, an exported network, or a folder of several runs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resvox.errors import WeightsError

MODEL_NAME = "model.safetensors"
FORMATS = {".safetensors": "resvox", ".pt": "torchscript", ".pt2": "torch-export", ".onnx": "onnx", ".xml": "openvino"}
NEEDED = ("preprocessing", "labels", "channel_names", "inference")
NEEDED_FOR_VALUES = ("preprocessing", "target_mean", "target_std", "channel_names", "inference")
Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """One network with all that is needed to use it.

    ``format``: "resvox", or that of an exported network. ``metadata``: preprocessing, labels, channel_names,
    inference, task...
    """

    path: Path
    format: str
    metadata: Mapping[str, Any]


def model_files(model: Paths) -> list[ModelFile]:
    """The segmentation networks that a model means; several (folds) are averaged.

    Args:
        model: a ``model.safetensors``, the folder of a run that holds one, an exported network with its ``.json``
            beside it, a folder of such folders (``fold_0``, ``fold_1``, ...), or a sequence of any of these.

    Raises:
        WeightsError: no model there, a damaged one, one without preprocessing and labels or for another task, or
            several that do not prepare scans alike or name other labels.
    """
    named = [model] if isinstance(model, (str, os.PathLike)) else list(model)
    if not named:
        raise WeightsError("no model", expected="at least one")
    files = [read_model_file(path) for each in named for path in _paths_of(Path(each))]
    for each in files:
        check_task(each, "segmentation")
    for other in files[1:]:
        _check_alike(files[0], other)
    return files


def model_file(model: str | os.PathLike[str]) -> Path:
    """The model file that a path means: itself, or ``model.safetensors`` in the folder of a run."""
    path = Path(model)
    if not path.is_dir():
        if not path.exists():
            raise WeightsError(
                "no such model", expected="a model.safetensors or the folder of a training run", path=path
            )
        return path
    inside = path / MODEL_NAME
    if not inside.is_file():
        raise WeightsError(
            "no model.safetensors in this folder",
            expected="the folder of a finished training run",
            fix="finish the training with resvox train ... --resume, or name the model file",
            path=path,
        )
    return inside


def _paths_of(path: Path) -> list[Path]:
    if path.is_dir() and not (path / MODEL_NAME).is_file():
        folds = sorted(path.glob(f"*/{MODEL_NAME}"))
        if folds:
            return folds
    return [model_file(path)]


def read_model_file(path: Path) -> ModelFile:
    """A model file's format and metadata; no tensor is read.

    Raises:
        WeightsError: as in `model_files`.
    """
    kind = FORMATS.get(path.suffix.lower(), "resvox")
    metadata = metadata_of(path)
    wanted = NEEDED_FOR_VALUES if task_of(metadata) == "regression" else NEEDED
    missing = [name for name in wanted if name not in metadata]
    if missing:
        raise WeightsError(
            f"a model file without {', '.join(missing)}",
            expected="a model made by resvox train, which knows how its scans were prepared",
            fix="use resvox.load_model for the bare network",
            path=path,
        )
    return ModelFile(path=path, format=kind, metadata=metadata)


def metadata_of(path: Path) -> Mapping[str, Any]:
    """What a model file says of itself, or the ``.json`` beside an exported network.

    Raises:
        WeightsError: a damaged one.
    """
    if FORMATS.get(path.suffix.lower(), "resvox") != "resvox":
        return _exported_metadata(path)
    from resvox.weights import read_header

    return read_header(path).metadata


def task_of(metadata: Mapping[str, Any]) -> str:
    """What a model was trained for; "segmentation" where nothing says otherwise."""
    return str(metadata.get("task", "segmentation"))


def check_task(file: ModelFile, task: str) -> None:
    """Refuse a model that was trained for something else.

    Raises:
        WeightsError
    """
    if task_of(file.metadata) != task:
        raise WeightsError(
            f"a model for {task_of(file.metadata)}",
            expected=f"a model made by resvox train --task {task}",
            path=file.path,
        )


def description_path(path: Path) -> Path:
    """The ``.json`` that lies beside an exported network."""
    return path.with_suffix(".json")


def _exported_metadata(path: Path) -> Mapping[str, Any]:
    beside = description_path(path)
    try:
        found = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"an exported network without a readable {beside.name} ({getattr(error, 'strerror', None) or error})",
            expected="preprocessing and labels beside it, as resvox export writes them",
            fix="export it again, and keep the files together",
            path=path,
        ) from None
    if not isinstance(found, dict) or not isinstance(found.get("metadata"), dict):
        raise WeightsError("not a description that resvox export wrote", expected="an object", path=beside)
    return dict(found["metadata"])


def _check_alike(first: ModelFile, other: ModelFile) -> None:
    for name in ("labels", "preprocessing", "channel_names"):
        if first.metadata[name] != other.metadata[name]:
            raise WeightsError(
                f"other {name.replace('_', ' ')} than {first.path}",
                expected="models of one training plan, such as the folds of one dataset",
                fix="predict with each into a folder of its own",
                path=other.path,
            )
    if first.metadata["inference"].get("roi_size") != other.metadata["inference"].get("roi_size"):
        raise WeightsError(f"another window than {first.path}", expected="models of one plan", path=other.path)
