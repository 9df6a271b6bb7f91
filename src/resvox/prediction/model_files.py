"""What can stand for MODEL: a model file, the folder of a run, an exported network, or a folder of several runs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resvox.errors import PlanError, WeightsError
from resvox.hub import is_address, local_path
from resvox.inference.engines.table import format_of_ending
from resvox.prediction.options import CHECKPOINT, Paths, PredictOptions, as_paths
from resvox.prediction.tasks import DEFAULT_TASK, row_of

if TYPE_CHECKING:
    from resvox.cards import ModelCard
    from resvox.preprocessing import AnyPreprocessing, Preprocessing

MODEL_NAME = "model.safetensors"
OWN_FORMAT = "resvox"
NNUNET_FORMAT = "nnunet"
BUNDLE_FORMAT = "bundle"
RUN_FILES = ("plan.yaml", "checkpoints")  # what a run has before it has a model
MAY_DIFFER = ("training", "colours", "temperature")  # between models that are averaged


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """One network with all that is needed to use it.

    Args:
        format: "resvox", "nnunet" for a checkpoint of nnU-Net, "bundle" for the weights in a bundle of MONAI, or the
            format of an exported network.
        card: its metadata, typed.
        metadata: its metadata as stored in the file.
    """

    path: Path
    format: str
    card: ModelCard
    metadata: Mapping[str, Any]

    def preprocessing(self) -> AnyPreprocessing:
        """How scans are prepared.

        Raises:
            WeightsError: a description that cannot be.
        """
        from resvox.preprocessing import preprocessing_of

        try:
            return preprocessing_of(self.card.preprocessing)
        except PlanError as error:
            raise WeightsError(
                f"preprocessing: {error.got}", expected=error.expected, fix=error.fix, path=self.path
            ) from error


def model_files(model: Paths, *, folds: tuple[str, ...] | None = None, checkpoint: str = CHECKPOINT) -> list[ModelFile]:
    """The networks that a model means; the outputs of several (folds) are averaged.

    Args:
        model: a ``model.safetensors``, the folder of a run that holds one, an exported network with its ``.json``
            beside it, a folder of such folders (``fold_0``, ``fold_1``, ...), a model folder of nnU-Net v2 or its zip,
            a bundle of MONAI or its zip, an address on a hub (``hf://owner/name``), or a sequence of any of these.
        folds: of an nnU-Net folder, see `PredictOptions`.
        checkpoint: of an nnU-Net folder.

    Raises:
        WeightsError: no model there, a damaged one, a fold that is not finished, one without preprocessing and labels,
            or several that differ in their task, in how they prepare scans or in their labels.
    """
    named = as_paths(model)
    if not named:
        raise WeightsError("no model", expected="at least one")
    files = [file for each in named for file in _files_of(Path(local_path(each)), folds, checkpoint)]
    for other in files[1:]:
        _check_alike(files[0], other)
    return files


def chosen_files(options: PredictOptions) -> list[ModelFile]:
    """The networks of a prediction; of a task of TotalSegmentator a file that stands for it."""
    if is_total_task(options.model):
        from resvox.prediction.totalsegmentator.predictor import total_file

        return [total_file(options)]
    return model_files(options.model, folds=options.folds, checkpoint=options.checkpoint)


def is_total_task(model: Paths) -> bool:
    """Whether a model is the name of a task of TotalSegmentator, and no model of that name is there."""
    from resvox.prediction.totalsegmentator.table import task_names

    named = as_paths(model)
    return len(named) == 1 and str(named[0]) in task_names() and not looks_like_model(Path(named[0]))


def _files_of(path: Path, folds: tuple[str, ...] | None, checkpoint: str) -> list[ModelFile]:
    if not _may_be_of_peer(path):
        return [read_model_file(each) for each in _paths_of(path)]
    from resvox.weights.bundle.folder import is_bundle
    from resvox.weights.nnunet import is_nnunet

    if is_nnunet(path):
        from resvox.prediction.nnunet.files import nnunet_files

        return nnunet_files(path, folds, checkpoint)
    if is_bundle(path):
        from resvox.prediction.bundle.files import bundle_files

        return bundle_files(path)
    return [read_model_file(each) for each in _paths_of(path)]


def _may_be_of_peer(path: Path) -> bool:
    """Whether a path could be a model of nnU-Net or MONAI, which are folders and zips; their readers import much."""
    return path.is_dir() or path.suffix.lower() == ".zip"


def model_file(model: str | os.PathLike[str]) -> Path:
    """The model file that a path means: itself, or ``model.safetensors`` in the folder of a run."""
    path = Path(local_path(model))
    if not path.is_dir():
        if not path.exists():
            raise WeightsError(
                "no such model",
                expected="a model.safetensors or the folder of a training run, or a task of TotalSegmentator",
                fix=_nearest_tasks(path),
                path=path,
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


def _nearest_tasks(path: Path) -> str:
    """The tasks of TotalSegmentator that a name may have been meant for; "" if no task has a similar name."""
    import difflib

    from resvox.prediction.totalsegmentator.table import task_names

    return " or ".join(difflib.get_close_matches(str(path), task_names(), 2, 0.75))


def own_preprocessing(file: ModelFile) -> Preprocessing:
    """How scans are prepared for a model that resvox trained.

    Raises:
        WeightsError: a description that cannot be, or that of nnU-Net or MONAI.
    """
    from resvox.preprocessing import Preprocessing

    found = file.preprocessing()
    if not isinstance(found, Preprocessing):
        raise WeightsError(
            f"a model for {file.card.task} with the preprocessing of {found.kind}",
            expected="that of resvox; others are for segmentation",
            path=file.path,
        )
    return found


def looks_like_model(path: Path) -> bool:
    """Whether a path could stand for MODEL, by its name or by what is in the folder."""
    if is_address(path):
        return True
    if _may_be_of_peer(path):
        from resvox.weights.bundle.folder import is_bundle
        from resvox.weights.nnunet import is_nnunet

        if is_nnunet(path) or is_bundle(path):
            return True
    if path.is_dir():
        return (path / MODEL_NAME).is_file() or any(path.glob(f"*/{MODEL_NAME}"))
    return path.suffix.lower() == ".safetensors" or format_of_ending(path.suffix) is not None


def _paths_of(path: Path) -> list[Path]:
    if not path.is_dir() or (path / MODEL_NAME).is_file():
        return [model_file(path)]
    folds = sorted(path.glob(f"*/{MODEL_NAME}"))
    if not folds:
        return [model_file(path)]
    begun = {each.parent for name in RUN_FILES for each in path.glob(f"*/{name}")}
    unfinished = sorted(begun - {each.parent for each in folds})
    if unfinished:
        raise WeightsError(
            f"a folder of runs of which {', '.join(each.name for each in unfinished)} has no model.safetensors yet",
            expected="finished runs",
            fix=f"finish it with resvox train ... -o {unfinished[0]} --resume, or name the finished ones: "
            f"{folds[0].parent} --also ...",
            path=path,
        )
    return folds


def read_model_file(path: Path) -> ModelFile:
    """The format and metadata of a model file; no tensor is read.

    Raises:
        WeightsError: as in `model_files`.
    """
    metadata = metadata_of(path)
    card = row_of(task_of(metadata), path).card_class().from_dict(metadata, path=path)
    return ModelFile(path=path, format=format_of(path), card=card, metadata=metadata)


def format_of(path: Path) -> str:
    """The format of a model file: "resvox", or that of an exported network."""
    return format_of_ending(path.suffix) or OWN_FORMAT


def metadata_of(path: Path) -> Mapping[str, Any]:
    """The metadata of a model file, or the ``.json`` beside an exported network.

    Raises:
        WeightsError: a damaged one.
    """
    if format_of(path) != OWN_FORMAT:
        return _exported_metadata(path)
    from resvox.weights import read_metadata

    return read_metadata(path)


def task_of(metadata: Mapping[str, Any]) -> str:
    """What a model was trained for."""
    return str(metadata.get("task", DEFAULT_TASK))


def check_task(file: ModelFile, task: str) -> None:
    """Refuse a model that was trained for something else.

    Raises:
        WeightsError: naming the file and both tasks.
    """
    if file.card.task != task:
        raise WeightsError(
            f"a model for {file.card.task}", expected=f"a model made by resvox train --task {task}", path=file.path
        )


def description_path(path: Path) -> Path:
    """The ``.json`` that describes an exported network: ``a.onnx.json`` where there is one, else ``a.json``."""
    own = _own_description(path)
    return own if own.exists() else path.with_suffix(".json")


def new_description_path(path: Path) -> Path:
    """The ``.json`` that is to be written for an exported network.

    ``a.json``; ``a.onnx.json`` where ``a.json`` describes another file, so that two exports of one name are kept apart.
    """
    own, shared = _own_description(path), path.with_suffix(".json")
    if own.exists():
        return own
    try:
        described = json.loads(shared.read_text(encoding="utf-8"))["file"]
    except (OSError, ValueError, KeyError, TypeError):
        return shared  # none there, or not a description: `resvox export` asks before it replaces a file
    return own if described != path.name and (path.parent / str(described)).exists() else shared


def _own_description(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


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
    if other.card.task != first.card.task:
        raise WeightsError(
            f"a model for {other.card.task} beside {first.path}, which is for {first.card.task}",
            expected="models of one training plan",
            path=other.path,
        )
    for each in fields(first.card):
        if each.name not in MAY_DIFFER and getattr(first.card, each.name) != getattr(other.card, each.name):
            what = "inference settings" if each.name == "inference" else each.name.replace("_", " ")
            raise WeightsError(
                f"other {what} than {first.path}",
                expected="models of one training plan, such as the folds of one dataset",
                fix="predict with each into a folder of its own",
                path=other.path,
            )
