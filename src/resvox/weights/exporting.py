"""A model's weights under a peer's names: every table read the other way."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from resvox.blueprint import Blueprint
from resvox.errors import WeightsError
from resvox.weights.architecture import UnclearError, describe
from resvox.weights.comparison import Difference, differences, encoder_of, hint
from resvox.weights.formats.hdf5_writing import new_keras_file, old_keras_file
from resvox.weights.formats.safetensors import check_tensors, replace_file
from resvox.weights.importers import BY_NAME, PEERS, Importer, importers_of
from resvox.weights.models import network_in, tensor_adapter
from resvox.weights.naming import blueprints_of
from resvox.weights.sources import COUNTER

Arrays = dict[str, npt.NDArray[Any]]

TORCH_ENDINGS = (".pth", ".pt", ".bin", ".safetensors", ".npz")
KERAS_ENDINGS = (".weights.h5", ".h5", ".npz")


def export_weights(model: Any, path: str | os.PathLike[str], *, peer: str) -> Path:
    """Write a model's weights as a peer's own code loads them.

    Args:
        model: a torch or Keras model that resvox built, and that the peer can build too.
        path: ending with .pth, .pt, .bin, .safetensors or .npz; of Keras's peers .weights.h5, .h5 or .npz.
        peer: one of ``resvox.weights.PEERS`` other than "resvox".

    Returns:
        The path. It is written whole or not at all.

    Raises:
        WeightsError: a network that the peer computes otherwise or has no names for, or an ending it does not read.
    """
    model = network_in(model)
    adapter, _ = tensor_adapter(model)
    blueprint = adapter.blueprint_as_is(model)
    target = Path(path)
    importer = _importer(blueprint, peer, target)
    endings = KERAS_ENDINGS if importer.style == "keras" else TORCH_ENDINGS
    ending = next((each for each in endings if target.name.lower().endswith(each)), None)
    if ending is None:
        raise WeightsError(
            f"the ending of {target.name!r} for {peer} weights", expected="one of " + ", ".join(endings), path=target
        )
    tensors = adapter.tensors_of(model)
    check_tensors(tensors, blueprint, source=target)
    tensors = _renamed(tensors, importer)
    replace_file(target, _WRITERS[ending](tensors))
    return target


def _importer(blueprint: Blueprint, peer: str, target: Path) -> Importer:
    """The kind of network of the peer that has every tensor and computes the same."""
    if peer not in PEERS or peer == "resvox":
        raise WeightsError(
            f"peer={peer!r}",
            expected="one of " + ", ".join(each for each in PEERS if each != "resvox"),
            fix="resvox.save_model writes our own files" if peer == "resvox" else "",
        )
    shapes = {name: spec.shape for name, spec in blueprint.tensors().items()}
    named = [
        each
        for each in importers_of(peer, blueprint)
        if blueprint.spatial_dims in each.spatial_dims and all(each.table.theirs(name) for name in shapes)
    ]
    encoder = encoder_of(blueprint.network)
    has_decoder = encoder is not None and encoder is not blueprint.network
    if has_decoder and encoder is not None and len(encoder.stage_list) < 4:
        raise WeightsError(
            f"an encoder with fewer than five levels, for {peer}",
            expected="encoder_depth=5: it keeps the stages that it does not use, and needs their weights",
            path=target,
        )
    objection = BY_NAME[peer].objection(blueprint)
    if objection is not None:
        raise WeightsError(objection[0], expected=objection[1], path=target)
    best: list[Difference] | None = None
    for importer in named:
        for each in _known(importer, shapes):
            found = [
                one for one in differences(each.network, blueprint.network) if not _is_unconstrained(one, importer)
            ]
            if not found:
                return importer
            best = found if best is None or len(found) < len(best) else best
    if best is None:
        raise WeightsError(
            f"{blueprint.name!r}, a network that {peer} does not have",
            expected="one that it builds",
            fix="another peer, or resvox.save_model",
            path=target,
        )
    raise WeightsError(
        f"{peer} computes something else than {blueprint.name!r}: {'; '.join(map(str, best[:4]))}",
        expected="a network that it builds",
        fix=f"the options {hint(best)} of the model decide it" if hint(best) else "",
        path=target,
    )


def _known(importer: Importer, shapes: dict[str, tuple[int, ...]]) -> tuple[Blueprint, ...]:
    try:
        return blueprints_of(importer, describe(shapes))
    except (UnclearError, ValueError):
        return ()


def _is_unconstrained(one: Difference, importer: Importer) -> bool:
    return one.path == "activation" or (one.path.removeprefix("encoder."), one.field) in importer.unconstrained


def _renamed(tensors: Arrays, importer: Importer) -> Arrays:
    renamed: Arrays = {}
    for name, value in tensors.items():
        found = importer.table.theirs(name)
        assert found is not None
        theirs, row = found
        if importer.style == "keras":
            value = np.moveaxis(value, (0, 1), (-1, -2)) if value.ndim > 1 else value
        elif row.shape == "conv" and name.endswith("weight"):
            value = value.reshape(*value.shape, 1, 1)
        renamed[theirs] = np.ascontiguousarray(value)
        if importer.style == "torch" and theirs.endswith("running_var"):
            renamed[theirs.removesuffix("running_var") + COUNTER] = np.zeros((), np.int64)
    return {**renamed, **{more: value for name, value in renamed.items() for more in importer.second_names(name)}}


def _safetensors(tensors: Arrays) -> bytes:
    from safetensors.numpy import save

    return bytes(save(tensors, metadata={"format": "pt"}))


def _npz(tensors: Arrays) -> bytes:
    import io
    import zipfile

    # Not np.savez: NumPy before 2.1 takes allow_pickle=False for one more array, and no version takes an array
    # called "file".
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, tensor in tensors.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, tensor, allow_pickle=False)
    return stream.getvalue()


def _pickled(tensors: Arrays) -> bytes:
    from resvox.torch.tensors import pickled

    return bytes(pickled(tensors))


def ordered_layers(tensors: Arrays) -> dict[str, Arrays]:
    """Keras's layers in the order in which a model of Keras has them, each with its variables."""
    layers: dict[str, Arrays] = {}
    for name, value in tensors.items():
        layer, _, variable = name.rpartition("/")
        layers.setdefault(layer, {})[variable] = value
    begins: dict[str, int] = {}
    widest: dict[str, int] = {}
    for index, name in enumerate(layers):
        begins.setdefault(_block(name), index)
        found = _IN_BLOCK.fullmatch(name)
        widest[_block(name)] = max(widest.get(_block(name), 0), int(found[2]) if found else 0)
    places = {name: index for index, name in enumerate(layers)}

    def order(name: str) -> tuple[int, float, int]:
        found = _IN_BLOCK.fullmatch(name)
        if found is None:
            return begins[_block(name)], -1.0, places[name]
        block, is_norm = _block(name), found[3] == "bn"
        number = float(found[2])
        if found[2] == "0":  # by its distance from the sum: beside the last convolution, or behind one with a gate
            gated = f"{block}_squeeze_excitation/conv1" in layers and not is_norm
            number = widest[block] + (0.1 if gated else -0.1)
        return begins[block], number + (0.5 if is_norm else 0.0), places[name]

    return {name: layers[name] for name in sorted(layers, key=order)}


def _block(name: str) -> str:
    found = _BLOCK.match(name)
    return found[1] if found else name


_BLOCK = re.compile(r"((?:conv|stack)\d+_block\d+)_")
_IN_BLOCK = re.compile(r"((?:conv|stack)\d+_block\d+)_(\d)_(conv|bn)")
_WRITERS: dict[str, Callable[[Arrays], bytes]] = {
    ".pth": _pickled,
    ".pt": _pickled,
    ".bin": _pickled,
    ".safetensors": _safetensors,
    ".npz": _npz,
    ".weights.h5": lambda tensors: new_keras_file(ordered_layers(tensors)),
    ".h5": lambda tensors: old_keras_file(ordered_layers(tensors)),
}
