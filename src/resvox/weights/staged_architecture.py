"""The network of nnU-Net's kind that a set of tensors under our names belongs to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]

_BIASED = re.compile(r"decoder\.levels\.0\.up\.bias")
MAX_NUMBER = 1000


class NotStagedError(Exception):
    """Tensors of no such network; the text names the one that is missing or unexpected."""


def is_staged(shapes: Shapes) -> bool:
    """Whether names are those of a network with stages of its own and no pooling stem."""
    return any(name.startswith("encoder.stages.0.") for name in shapes) and any(
        name.startswith("decoder.levels.0.") for name in shapes
    )


def describe_staged(shapes: Shapes) -> tuple[str, dict[str, Any]]:
    """The catalog's name and the arguments of :func:`resvox.get_blueprint` that names and shapes settle.

    Kernels, strides (a transposed convolution's kernel is its stride), channels, depths, the kind of block, biases and
    whether norms keep statistics are all in the shapes.

    Raises:
        NotStagedError: a tensor that such a network has is missing.
    """
    stages = _count(shapes, r"encoder\.stages\.(\d+)\.")
    residual = "encoder.stem.0.weight" in shapes
    bottleneck = residual and "encoder.stages.0.0.conv3.weight" in shapes
    residual_decoder = "decoder.levels.0.blocks.0.conv1.weight" in shapes
    first = _need(shapes, "encoder.stem.0.weight" if residual else "encoder.stages.0.0.0.weight")
    wide, last = ("conv2", "conv3") if bottleneck else ("conv1", "conv2")
    block = "encoder.stages.{}.0.{}.weight"
    kernels = [_need(shapes, block.format(s, wide if residual else "0"))[2:] for s in range(stages)]
    features = tuple(_need(shapes, block.format(s, last if residual else "0"))[0] for s in range(stages))
    ups = [_need(shapes, f"decoder.levels.{stages - 2 - s}.up.weight")[2:] for s in range(stages - 1)]
    levels = [rf"encoder\.stages\.{s}\.(\d+)\." for s in range(stages)]
    decoder = [rf"decoder\.levels\.{s}\.blocks\.(\d+)\." for s in range(stages - 1)]
    options: dict[str, Any] = {
        "spatial_dims": len(first) - 2,
        "in_channels": first[1],
        "num_classes": _need(shapes, "head.weight")[0],
        "features": features,
        "kernels": tuple(kernels),
        "strides": ((1,) * (len(first) - 2), *ups),
        "depths": tuple(_count(shapes, each) for each in levels),
        "decoder_depths": tuple(_count(shapes, each) for each in decoder),
        "conv_bias": any(_BIASED.fullmatch(name) for name in shapes),
        "norm": _norm(shapes),
    }
    if residual and first[0] != features[0]:
        options["stem_channels"] = first[0]
    if bottleneck:
        options["block"] = "bottleneck"
        options["bottleneck_channels"] = tuple(_need(shapes, block.format(s, "conv1"))[0] for s in range(stages))
    if not residual:
        return "plain_unet", options
    return ("residual_unet" if residual_decoder else "resenc_unet"), options


def _norm(shapes: Shapes) -> Any:
    """Batch norm where statistics are kept; without weights, a norm that is not affine."""
    kind = "batch" if any(name.endswith("running_mean") for name in shapes) else "instance"
    affine = any(name in shapes for name in ("encoder.stem.1.weight", "encoder.stages.0.0.1.weight"))
    return kind if affine else (kind, {"affine": False})


def _need(shapes: Shapes, name: str) -> tuple[int, ...]:
    if len(shapes.get(name, ())) not in (4, 5):
        raise NotStagedError(f"no kernel {name}")
    return shapes[name]


def _count(shapes: Shapes, pattern: str) -> int:
    numbers = [int(found[1]) for found in (re.match(pattern, name) for name in shapes) if found]
    if not numbers or max(numbers) >= MAX_NUMBER:
        raise NotStagedError("no blocks")
    return max(numbers) + 1
