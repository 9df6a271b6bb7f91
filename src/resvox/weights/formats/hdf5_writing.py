"""Keras's weight files written: ``.weights.h5``, and the older ``.h5``."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy.typing as npt

from resvox.weights.formats.hdf5 import NORM, h5py_for

Arrays = dict[str, npt.NDArray[Any]]


def new_keras_file(layers: dict[str, Arrays]) -> bytes:
    """A ``.weights.h5`` file of layers in the model's order: Keras finds them by their kind and number."""
    h5py = h5py_for(Path("a .weights.h5 file"))
    stream = io.BytesIO()
    numbers: dict[str, int] = {}
    places: dict[str, str] = {}
    with h5py.File(stream, "w") as file:
        for name, variables in layers.items():
            owner, _, inner = name.partition("/")
            if owner not in places:
                kind = "squeeze_excitation" if inner else _kind_of(owner, variables)
                number = numbers.get(kind, 0)
                numbers[kind] = number + 1
                places[owner] = f"layers/{kind}" + (f"_{number}" if number else "")
                file.create_group(f"{places[owner]}/vars").attrs["name"] = owner
            group = file.require_group("/".join(filter(None, (places[owner], inner, "vars"))))
            for index, variable in enumerate(sorted(variables, key=_order_of)):
                group.create_dataset(str(index), data=variables[variable])
    return stream.getvalue()


def old_keras_file(layers: dict[str, Arrays]) -> bytes:
    """The ``.h5`` file that Keras 2 wrote, as keras.applications distributes its weights."""
    h5py = h5py_for(Path("an .h5 file"))
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        file.attrs["backend"] = b"tensorflow"
        for name, variables in layers.items():
            group = file.create_group(name)
            ordered = sorted(variables, key=_order_of)
            group.attrs["weight_names"] = [f"{name}/{variable}:0".encode() for variable in ordered]
            for variable in ordered:
                group.create_dataset(f"{name}/{variable}:0", data=variables[variable])
    return stream.getvalue()


def _order_of(variable: str) -> int:
    return ("kernel", "bias", *NORM).index(variable)


def _kind_of(name: str, variables: Arrays) -> str:
    if "kernel" not in variables:
        return "batch_normalization"
    rank = variables["kernel"].ndim
    transposed = "_transpose" if "transpose_conv" in name else ""
    return "dense" if rank == 2 else f"conv{rank - 2}d{transposed}"
