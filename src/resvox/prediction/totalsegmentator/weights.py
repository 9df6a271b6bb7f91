"""Where the weights of TotalSegmentator are on this machine. Nothing is downloaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from resvox.errors import WeightsError

if TYPE_CHECKING:
    from resvox.prediction.totalsegmentator.table import PartModel, TaskRun

RESULTS = Path("nnunet") / "results"  # in TotalSegmentator's home folder
NUMBER = len("Dataset000_")


def results_folder(named: str | os.PathLike[str] | None) -> Path:
    """The folder in which the folders ``DatasetNNN_...`` are.

    Args:
        named: this folder, or a home folder of TotalSegmentator. None takes, as TotalSegmentator does, the variable
            ``TOTALSEG_WEIGHTS_PATH``, or ``nnunet/results`` in ``TOTALSEG_HOME_DIR`` or in ``~/.totalsegmentator``.
    """
    if named is not None:
        folder = Path(named).expanduser()
        return folder / RESULTS if (folder / RESULTS).is_dir() else folder
    if "TOTALSEG_WEIGHTS_PATH" in os.environ:
        return Path(os.environ["TOTALSEG_WEIGHTS_PATH"])
    return home_folder() / RESULTS


def home_folder() -> Path:
    """TotalSegmentator's own folder."""
    if "TOTALSEG_HOME_DIR" in os.environ:
        return Path(os.environ["TOTALSEG_HOME_DIR"])
    home = Path.home()
    return (Path("/tmp") if str(home) == "/" else home) / ".totalsegmentator"  # in containers, as there


def model_folders(results: Path, task: str, run: TaskRun, models: tuple[PartModel, ...]) -> list[Path]:
    """The model folders of a run.

    Raises:
        WeightsError: naming those that are not there, and how to get them.
    """
    found = [_dataset_folder(results, model) for model in models]
    missing = [model.dataset for model, folder in zip(models, found, strict=True) if folder is None]
    if missing:
        raise WeightsError(
            f"no weights for the TotalSegmentator task {task}: {', '.join(missing)} not there",
            expected=f"{'that folder' if len(missing) == 1 else 'those folders'} in it",
            fix=f"where there is a network: pip install TotalSegmentator, totalseg_download_weights -t {run.download}; "
            "its ~/.totalsegmentator/nnunet/results is the --weights-folder",
            path=results,
        )
    return [_model_folder(folder, model) for folder, model in zip(found, models, strict=True) if folder is not None]


def _dataset_folder(results: Path, model: PartModel) -> Path | None:
    """The folder of a dataset: of its name, or the one of its number."""
    exact = results / model.dataset
    if exact.is_dir():
        return exact
    found = sorted(each for each in results.glob(f"{model.dataset[:NUMBER]}*") if each.is_dir())
    if len(found) > 1:
        raise WeightsError(
            f"{len(found)} datasets of one number: {', '.join(each.name for each in found)}",
            expected=f"{model.dataset} alone",
            fix="remove the others",
            path=results,
        )
    return found[0] if found else None


def _model_folder(dataset: Path, model: PartModel) -> Path:
    folder = dataset / model.folder
    if not folder.is_dir():
        there = sorted(each.name for each in dataset.iterdir() if each.is_dir())
        raise WeightsError(
            f"no model {model.folder}" + (f", but {', '.join(there)}" if there else ""),
            expected="the model that this task was published with",
            fix="remove the folder and download it again: it is of another version of TotalSegmentator",
            path=dataset,
        )
    return folder
