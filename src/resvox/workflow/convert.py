"""Convert weights between frameworks and libraries: read, build, write."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resvox.errors import WeightsError
from resvox.prediction.options import CHECKPOINT


@dataclass(frozen=True, kw_only=True)
class ConvertResult:
    """What was written, of which network, and where its weights came from; and what could not be taken over."""

    path: Path
    model: str
    tensors: int
    origin: dict[str, Any] | None
    note: str = ""


def convert(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    to: str,
    peer: str | None = None,
    first_conv: str = "error",
    classifier: str = "error",
    inflate: str | None = None,
    inflate_axis: int = 0,
    options: Mapping[str, Any] | None = None,
    folds: tuple[str, ...] | None = None,
    checkpoint: str = CHECKPOINT,
    overwrite: bool = False,
) -> ConvertResult:
    """Convert a file of weights; the network is found from their names and shapes.

    Args:
        source: a file of weights, of a peer or of resvox, a folder of the Hugging Face cache, or a model folder of
            nnU-Net v2, a bundle of MONAI, or the zip of either, which become a model that `predict` takes.
        out: the file to write; its ending determines the format.
        to: "torch", "keras", or the peer whose code is to read it, one of ``resvox.weights.PEERS``.
        peer: whose weights ``source`` holds, where names and shapes do not determine it.
        first_conv, classifier, inflate, inflate_axis: as of `resvox.load_weights`.
        options: of the network, where the file leaves them open or the weights are adapted to them.
        folds: of a folder of nnU-Net: such as ("0",); None takes every numbered one.
        checkpoint: of a folder of nnU-Net: the name of the file in the folder of a fold.
        overwrite: write over a file that is there.

    Raises:
        WeightsError: weights that cannot be read, belong to no known network, or that ``to`` does not have.
    """
    from resvox.weights import convert_weights
    from resvox.weights.nnunet import is_nnunet

    if to == "torch" and is_nnunet(source):
        from resvox.prediction.nnunet.converting import convert_nnunet

        written, model = convert_nnunet(source, out, folds=folds, checkpoint=checkpoint, overwrite=overwrite)
        return _result(model, written[0] if len(written) == 1 else Path(out))
    if Path(out).exists() and not overwrite:
        raise WeightsError("a file of this name exists", expected="a new name", fix="--overwrite", path=out)
    metadata, note = _bundle_metadata(source) if to == "torch" else ({}, "")
    model, path = convert_weights(
        source,
        out,
        to=to,
        peer=peer,
        first_conv=first_conv,
        classifier=classifier,
        inflate=inflate,
        inflate_axis=inflate_axis,
        metadata=metadata,
        **dict(options or {}),
    )
    return _result(model, path, note)


def _bundle_metadata(source: str | os.PathLike[str]) -> tuple[Mapping[str, Any], str]:
    """The model card of a bundle; without one, why `predict` will not take the file. Nothing for other sources."""
    from resvox.prediction.bundle.files import bundle_files
    from resvox.weights.bundle.folder import Bundle, is_bundle
    from resvox.weights.bundle.network import read_bundle_network

    if not is_bundle(Path(source)):
        return {}, ""
    read_bundle_network(Bundle.read(Path(source)))  # without a network there is nothing to convert
    try:
        return bundle_files(Path(source))[0].metadata, ""
    except WeightsError as error:
        return {}, f"the network alone, which predict does not take: {error}"


def _result(model: Any, path: Path, note: str = "") -> ConvertResult:
    from resvox.weights import origin_of

    blueprint = model.blueprint
    return ConvertResult(
        path=path, model=blueprint.name, tensors=len(blueprint.tensors()), origin=origin_of(model), note=note
    )
