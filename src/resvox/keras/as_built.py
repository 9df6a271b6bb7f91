"""Whether the layers of a Keras model are as they were built, and which of them Keras quantized."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import keras

# of a layer's configuration what changes no number of a prediction, or has a place of its own: LoRA is in the kernel
_SILENT = ("name", "trainable", "dtype", "quantization_config", "lora_rank", "lora_alpha", "seed")

Settings = dict[str, dict[str, str]]


def settings_of(model: Any) -> Settings:
    """Class and settings of every layer by its name, as text."""
    return {each.name: _settings(each) for each in model.layers if not isinstance(each, keras.layers.InputLayer)}


def _settings(layer: Any) -> dict[str, str]:
    try:
        config = layer.get_config()
    except NotImplementedError:  # of a layer with arguments that Keras cannot store; its class is compared all the same
        config = {}
    known = {key: value for key, value in config.items() if key not in _SILENT and not key.endswith("_initializer")}
    own = {"call": "of its own"} if "call" in vars(layer) else {}
    kind = {"class": type(layer).__name__, "dtype": layer.compute_dtype}
    return {**kind, **{key: json.dumps(value, default=str) for key, value in known.items()}, **own}


def changes(built: Mapping[str, Mapping[str, str]], now: Mapping[str, Mapping[str, str]]) -> list[str]:
    """What differs, one line for each setting of a layer."""
    found = [
        f"{name} was {'removed' if name in built else 'added'}"
        for name in [*built, *now]
        if (name in built) != (name in now)
    ]
    for name, before in built.items():
        after = now.get(name, before)
        for key in sorted({*before, *after}):
            if before.get(key) != after.get(key):
                found.append(f"{key} of {name} is {after.get(key)}, not {before.get(key)}")
    return found


def quantized_layers(model: Any) -> dict[str, tuple[str, Any]]:
    """The mode and, where Keras has one, the configuration of every layer that was quantized."""
    found = {}
    for each in model.layers:
        mode = getattr(each, "quantization_mode", None)
        if mode is not None:
            config = getattr(each, "quantization_config", None)
            found[each.name] = (mode, None if config is None else keras.saving.serialize_keras_object(config))
    return found


def quantize(layer: Any, mode: str, config: Any) -> None:
    """Quantize a layer as another was, so that its values can be read."""
    if config is None:
        layer.quantize(mode)
    else:
        layer.quantize(mode, config=keras.saving.deserialize_keras_object(config))
