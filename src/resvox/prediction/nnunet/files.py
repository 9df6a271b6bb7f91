"""A model folder of nnU-Net v2, or the zip of one, as model files: one per fold."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from resvox.errors import WeightsError
from resvox.prediction.model_files import NNUNET_FORMAT, ModelFile
from resvox.prediction.nnunet.cards import card_of

if TYPE_CHECKING:
    import torch

    from resvox.weights.nnunet import NnunetFolder

_KEPT: list[tempfile.TemporaryDirectory[str]] = []  # unpacked zips, removed when the process ends


def nnunet_files(path: Path, folds: tuple[str, ...] | None, checkpoint: str) -> list[ModelFile]:
    """The folds of a model folder, or of the zip of one.

    Args:
        path: the folder or zip.
        folds: such as ("0", "1") or ("all",); None takes every numbered fold.
        checkpoint: the name of the file in the folder of a fold.

    Raises:
        WeightsError: a folder or zip that cannot be used, or folds that disagree.
    """
    folder = _folder(path, folds, checkpoint)
    state = tuple((str(each), each.stat().st_mtime_ns) for each in folder.checkpoints.values())
    return [_file(folder.path, fold, checkpoint, each) for fold, each in zip(folder.checkpoints, state, strict=True)]


def nnunet_module(path: Path, *, exact: bool = False) -> torch.nn.Module:
    """The network of a checkpoint in its model folder, with its weights.

    Args:
        path: the checkpoint.
        exact: with the operations of nnU-Net, for its own bits.
    """
    from resvox.weights.nnunet.loading import load_fold

    fold = path.parent.name.removeprefix("fold_")
    module: torch.nn.Module = load_fold(_folder(path.parent.parent, (fold,), path.name), fold, exact=exact)
    return module


def _folder(path: Path, folds: tuple[str, ...] | None, checkpoint: str) -> NnunetFolder:
    from resvox.weights.nnunet import NnunetFolder

    if path.is_file():
        stat = path.stat()
        path = _unpacked(path.resolve(), stat.st_size, stat.st_mtime_ns, checkpoint)
    return NnunetFolder.read(path, folds=folds, checkpoint=checkpoint)


@lru_cache(maxsize=8)
def _unpacked(path: Path, size: int, moment: int, checkpoint: str) -> Path:
    """The folder to which a zip was unpacked; size and time are those of the zip, which is unpacked once."""
    from resvox.weights.formats.unpacking import Archive, note_archive
    from resvox.weights.nnunet.zipped import unpack

    inside = tempfile.TemporaryDirectory(prefix="resvox_nnunet_")
    unpack(path, Path(inside.name), checkpoint)
    note_archive(Path(inside.name), Archive(path, size, moment))
    _KEPT.append(inside)
    return Path(inside.name)


@lru_cache(maxsize=64)
def _file(folder: Path, fold: str, checkpoint: str, state: tuple[str, int]) -> ModelFile:
    """One fold; ``state`` is its file with its time, as the checkpoint is read for its few plain values once."""
    from resvox.weights.nnunet import NnunetFolder

    model = NnunetFolder.read(folder, folds=(fold,), checkpoint=checkpoint)
    found = model.read_fold(fold)
    card = card_of(model, found)
    return ModelFile(path=Path(state[0]), format=NNUNET_FORMAT, card=card, metadata=card.to_dict())


def first_stage_of(file: ModelFile, model: str) -> Path:
    """Where the first stage of a cascade is.

    Raises:
        WeightsError: it is not there.
    """
    path = file.path.parent / model
    found = Path(path).resolve()
    if not found.exists():
        raise WeightsError(
            f"the second stage of a cascade without the first, {found.name}",
            expected=f"it beside the second one: {found}",
            fix="put both into one folder",
            path=file.path,
        )
    return found
