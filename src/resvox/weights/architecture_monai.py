"""MONAI's segmentation networks from names and shapes of their tensors under our names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]
Found = tuple[str, tuple[int, ...], dict[str, Any]]  # name, kernel of the first convolution, options


def is_monai(shapes: Shapes) -> bool:
    """Whether tensors are those of a network of MONAI."""
    return any(name.startswith("encoder.levels.") for name in shapes)


def describe_monai(shapes: Shapes) -> Found:
    """Name, shape of the first kernel, and options.

    Raises:
        KeyError: a tensor that every such network has is missing; its name.
    """
    return _segresnet(shapes) if "encoder.conv.weight" in shapes else _unet(shapes)


def _segresnet(shapes: Shapes) -> Found:
    learned, first = "decoder.levels.0.conv.weight" not in shapes, shapes["encoder.conv.weight"]
    down = _blocks(shapes, "encoder")
    options: dict[str, Any] = {
        "init_filters": first[0],
        "blocks_down": down,
        "blocks_up": _blocks(shapes, "decoder"),
        "num_classes": shapes["head.weight" if learned else "head.2.weight"][0],
    }
    if learned:
        resolution = _resolution([shapes[f"encoder.levels.{s}.blocks.0.conv1.weight"][2:] for s in range(len(down))])
        options.update({"resolution": resolution} if resolution else {})
        options["dsdepth"] = 1 + _count(shapes, r"supervision\.(\d+)\.")
        return "segresnet_ds", first, options
    options["upsample_mode"] = "deconv" if "decoder.levels.0.up.weight" in shapes else "nontrainable"
    return "segresnet", first, options


def _blocks(shapes: Shapes, part: str) -> tuple[int, ...]:
    levels = _count(shapes, rf"{part}\.levels\.(\d+)\.")
    return tuple(_count(shapes, rf"{part}\.levels\.{level}\.blocks\.(\d+)\.") for level in range(levels))


def _resolution(kernels: list[tuple[int, ...]]) -> tuple[float, ...] | None:
    """A resolution with such flat kernels: 1 along the axis that is never flat."""
    flat = [kernel for kernel in kernels if 1 in kernel]
    if not flat:
        return None
    return tuple(float(2 ** sum(kernel[axis] == 1 for kernel in flat)) for axis in range(len(kernels[0])))


def _unet(shapes: Shapes) -> Found:
    first = shapes["encoder.levels.0.convs.0.conv.weight"]
    levels = _count(shapes, r"encoder\.levels\.(\d+)\.")
    residual = "head.unit.convs.0.conv.weight" in shapes
    options: dict[str, Any] = {
        "channels": tuple(shapes[f"encoder.levels.{level}.convs.0.conv.weight"][0] for level in range(levels)),
        "strides": tuple(_stride(shapes, level, residual=residual) for level in range(levels - 1)),
        "num_res_units": _count(shapes, r"encoder\.levels\.0\.convs\.(\d+)\.") if residual else 0,
        "num_classes": shapes["head.up.conv.weight"][1],
        "kernel_size": first[2:],
        "up_kernel_size": shapes["head.up.conv.weight"][2:],
        "conv_bias": "encoder.levels.0.convs.0.conv.bias" in shapes,
    }
    if "encoder.levels.0.convs.0.norm.weight" not in shapes:
        options["norm"] = None
    if "encoder.levels.0.convs.0.act.weight" in shapes:
        options["activation"] = "prelu"
    return "monai_unet", first, options


def _stride(shapes: Shapes, level: int, *, residual: bool) -> int:
    """2 where the shortcut has the kernel of a strided unit: which stride it is, no file records."""
    kernel = shapes.get(f"encoder.levels.{level}.shortcut.weight", ())[2:]
    return 1 if residual and max(kernel, default=1) == 1 else 2


def _count(shapes: Shapes, pattern: str) -> int:
    numbers = [int(found[1]) for found in (re.match(pattern, name) for name in shapes) if found]
    return max(numbers, default=-1) + 1
