"""The kinds of sources: how each is recognised, and what reads it. The first row that recognises a path reads it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from resvox.errors import ResvoxError, WeightsError
from resvox.hub import is_address, local_path
from resvox.inference.engines.table import format_of_ending
from resvox.prediction.model_files import MODEL_NAME, RUN_FILES, description_path
from resvox.prediction.showing import readers
from resvox.prediction.showing.description import Description
from resvox.weights.bundle.folder import is_bundle
from resvox.weights.nnunet import is_nnunet
from resvox.weights.sources import ENDINGS


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of source.

    Args:
        name: in words.
        recognises: whether a path looks like one; damaged ones, too.
        read: the description.
    """

    name: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path], Description]


def _is_run(path: Path) -> bool:
    return path.is_dir() and any(next(path.glob(f"{depth}{MODEL_NAME}"), None) for depth in ("", "*/"))


def _is_unfinished(path: Path) -> bool:
    return path.is_dir() and any((path / name).exists() for name in RUN_FILES)


def _is_export(path: Path) -> bool:
    # ".pt" is the ending of TorchScript and of weights: what `resvox export` wrote has a description beside it
    if not path.is_file() or format_of_ending(path.suffix) is None:
        return False
    return path.suffix.lower() not in ENDINGS or description_path(path).is_file()


def _is_model_file(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() == ".safetensors" and readers.is_of_resvox(path)


def _is_checkpoint(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() == ".pt" and readers.is_checkpoint(path)


def _is_weights(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in ENDINGS


KINDS = (
    Kind(name="model folder of nnU-Net", recognises=is_nnunet, read=readers.nnunet),
    Kind(name="bundle of MONAI", recognises=is_bundle, read=readers.bundle),
    Kind(name="training run", recognises=_is_run, read=readers.run),
    Kind(name="training run without a model yet", recognises=_is_unfinished, read=readers.unfinished_run),
    Kind(name="exported network", recognises=_is_export, read=readers.exported),
    Kind(name="model file of resvox", recognises=_is_model_file, read=readers.model_file),
    Kind(name="checkpoint of a training run", recognises=_is_checkpoint, read=readers.checkpoint),
    Kind(name="file of weights", recognises=_is_weights, read=readers.weights),
)


def describe_path(source: str | os.PathLike[str]) -> Description:
    """What a path is.

    Args:
        source: a model file, run, folder of runs, checkpoint, export, bundle, folder of nnU-Net, zip of either, file of
            weights of a known library, or an address on a hub.

    Raises:
        WeightsError: nothing there, something else, or a damaged file.
    """
    path = Path(local_path(source)) if is_address(source) else Path(source)
    if not path.exists():
        raise WeightsError("no such file or folder", expected="a model", path=path)
    for kind in KINDS:
        if kind.recognises(path):
            try:
                return replace(kind.read(path), path=os.fspath(source), kind=kind.name)
            except WeightsError:
                raise
            except ResvoxError as error:
                raise WeightsError(
                    error.got, expected=error.expected, fix=error.fix, path=error.path or path
                ) from error
    raise WeightsError(
        f"a {'folder' if path.is_dir() else 'file'} that is no model",
        expected="one of: " + ", ".join(kind.name for kind in KINDS),
        path=path,
    )
