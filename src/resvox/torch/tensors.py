"""A torch model's tensors as numpy arrays by name, and back. The twin of ``keras/tensors.py``."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from resvox.errors import WeightsError

# A step counter that is not used while momentum is a number; the Keras twin does not have it.
COUNTER = "num_batches_tracked"


def tensors_of(model: nn.Module) -> dict[str, npt.NDArray[Any]]:
    """Every parameter and running statistic by its name, in float32 or in the type of the model."""
    found = {}
    for name, value in model.state_dict().items():
        if not name.endswith(COUNTER):
            array = value.detach().cpu()
            # NumPy has no bfloat16; float32 represents all its values
            found[name] = array.float().numpy() if array.dtype == torch.bfloat16 else array.numpy()
    return found


def fill(model: nn.Module, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    """Copy tensors (already checked against the blueprint) into the model, then set it to eval mode."""
    own = model.state_dict()
    given = {name: torch.from_numpy(np.array(value)) for name, value in tensors.items()}
    counters = {name: torch.zeros_like(value) for name, value in own.items() if name.endswith(COUNTER)}
    model.load_state_dict({**given, **counters}, strict=True)
    model.eval()


def array_of(value: torch.Tensor) -> npt.NDArray[Any]:
    """A tensor as an array, sharing memory where possible; bfloat16 as float32, which represents all its values.

    Raises:
        WeightsError: not a plain tensor, or a tensor without values.
    """
    if not isinstance(value, torch.Tensor) or value.is_meta or value.is_sparse or value.is_quantized:
        raise WeightsError(f"a {type(value).__name__} among tensors", expected="plain tensors with values")
    array = value.detach().cpu()
    return array.float().numpy() if array.dtype == torch.bfloat16 else array.numpy()


def pickled(tensors: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """A state dict as ``torch.save`` writes it."""
    stream = io.BytesIO()
    torch.save({name: torch.from_numpy(np.array(value)) for name, value in tensors.items()}, stream)
    return stream.getvalue()


def update(model: nn.Module, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    """Copy some tensors (already checked against the blueprint) into the model; the others are not changed."""
    own = model.state_dict(keep_vars=True)
    with torch.no_grad():
        for name, value in tensors.items():
            own[name].copy_(torch.from_numpy(np.require(value, requirements=["C", "W"])))
            if name.endswith("running_mean"):
                own[name.removesuffix("running_mean") + COUNTER].zero_()
