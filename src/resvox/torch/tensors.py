"""A torch model's tensors as numpy arrays by name, and back. The twin of ``keras/tensors.py``."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from resvox.blueprint import Blueprint
from resvox.errors import WeightsError
from resvox.torch.as_it_is import adapted, blueprint_as_is
from resvox.torch.initialize import give_memory
from resvox.torch.wrappers import without_wrappers

__all__ = ["array_of", "blueprint_as_is", "blueprint_to_fill", "fill", "pickled", "tensors_of", "update"]

# A step counter that is not used while momentum is a number; the Keras twin does not have it.
COUNTER = "num_batches_tracked"


def tensors_of(model: nn.Module) -> dict[str, npt.NDArray[Any]]:
    """Every parameter and running statistic by its name, in float32 or in the type of the model.

    Raises:
        WeightsError: tensors without values (meta device), quantized or distributed ones.
    """
    return {name: array_of(value) for name, value in _state(model).items() if not name.endswith(COUNTER)}


def fill(model: nn.Module, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    """Copy tensors (already checked against the blueprint) into the model, then set it to eval mode."""
    update(model, tensors)
    model.eval()


def _state(model: nn.Module) -> dict[str, torch.Tensor]:
    """The parameters and buffers themselves, by their names without wrappers around inner modules."""
    return {without_wrappers(name): value for name, value in model.state_dict(keep_vars=True).items()}


def blueprint_to_fill(model: nn.Module) -> Blueprint:
    """What weights are compared with: the model's blueprint; where layers of other shapes stand in it, with those."""
    given: Blueprint = model.blueprint  # type: ignore[assignment]
    found = {name: tuple(value.shape) for name, value in _state(model).items() if not name.endswith(COUNTER)}
    same = found == {name: spec.shape for name, spec in given.tensors().items()}
    return given if same else adapted(model)


def array_of(value: torch.Tensor) -> npt.NDArray[Any]:
    """A tensor as an array, sharing memory where possible; bfloat16 as float32, which represents all its values.

    Raises:
        WeightsError: not a plain tensor, or a tensor without values.
    """
    if isinstance(value, torch.Tensor) and value.is_meta:
        raise WeightsError(
            "tensors without values (meta device)",
            expected="plain tensors with values",
            fix="fill the model with resvox.load_weights, or build it outside of torch.device('meta')",
        )
    ordinary = isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_quantized
    if not ordinary or is_traceable_wrapper_subclass(value):
        raise WeightsError(
            f"a {type(value).__name__} among tensors",
            expected="plain tensors with values",
            fix="take the model as it was before it was quantized, or gather distributed tensors first",
        )
    array = value.detach().cpu()
    return array.float().numpy() if array.dtype == torch.bfloat16 else array.numpy()


def pickled(tensors: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """A state dict as ``torch.save`` writes it."""
    stream = io.BytesIO()
    torch.save({name: torch.from_numpy(np.array(value)) for name, value in tensors.items()}, stream)
    return stream.getvalue()


def update(model: nn.Module, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    """Copy some tensors (already checked against the blueprint) into the model; the others are not changed.

    Layers on the meta device are allocated first, and initialized where no tensor is given.

    Raises:
        WeightsError: tensors that the model does not have: it no longer agrees with its blueprint.
    """
    give_memory(model)
    own = _state(model)
    odd = [name for name, value in tensors.items() if name not in own or tuple(own[name].shape) != value.shape]
    if odd:
        raise WeightsError(
            f"no place for {', '.join(odd[:8])} in a model that was changed after it was built",
            expected="its tensors under the names and in the shapes of its blueprint",
            fix="load the weights before changing the model",
        )
    with torch.no_grad():
        for name, value in tensors.items():
            own[name].copy_(torch.from_numpy(np.require(value, requirements=["C", "W"])))
            if name.endswith("running_mean"):
                counter = own.get(name.removesuffix("running_mean") + COUNTER)
                if counter is not None:
                    counter.zero_()
