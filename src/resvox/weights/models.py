"""Models to files and back, in either framework."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resvox.blueprint import Blueprint
from resvox.errors import WeightsError
from resvox.factory import build, check_framework
from resvox.hub import is_address
from resvox.weights.formats.safetensors import read_header, read_tensors, write_file
from resvox.weights.provenance import ORIGIN, origin_of, remember
from resvox.weights.sources import file_of


def save_model(model: Any, path: str | os.PathLike[str], *, metadata: Mapping[str, Any] | None = None) -> Path:
    """Write a model and its blueprint to one ``.safetensors`` file, atomically.

    Args:
        model: a torch or Keras model that resvox built, also compiled by ``torch.compile``, averaged by
            ``AveragedModel`` or distributed: the network inside is written. Layers that were changed by hand are
            written as they are now where a blueprint can describe them (another stride, pooling left out, another
            activation, eps or number of classes), and refused by name elsewhere.
        path: where to; parent folders are made.
        metadata: a JSON object kept beside the blueprint (preprocessing, labels...). Where the weights came from a
            peer, ``weights_from`` records it.

    Returns:
        The path.

    Raises:
        WeightsError: a model of another origin, without values (meta device), or one that computes something that
            no blueprint describes, so that the file would be another network.
    """
    model = network_in(model)
    adapter, _ = tensor_adapter(model)
    blueprint = adapter.blueprint_as_is(model)
    origin = origin_of(model)
    words = {**({ORIGIN: origin} if origin else {}), **(metadata or {})}
    return write_file(path, adapter.tensors_of(model), blueprint, words)


def load_model(path: str | os.PathLike[str], *, framework: str = "torch") -> Any:
    """Build the model that a file describes and fill it with the file's tensors. The torch model is in eval mode.

    Args:
        path: a model file, or ``hf://owner/name`` (``@revision``, ``/path/in/the/repository``) for one on a hub.
        framework: "torch" or "keras".

    Raises:
        WeightsError: a file that is missing, broken, or without a blueprint; a hub that does not give it.
    """
    check_framework(framework)
    if is_address(path):
        path = file_of(path)
    header = read_header(path)
    # The tensors are checked before anything of the network's size is allocated.
    tensors = read_tensors(path, header.blueprint)
    model = build(header.blueprint, framework=framework)
    tensor_adapter(model)[0].fill(model, tensors)
    origin = header.metadata.get(ORIGIN)
    if isinstance(origin, dict):
        remember(model, origin)
    return model


def network_in(model: Any) -> Any:
    """The network inside of what PyTorch wraps around it (compiled, averaged, distributed); any other as it is."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(model, torch.nn.Module) or _is_keras(model):
        return model
    from resvox.torch.wrappers import unwrapped

    return unwrapped(model)


def _is_keras(model: Any) -> bool:
    return any(kind.__module__.startswith("keras.") for kind in type(model).__mro__)


def tensor_adapter(model: Any) -> tuple[Any, Blueprint]:
    """The module that reads and writes the tensors of the model's framework, and the model's blueprint."""
    blueprint = getattr(model, "blueprint", None)
    if not isinstance(blueprint, Blueprint):
        raise WeightsError(
            f"a {type(model).__name__} without a blueprint",
            expected="a model built by resvox.create_model",
            fix="build it with resvox.create_model, then resvox.load_weights into it",
        )
    # Whichever framework made the model is loaded already; neither is imported for the other's sake.
    if _is_keras(model):
        import resvox.keras.tensors as keras_adapter

        return keras_adapter, blueprint
    import resvox.torch.tensors as torch_adapter

    return torch_adapter, blueprint
