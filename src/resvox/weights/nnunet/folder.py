"""A model folder of nnU-Net v2: plans, dataset, folds."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from resvox.errors import WeightsError
from resvox.weights.nnunet.checkpoint import NnunetCheckpoint, read_checkpoint, refuse_first_version
from resvox.weights.nnunet.dataset import NnunetDataset
from resvox.weights.nnunet.plans import NnunetConfiguration, NnunetPlans
from resvox.weights.nnunet.zipped import holds_plans, unpack

CHECKPOINT = "checkpoint_final.pth"
_FOLD = re.compile(r"fold_(\d+|all)")
_PARTS = 3  # Trainer__Plans__configuration


@dataclass(frozen=True, kw_only=True)
class NnunetFolder:
    """A model folder, its JSON files read; checkpoints are read when they are asked for.

    Attributes:
        path: the folder that holds ``plans.json``.
        plans: what ``plans.json`` states.
        dataset: what ``dataset.json`` states.
        checkpoints: the file of each fold, by its name (``"0"``, ``"all"``), in ascending order.
        configuration_name: of the folder's name; the checkpoints record it too (see :meth:`read_folds`).
    """

    path: Path
    plans: NnunetPlans
    dataset: NnunetDataset
    checkpoints: dict[str, Path]
    configuration_name: str

    @property
    def configuration(self) -> NnunetConfiguration:
        """The configuration of the folder's name.

        Raises:
            WeightsError: as of :meth:`NnunetPlans.configuration`.
        """
        return self.plans.configuration(self.configuration_name)

    @property
    def in_channels(self) -> int:
        """Channels of the network's input; in a cascade's second stage with one per foreground label."""
        extra = len(self.dataset.foreground_labels) if self.configuration.previous_stage else 0
        return len(self.dataset.channel_names) + extra

    @property
    def postprocessing(self) -> Path | None:
        """The newest ``postprocessing.json`` of the cross-validation; None without one."""
        found = sorted(self.path.glob("crossval_results_folds_*/postprocessing.json"))
        return found[-1] if found else None

    @staticmethod
    def read(
        path: str | os.PathLike[str], *, folds: Sequence[int | str] | None = None, checkpoint: str = CHECKPOINT
    ) -> NnunetFolder:
        """A model folder, or a dataset's folder with one model folder in it.

        Args:
            path: the folder.
            folds: such as ``(0, 1)`` or ``("all",)``; None: every numbered fold with the checkpoint.
            checkpoint: name of the file in the folders of the folds.

        Raises:
            WeightsError: a folder of nnU-Net v1 or of something else, a fold that is missing, broken files.
        """
        folder = _model_folder(Path(path))
        found = _checkpoints(folder, folds, checkpoint)
        model = NnunetFolder(
            path=folder,
            plans=NnunetPlans.read(folder / "plans.json"),
            dataset=NnunetDataset.read(folder / "dataset.json"),
            checkpoints=found,
            configuration_name=_configuration_name(folder, next(iter(found.values()))),
        )
        _check_channels(model)
        return model

    def read_fold(self, fold: str) -> NnunetCheckpoint:
        """The checkpoint of a fold.

        Raises:
            WeightsError: broken or unsafe, or it was trained with another configuration than the folder's.
        """
        found = read_checkpoint(self.checkpoints[fold])
        if found.configuration != self.configuration_name:
            raise WeightsError(
                f"a checkpoint of the configuration {found.configuration!r}",
                expected=f"{self.configuration_name!r}, the folder's",
                path=found.path,
            )
        return found


def is_nnunet(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a model folder of nnU-Net (v2 or v1), a dataset's folder with one, or the zip of one."""
    place = Path(path)
    if place.is_file():
        return place.suffix.lower() == ".zip" and holds_plans(place)
    if not place.is_dir():
        return False
    marks = ("plans.json", "plans.pkl", "*/plans.json", "*/plans.pkl")
    return any(next(place.glob(mark), None) is not None for mark in marks)


@contextmanager
def open_nnunet(
    path: str | os.PathLike[str],
    *,
    folds: Sequence[int | str] | None = None,
    checkpoint: str = CHECKPOINT,
) -> Iterator[NnunetFolder]:
    """A model folder, or the zip that ``nnUNetv2_export_model_to_zip`` wrote, whose files are unpacked until the end.

    Arguments and errors are those of :meth:`NnunetFolder.read`.

    Raises:
        WeightsError: also a zip whose members leave its folder or would be far larger than it.
    """
    source = Path(path)
    if not source.is_file():
        yield NnunetFolder.read(source, folds=folds, checkpoint=checkpoint)
        return
    with tempfile.TemporaryDirectory(prefix="resvox_nnunet_") as inside:
        unpack(source, Path(inside), checkpoint)
        yield NnunetFolder.read(inside, folds=folds, checkpoint=checkpoint)


def _model_folder(path: Path) -> Path:
    if not path.is_dir():
        raise WeightsError("no such folder", expected="a model folder of nnU-Net v2", path=path)
    if (path / "plans.json").is_file():
        return path
    refuse_first_version(path)
    inside = sorted({each.parent for depth in ("*", "*/*") for each in path.glob(f"{depth}/plans.json")})
    if len(inside) == 1:
        return inside[0]
    for each in sorted(path.glob("*/plans.pkl")):
        refuse_first_version(each.parent)
    if inside:
        raise WeightsError(
            f"{len(inside)} models: {', '.join(each.name for each in inside[:6])}",
            expected="one",
            fix="give the folder of one of them",
            path=path,
        )
    raise WeightsError(
        "a folder without plans.json",
        expected="a model folder of nnU-Net v2, such as Dataset002_Heart/nnUNetTrainer__nnUNetPlans__3d_fullres",
        path=path,
    )


def _checkpoints(folder: Path, folds: Sequence[int | str] | None, checkpoint: str) -> dict[str, Path]:
    there = {match[1]: each for each in folder.iterdir() if (match := _FOLD.fullmatch(each.name)) and each.is_dir()}
    have = {name: each / checkpoint for name, each in there.items() if (each / checkpoint).is_file()}
    ordered = sorted(have, key=lambda name: (name == "all", int(name) if name != "all" else 0))
    wanted = [name for name in ordered if name != "all"] if folds is None else [_fold_name(each) for each in folds]
    missing = [name for name in wanted if name not in have]
    if missing or not wanted:
        only_all = folds is None and "all" in have
        listed = ", ".join(f"fold_{name}" for name in ordered) or "none"
        raise WeightsError(
            f"no {checkpoint} of fold {', '.join(missing)}" if missing else f"no numbered fold with {checkpoint}",
            expected=f"one of the folds with that file: {listed}",
            fix="name it: folds=('all',)" if only_all else "",
            path=folder,
        )
    return {name: have[name] for name in wanted}


def _fold_name(fold: int | str) -> str:
    return str(fold).removeprefix("fold_")


def _configuration_name(folder: Path, checkpoint: Path) -> str:
    parts = folder.name.split("__")
    # a folder that was renamed no longer has the name; the checkpoint records it
    return parts[-1] if len(parts) == _PARTS else read_checkpoint(checkpoint).configuration


def _check_channels(model: NnunetFolder) -> None:
    schemes, channels = len(model.configuration.normalization_schemes), len(model.dataset.channel_names)
    if schemes != channels:
        raise WeightsError(
            f"{channels} channels in dataset.json and {schemes} normalization_schemes in plans.json",
            expected="as many of each",
            path=model.path,
        )
