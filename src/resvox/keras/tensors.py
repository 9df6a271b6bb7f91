"""A Keras model's tensors as numpy arrays by name, and back. The twin of ``torch/tensors.py``.

Names and axis order are those of the blueprint (PyTorch's). One rule converts every kernel (plain, grouped,
transposed, of a linear layer): its first two axes are swapped and moved to the end.
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
    """Every parameter and running statistic by its name, in float32 or in the type of the model.

    Raises:
        WeightsError: a model with steps that are not in its blueprint, so that a file of tensors and blueprint
            would give another model.
    """
    if model.beside_blueprint:
        raise WeightsError(
            f"a model with {' and '.join(model.beside_blueprint)}, which a blueprint does not hold",
            expected="a model without",
            fix="save it with model.save('model.keras'), or build it without this step",
        )
    found = {}
    for name, variable in _variables(model):
        array = np.asarray(keras.ops.convert_to_numpy(variable))
        if array.dtype.name == "bfloat16":  # NumPy has no bfloat16; float32 represents all its values
            array = array.astype(np.float32)
        found[name] = np.ascontiguousarray(to_torch_axes(array))
    return found


def fill(model: Any, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    """Copy tensors of the blueprint's names into the model.

    Raises:
        WeightsError: names that are not the model's.
    """
    variables = _places(model)
    odd = sorted(set(variables) ^ set(tensors))
    if odd:
        raise WeightsError(
            f"missing or unknown tensors {', '.join(odd[:8])}",
            expected=f"the {len(variables)} tensors of {model.name!r}",
        )
    for name, variable in variables.items():
        variable.assign(to_keras_axes(np.asarray(tensors[name])))


def update(model: Any, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    """Copy some tensors (already checked against the blueprint) into the model; the others are not changed."""
    variables = _places(model)
    for name, value in tensors.items():
        variables[name].assign(to_keras_axes(np.asarray(value)))


def copy_encoder(encoder: Any, model: Any) -> None:
    """Copy the weights of an encoder into the model that was built around its blueprint."""
    copy_tensors(encoder, model, lambda name: name.removeprefix(ENCODER) if name.startswith(ENCODER) else None)


def copy_tensors(source: Any, model: Any, origin: Callable[[str], str | None]) -> None:
    """Copy weights between models; ``origin``: the name in the first of a tensor of the second, or None."""
    values = dict(_variables(source))
    for name, variable in _places(model).items():
        there = origin(name)
        if there is not None:
            variable.assign(values[there])


def to_keras_axes(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(out, in, \\*kernel) or (in, out, \\*kernel) in the axis order of Keras: the first two axes last, swapped."""
    return np.moveaxis(array, (0, 1), (-1, -2)) if array.ndim > 1 else array


def to_torch_axes(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The inverse of :func:`to_keras_axes`."""
    return np.moveaxis(array, (-1, -2), (0, 1)) if array.ndim > 1 else array


def _places(model: Any) -> dict[str, Any]:
    """Where tensors are written.

    Raises:
        WeightsError: layers that hold their kernels in another form.
    """
    odd = [each.name for each in model.layers if getattr(each, "lora_enabled", False) or each.quantization_mode]
    if odd:
        raise WeightsError(
            f"weights for a model whose layers are quantized or have LoRA: {', '.join(odd[:8])}",
            expected="a model as it was built",
            fix="load the weights first, then call quantize or enable_lora",
        )
    return dict(_variables(model))


def _variables(model: Any) -> Iterator[tuple[str, Any]]:
    """Every tensor's name and Keras's variable, in the blueprint's order."""
    blueprint: Blueprint = model.blueprint
    layers = {each.name: each for each in model.layers}
    for path, leaf in blueprint.network.leaves():
        for name, _ in leaf.own_tensors():
            owner = layers[path.replace(".", "_")]
            attributes = _NORMS if isinstance(leaf, Norm | LayerNorm) else _KERNELS
            yield join(path, name), getattr(owner, attributes[name])


def blueprint_as_is(model: Any) -> Blueprint:
    """The blueprint of a model that computes what it describes.

    Raises:
        WeightsError: layers were changed, quantized or given adapters after the model was built; names them.
    """
    model.check_as_built()
    blueprint: Blueprint = model.blueprint
    return blueprint


def blueprint_to_fill(model: Any) -> Blueprint:
    """What weights are compared with."""
    blueprint: Blueprint = model.blueprint
    return blueprint
