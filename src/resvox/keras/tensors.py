"""A Keras model's tensors as numpy arrays by name, and back. The twin of ``torch/tensors.py``.

Names and axis order are the blueprint's (PyTorch's): one rule turns every kernel, plain, grouped, transposed or of
a linear layer: its first two axes go to the end, swapped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from resvox.blueprint import Blueprint
from resvox.blueprint.leaves import Norm
from resvox.blueprint.node import join
from resvox.blueprint.transformers import LayerNorm
from resvox.errors import WeightsError

ENCODER = "encoder."
# the blueprint's last path segment -> Keras's attribute
_KERNELS = {"weight": "kernel", "bias": "bias"}
_NORMS = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def tensors_of(model: Any) -> dict[str, npt.NDArray[Any]]:
    """Every parameter and running statistic by its name, in float32 or as the model keeps it.

    Raises:
        WeightsError: a model that does more than its blueprint says, so that a file of tensors and blueprint
            would give another one.
    """
    if model.beside_blueprint:
        raise WeightsError(
            f"a model with {' and '.join(model.beside_blueprint)}, which a blueprint does not hold",
            expected="a model without",
            fix="save it with model.save('model.keras'), or build it without and do that step outside",
        )
    found = {}
    for name, variable in _variables(model):
        array = np.asarray(keras.ops.convert_to_numpy(variable))
        if array.dtype.name == "bfloat16":  # numpy itself has none; float32 holds every one of its values
            array = array.astype(np.float32)
        found[name] = np.ascontiguousarray(to_torch_axes(array))
    return found


def fill(model: Any, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    """Copy tensors of the blueprint's names into the model.

    Raises:
        WeightsError: names that are not the model's.
    """
    variables = dict(_variables(model))
    odd = sorted(set(variables) ^ set(tensors))
    if odd:
        raise WeightsError(
            f"missing or unknown tensors {', '.join(odd[:8])}",
            expected=f"the {len(variables)} tensors of {model.name!r}",
        )
    for name, variable in variables.items():
        variable.assign(to_keras_axes(np.asarray(tensors[name])))


def update(model: Any, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    """Copy some tensors (already checked against the blueprint) into the model; the others stay."""
    variables = dict(_variables(model))
    for name, value in tensors.items():
        variables[name].assign(to_keras_axes(np.asarray(value)))


def copy_encoder(encoder: Any, model: Any) -> None:
    """The encoder's values into the model that was built around its blueprint."""
    copy_tensors(encoder, model, lambda name: name.removeprefix(ENCODER) if name.startswith(ENCODER) else None)


def copy_tensors(source: Any, model: Any, origin: Callable[[str], str | None]) -> None:
    """Values of one model into another; ``origin`` says where a tensor of the second is in the first, if it is."""
    values = dict(_variables(source))
    for name, variable in _variables(model):
        there = origin(name)
        if there is not None:
            variable.assign(values[there])


def to_keras_axes(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(out, in, \\*kernel) or (in, out, \\*kernel) as Keras has it: the first two axes last, swapped."""
    return np.moveaxis(array, (0, 1), (-1, -2)) if array.ndim > 1 else array


def to_torch_axes(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The inverse of :func:`to_keras_axes`."""
    return np.moveaxis(array, (-1, -2), (0, 1)) if array.ndim > 1 else array


def _variables(model: Any) -> Iterator[tuple[str, Any]]:
    """Every tensor's name and Keras's variable, in the blueprint's order."""
    blueprint: Blueprint = model.blueprint
    layers = {each.name: each for each in model.layers}
    for path, leaf in blueprint.network.leaves():
        for name, _ in leaf.own_tensors():
            owner = layers[path.replace(".", "_")]
            attributes = _NORMS if isinstance(leaf, Norm | LayerNorm) else _KERNELS
            yield join(path, name), getattr(owner, attributes[name])
