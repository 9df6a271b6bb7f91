"""One checkpoint of nnU-Net: tensors and the few plain values that prediction needs, read without unpickling code."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from resvox.errors import WeightsError
from resvox.weights.formats.pickled import read_pickled

_PLAIN = ("init_args", "inference_allowed_mirroring_axes")
_EXPECTED = "a checkpoint that nnU-Net v2 wrote"


@dataclass(frozen=True, kw_only=True)
class NnunetCheckpoint:
    """What a checkpoint holds.

    Attributes:
        path: the file.
        weights: nnU-Net's names to read-only arrays; repeated names of one tensor share their memory.
        trainer: name of the trainer's class.
        configuration: name of the configuration that was trained.
        fold: such as ``"0"`` or ``"all"``; "" where the file does not record it.
        mirror_axes: spatial axes that may be mirrored for test-time augmentation, counted from the first one that the
            network sees; empty for none.
        epoch: number of finished epochs; None where the file does not record it.
    """

    path: Path
    weights: Mapping[str, npt.NDArray[Any]]
    trainer: str
    configuration: str
    fold: str
    mirror_axes: tuple[int, ...]
    epoch: int | None


def read_checkpoint(path: str | os.PathLike[str]) -> NnunetCheckpoint:
    """A checkpoint that nnU-Net v2 wrote.

    Raises:
        WeightsError: no such file, one that calls what it should not, a broken one, or one of another program.
    """
    source = Path(path)
    refuse_first_version(source)
    content = read_pickled(source, plain=_PLAIN)
    if not isinstance(content, dict) or not isinstance(content.get("network_weights"), dict):
        raise WeightsError("a file without network_weights", expected=_EXPECTED, path=source)
    weights = {str(name): value for name, value in content["network_weights"].items() if isinstance(value, np.ndarray)}
    if not weights:
        raise WeightsError("network_weights without tensors", expected=_EXPECTED, path=source)
    begun = content.get("init_args")
    begun = begun if isinstance(begun, dict) else {}
    epoch = content.get("current_epoch")
    return NnunetCheckpoint(
        path=source,
        weights=weights,
        trainer=_text(content.get("trainer_name"), "trainer_name", source),
        configuration=_text(begun.get("configuration"), "init_args.configuration", source),
        fold=str(begun["fold"]) if isinstance(begun.get("fold"), (int, str)) else "",
        mirror_axes=_mirror_axes(content.get("inference_allowed_mirroring_axes"), source),
        epoch=epoch if type(epoch) is int else None,
    )


def refuse_first_version(path: Path) -> None:
    """Refuse a file or folder of nnU-Net v1, whose networks, plans and checkpoints are others.

    Raises:
        WeightsError: it is one.
    """
    names = {path.name} if not path.is_dir() else {each.name for each in path.iterdir()}
    folds = [*path.glob("fold_*/*.model"), *path.glob("all/*.model")] if path.is_dir() else []
    found = next((name for name in sorted(names) if name == "plans.pkl" or name.endswith((".model", ".model.pkl"))), "")
    if found or folds:
        raise WeightsError(
            f"a model of nnU-Net v1 ({found or folds[0].name})",
            expected="a model of nnU-Net v2, with plans.json and fold_0/checkpoint_final.pth",
            fix="train it again with nnU-Net v2: the two versions have different networks and preprocessing",
            path=path,
        )


def _text(value: Any, name: str, source: Path) -> str:
    if not isinstance(value, str) or not value:
        raise WeightsError(f"{name} is {str(value)[:40]!r}", expected=f"a name, in {_EXPECTED}", path=source)
    return value


def _mirror_axes(value: Any, source: Path) -> tuple[int, ...]:
    if value is None:
        return ()
    axes = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    good = all(type(axis) is int and 0 <= axis < 3 for axis in axes) and len(set(axes)) == len(axes)
    if not good:
        raise WeightsError(
            f"inference_allowed_mirroring_axes is {str(value)[:60]}",
            expected="different axes out of 0, 1 and 2, or None",
            path=source,
        )
    return axes
