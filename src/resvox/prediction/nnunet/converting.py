"""A model folder of nnU-Net as model files of resvox: one per fold, with all that a prediction needs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from resvox.cards import SegmentationCard
from resvox.errors import WeightsError
from resvox.prediction.model_files import MODEL_NAME, ModelFile
from resvox.prediction.nnunet.files import first_stage_of, nnunet_files, nnunet_module
from resvox.prediction.options import CHECKPOINT

FIRST_STAGE = "first_stage"  # a folder beside the model file, or beside the folders of the folds


def convert_nnunet(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    folds: tuple[str, ...] | None = None,
    checkpoint: str = CHECKPOINT,
    overwrite: bool = False,
) -> tuple[list[Path], Any]:
    """Write the folds of a model folder, or of its zip.

    Args:
        source: the folder or zip.
        out: for one fold a ``.safetensors``; for several a folder, in which each gets ``fold_0/model.safetensors``.
            The first stage of a cascade is written into the folder ``first_stage`` there.
        folds: such as ("0",) or ("all",); None takes every numbered fold.
        checkpoint: the name of the file in the folder of a fold.
        overwrite: write over files that are there.

    Returns:
        The files, and the network of the first one.

    Raises:
        WeightsError: a folder that cannot be used, a name that does not suit, or a file that is there.
    """
    files = nnunet_files(Path(source), folds, checkpoint)
    targets = _targets(files, Path(out))
    first = _first_stage(files[0])
    if first is not None:
        nested = targets[0].parent if len(files) == 1 else Path(out)
        stage = nested / FIRST_STAGE
        convert_nnunet(
            first, stage / MODEL_NAME if len(files) == 1 else stage, folds=folds, checkpoint=checkpoint,
            overwrite=overwrite,
        )  # fmt: skip
    written = [target for target in targets if target.exists()]
    if written and not overwrite:
        raise WeightsError("a file of this name exists", expected="a new name", fix="--overwrite", path=written[0])
    network = None
    for file, target in zip(files, targets, strict=True):
        module = nnunet_module(file.path)
        _write(module, target, _metadata(file, deep=len(files) > 1))
        network = module if network is None else network
    return targets, network


def _write(module: Any, target: Path, metadata: Mapping[str, Any]) -> None:
    from resvox.weights import save_model

    save_model(module, target, metadata=metadata)


def _targets(files: list[ModelFile], out: Path) -> list[Path]:
    if len(files) == 1:
        if out.suffix != ".safetensors":
            raise WeightsError(
                f"the ending of {out.name!r}", expected=".safetensors for the one fold of this folder", path=out
            )
        return [out]
    names = [file.path.parent.name for file in files]
    if out.suffix == ".safetensors" or out.is_file():
        raise WeightsError(
            f"one file for {len(files)} folds ({', '.join(names)})",
            expected="a folder, in which each fold gets its own",
            fix=f"-o {out.with_suffix('')}, or --folds {names[0].removeprefix('fold_')} for one file",
            path=out,
        )
    return [out / name / MODEL_NAME for name in names]


def _first_stage(file: ModelFile) -> Path | None:
    card = file.card
    assert isinstance(card, SegmentationCard)
    return None if card.cascade is None else first_stage_of(file, card.cascade.model)


def _metadata(file: ModelFile, *, deep: bool) -> Mapping[str, Any]:
    """The card, whose first stage is where this module writes it."""
    card = file.card
    assert isinstance(card, SegmentationCard)
    if card.cascade is None:
        return card.to_dict()
    model = f"../{FIRST_STAGE}" if deep else f"{FIRST_STAGE}/{MODEL_NAME}"
    return replace(card, cascade=replace(card.cascade, model=model)).to_dict()
