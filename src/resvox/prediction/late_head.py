"""Which models' last layer can be applied after blending, and what it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from resvox.blueprint import networks as net
from resvox.blueprint.leaves import Activation, Conv
from resvox.prediction.model_files import OWN_FORMAT, ModelFile

if TYPE_CHECKING:
    from resvox.inference import LinearHead


def late_head(file: ModelFile) -> LinearHead | None:
    """The last layer of a model that has more classes than features before it, where that layer is linear and 1 wide.

    None for other models, whose windows are answered with logits.
    """
    from safetensors import safe_open

    from resvox.inference import LinearHead
    from resvox.weights import read_header

    if file.format != OWN_FORMAT:
        return None
    network = read_header(file.path).blueprint.network
    # a head of one convolution reads a map of the image's size; other heads enlarge their logits, or are no maps
    if not isinstance(network, net.Segmenter) or not isinstance(network.head, Conv):
        return None
    if not _is_linear(network.head, network.activation) or network.head.out_channels <= network.head.in_channels:
        return None
    with safe_open(file.path, framework="numpy") as tensors:
        weight = tensors.get_tensor("head.weight").astype(np.float32)
        names = set(tensors.keys())
        bias = tensors.get_tensor("head.bias").astype(np.float32) if "head.bias" in names else np.zeros(len(weight))
    return LinearHead(np.ascontiguousarray(weight.reshape(len(weight), -1)), bias.astype(np.float32))


def _is_linear(head: Conv, activation: Activation | None) -> bool:
    one_wide = set(head.kernel) == set(head.stride) == {1} and head.groups == 1
    return one_wide and (activation is None or activation.kind == "identity")
