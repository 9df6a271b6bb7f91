"""What is known of a network of OpenVINO from its operations: whether it is quantized, its first and last layers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from resvox.errors import InferenceError
from resvox.inference.engines.telemetry import openvino_module

# Operations with weights; a transposed convolution is called "BackpropData".
LAYERS = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul")
QUANTIZER = "FakeQuantize"


def is_quantized(path: str | os.PathLike[str]) -> bool:
    """Whether the network of an ``.xml`` file of OpenVINO computes in int8.

    Only the text of the file is searched, because a compiled network may be in the cache.

    Raises:
        OSError: a file that cannot be read.
    """
    return Path(path).suffix.lower() == ".xml" and f'type="{QUANTIZER}"'.encode() in Path(path).read_bytes()


def outer_layers(network: Any) -> list[str]:
    """The names of the layers that read the input and of the last ones before each output.

    Args:
        network: an ``openvino.Model``.
    """
    layers = [each for each in network.get_ordered_ops() if each.get_type_name() in LAYERS]
    found = [layers[0], *(_last_layer(result) for result in network.get_results())] if layers else []
    return list(dict.fromkeys(each.get_friendly_name() for each in found if each is not None))


def without_last_layer(network: Any) -> Any:
    """The network up to the input of its last convolution: its outputs are features.

    Args:
        network: an ``openvino.Model`` with one output.

    Raises:
        InferenceError: a network that does not end with a convolution.
    """
    last = _last_layer(network.get_results()[0])
    if last is None or last.get_type_name() != "Convolution":
        raise InferenceError("a network whose last layer is not a convolution", expected="one that ends with it")
    return openvino_module().Model([last.input_value(0)], network.get_parameters(), "features")


def _last_layer(result: Any) -> Any | None:
    """The layer whose output, with its bias, is a result of the network; None where something else is between."""
    node = result.input_value(0).get_node()
    while node.get_type_name() not in LAYERS:
        if node.get_type_name() not in ("Add", "Convert") or not node.inputs():
            return None
        node = node.input_value(0).get_node()
    return node
