"""The residual network for dense prediction. The twin of ``torch/dense.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resvox.blueprint import Blueprint
from resvox.blueprint import networks as net
from resvox.catalog import get_blueprint
from resvox.errors import BlueprintError
from resvox.keras.arguments import need_input_shape
from resvox.keras.blocks import stage
from resvox.keras.layers import LayerScope, Tensor, cut_to, layer, through
from resvox.keras.model import BlueprintModel, expect, registered_model


def dense(node: net.DenseResNet, scope: LayerScope, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """One prediction per voxel, (batch, \\*size, num_classes); such a network has no pyramid."""
    y = through(node, ("conv1", "bn1", "act1"), scope, x)
    for name, blocks in node.layers.children():
        y = stage(blocks, scope.at(f"layers.{name}"), y)  # type: ignore[arg-type]
    # a strided convolution turns n into ceil(n / 2), which doubled is n or n + 1
    y = cut_to(scope.at("up"), layer(node.up, scope.at("up"), y), x)
    return through(node, ("head", "activation"), scope.full_precision, y), []


@registered_model
class ResNet18_3D(BlueprintModel):  # noqa: N801 - the name in the package that it replaces
    """ResNet-18 for one prediction per voxel: the output has the size of the input, which may be any from 1 voxel.

    Args:
        blueprint: from ``get_blueprint("resnet18_3d", ...)``; or None, with the arguments below.
        input_shape: ``(*spatial, channels)``; a size may be ``None``.
        input_tensor: a ``keras.Input`` to build on.
        include_rescaling: divide the image by 255 first.
        name: name of the model.
        dtype: dtype policy of the model; by default the current one.
        **options: ``out_channels=6`` (or ``num_classes``), ``depths`` and ``widths`` (one number per stage),
            ``stride``, ``norm``, ``activation``, ``output_activation``, ``shortcut``, ``zero_init_residual``.

    Input (batch, \\*size, channels); output (batch, \\*size, out_channels) in float32, not activated.

    Raises:
        BlueprintError: an argument that is unknown, missing or not valid.
    """

    def __init__(
        self,
        blueprint: Blueprint | None = None,
        /,
        *,
        input_shape: Sequence[int | None] | None = None,
        input_tensor: Tensor | None = None,
        include_rescaling: bool = False,
        name: str | None = None,
        dtype: Any = None,
        **options: Any,
    ) -> None:
        if blueprint is None:
            shape = need_input_shape("ResNet18_3D", input_shape, input_tensor)
            blueprint = get_blueprint("resnet18_3d", input_shape=shape, **options)
            name = name or "ResNet18_3D"
        elif options:
            raise BlueprintError(f"a blueprint and arguments {sorted(options)}", expected="one of the two")
        expect(blueprint, (net.DenseResNet,), "ResNet18_3D")
        super().__init__(
            blueprint,
            spell=dense,
            input_shape=input_shape,
            input_tensor=input_tensor,
            include_rescaling=include_rescaling,
            name=name,
            dtype=dtype,
        )
