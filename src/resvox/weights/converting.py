"""Convert a file of weights between frameworks and peers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resvox.errors import WeightsError
from resvox.weights.bundle.network import from_bundle
from resvox.weights.exporting import export_weights
from resvox.weights.formats.safetensors import replace_file
from resvox.weights.importers import PEERS
from resvox.weights.loading import create_model_from
from resvox.weights.models import load_model, save_model, tensor_adapter
from resvox.weights.sources import Source, read_source

FRAMEWORKS = {"torch": (".safetensors", ".pth", ".pt"), "keras": (".keras", ".weights.h5", ".safetensors")}


def convert_weights(
    source: Any,
    out: str | os.PathLike[str],
    *,
    to: str,
    metadata: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> tuple[Any, Path]:
    """Read weights from anywhere and write them for a framework, or for a peer.

    Args:
        source: as of :func:`resvox.load_weights`.
        out: for ``to="torch"`` our model file ``.safetensors`` or a state dict (.pth, .pt); for ``to="keras"`` a
            ``.keras`` model, ``.weights.h5`` or our model file; for a peer what :func:`resvox.export_weights` writes.
        to: "torch", "keras" or a peer.
        metadata: for our model file; by default what the source has.
        **arguments: of :func:`resvox.create_model_from`.

    Returns:
        The model, and the path.

    Raises:
        WeightsError: weights that cannot be read, that belong to no known network, or that ``to`` does not have.
    """
    target = Path(out)
    framework = "keras" if to == "keras" else "torch"
    _check(target, to)
    source, arguments = from_bundle(source, arguments)
    read = read_source(source)
    model = _model(source, read, framework, arguments)
    if to not in FRAMEWORKS:
        return model, export_weights(model, target, peer=to)
    if target.name.endswith(".safetensors"):
        return model, save_model(model, target, metadata=metadata or read.metadata)
    if to == "keras":
        from resvox.keras.files import write_whole

        return model, write_whole(model, target)
    from resvox.torch.tensors import pickled

    replace_file(target, pickled(tensor_adapter(model)[0].tensors_of(model)))
    return model, target


def _model(source: Any, read: Source, framework: str, arguments: dict[str, Any]) -> Any:
    given = {name: value for name, value in arguments.items() if value not in (None, "error")}
    if read.blueprint is not None and read.kind == "torch" and set(given) <= {"inflate_axis"}:
        return load_model(read.where, framework=framework)
    return create_model_from(read, framework=framework, **arguments)


def _check(target: Path, to: str) -> None:
    known = (*FRAMEWORKS, *(peer for peer in PEERS if peer != "resvox"))
    if to not in known:
        raise WeightsError(f"to={to!r}", expected="one of " + ", ".join(known))
    endings = FRAMEWORKS.get(to)
    if endings and not target.name.endswith(endings):
        raise WeightsError(
            f"the ending of {target.name!r} for {to}", expected="one of " + ", ".join(endings), path=target
        )
