"""From the arguments of Keras models to blueprints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from resvox.blueprint import Blueprint, Node, ResNetRecipe, activation_of, per_axis, resolve_resnet
from resvox.blueprint import Sequence as NodeSequence
from resvox.blueprint.blocks import SqueezeExcitation
from resvox.blueprint.choices import plain
from resvox.blueprint.leaves import Activation
from resvox.catalog.arguments import Interface, refuse_unknown, settle_interface, without_pretrained
from resvox.errors import BlueprintError

POOLINGS = (None, "avg", "max")
BLOCK_TYPES = {
    "basic_block": {"block": "basic", "average_down": False},
    "bottleneck_block": {"block": "bottleneck", "average_down": False},
    "basic_block_vd": {"block": "basic", "average_down": True},
    "bottleneck_block_vd": {"block": "bottleneck", "average_down": True},
}
BACKBONE_DEFAULTS: dict[str, Any] = {
    "num_blocks": None,
    "block_type": None,
    "conv_filters": (64,),
    "conv_kernel_sizes": (7,),
    "num_filters": (64, 128, 256, 512),
    "num_strides": (1, 2, 2, 2),
    "use_pre_activation": False,
    "groups": 1,
    "width_per_group": 64,
    "se_block": False,
    "se_ratio": 16,
    "se_placement": "after_norm",
    "se_rounding": "multiple_of_8",
    "se_activation": "relu",
}
# arguments of all models besides the blueprint, listed so that misspelt ones get suggestions
MODEL_ARGUMENTS = ("input_shape", "input_tensor", "include_rescaling", "name", "dtype")


def check_pooling(pooling: str | None) -> None:
    """Raise BlueprintError for a pooling that is neither None, 'avg' nor 'max'."""
    if pooling not in POOLINGS:
        raise BlueprintError(f"pooling={pooling!r}", expected="None, 'avg' or 'max'")


def need_input_shape(owner: str, input_shape: Sequence[int | None] | None, input_tensor: Any) -> Sequence[int | None]:
    """The given shape, or that of the given tensor.

    Raises:
        BlueprintError: neither is given.
    """
    if input_shape is not None:
        return tuple(plain(input_shape))
    if input_tensor is None:
        raise BlueprintError(
            f"{owner} without input_shape",
            expected="(*spatial, channels), such as (96, 96, 96, 1) or (None, None, 3)",
        )
    return tuple(input_tensor.shape[1:])


def backbone_blueprint(input_shape: Sequence[int | None], given: Mapping[str, Any]) -> Blueprint:
    """The blueprint of a residual encoder that is described block by block.

    Raises:
        BlueprintError: an argument that is unknown, missing or not valid.
    """
    refuse_unknown("ResNetBackbone", given, (*BACKBONE_DEFAULTS, *MODEL_ARGUMENTS))
    chosen = {**BACKBONE_DEFAULTS, **plain(without_pretrained(given))}
    for name in ("num_blocks", "block_type"):
        if chosen[name] is None:
            raise BlueprintError(f"ResNetBackbone without {name}", expected=f"{name}=, see its help")
    interface = settle_interface(
        spatial_dims=None, in_channels=None, num_classes=0, input_shape=input_shape, default_classes=0
    )
    network = resolve_resnet(_recipe(interface, chosen))
    if chosen["se_block"]:
        network = _with_gate_activation(network, activation_of(chosen["se_activation"], "se_activation"))
    return Blueprint(
        name="ResNetBackbone",
        task="features",
        spatial_dims=interface.spatial_dims,
        in_channels=interface.in_channels,
        num_classes=0,
        network=network,
    )


def _recipe(interface: Interface, chosen: Mapping[str, Any]) -> ResNetRecipe:
    block_type = chosen["block_type"]
    if not isinstance(block_type, str) or block_type not in BLOCK_TYPES:
        raise BlueprintError(f"block_type={block_type!r}", expected="one of " + ", ".join(BLOCK_TYPES))
    for name in ("use_pre_activation", "se_block"):
        if type(chosen[name]) is not bool:
            raise BlueprintError(f"{name}={chosen[name]!r}", expected="True or False")
    dims = interface.spatial_dims
    return ResNetRecipe(
        spatial_dims=dims,
        in_channels=interface.in_channels,
        **BLOCK_TYPES[block_type],  # type: ignore[arg-type]
        depths=_numbers("num_blocks", chosen["num_blocks"], 4),
        widths=_numbers("num_filters", chosen["num_filters"], 4),
        strides=_strides(_numbers("num_strides", chosen["num_strides"], 4), dims),
        **_stem(chosen, dims),
        preactivation=chosen["use_pre_activation"],
        groups=chosen["groups"],
        width_per_group=chosen["width_per_group"],
        se_ratio=chosen["se_ratio"] if chosen["se_block"] else None,
        se_placement=chosen["se_placement"],
        se_rounding=chosen["se_rounding"],
    )


def _numbers(name: str, value: Any, count: int) -> tuple[int, ...]:
    good = isinstance(value, tuple | list) and len(value) == count and all(type(n) is int and n >= 1 for n in value)
    if not good:
        raise BlueprintError(f"{name}={value!r}", expected=f"{count} whole numbers of at least 1")
    return tuple(value)


def _strides(num_strides: tuple[int, ...], dims: int) -> tuple[tuple[int, ...], ...]:
    if num_strides[0] != 1:
        raise BlueprintError(
            f"num_strides={num_strides!r}",
            expected="1 first: the stride before the first stage is that of the pooling",
        )
    return tuple(per_axis("num_strides", stride, dims) for stride in (2, 2, *num_strides[1:]))


def _stem(chosen: Mapping[str, Any], dims: int) -> dict[str, Any]:
    """Check the stem: one convolution, or three of which the first two have half the channels."""
    filters, kernels = tuple(chosen["conv_filters"]), tuple(chosen["conv_kernel_sizes"])
    names = f"conv_filters={filters!r} and conv_kernel_sizes={kernels!r}"
    deep = len(filters) == 3 and filters[0] == filters[1] == filters[2] // 2 and len(set(kernels)) == 1
    if len(filters) != len(kernels) or not (len(filters) == 1 or deep):
        raise BlueprintError(
            names, expected="one of each, or three such as (32, 32, 64) and (3, 3, 3): half, half, whole"
        )
    if any(type(k) is not int or k < 1 or k % 2 == 0 for k in kernels):
        raise BlueprintError(f"conv_kernel_sizes={kernels!r}", expected="odd numbers, so that padding is symmetric")
    stem = "deep" if deep else "7x7"
    return {"stem": stem, "stem_width": filters[-1], "stem_kernel": per_axis("conv_kernel_sizes", kernels[0], dims)}


def _with_gate_activation(node: Any, activation: Activation) -> Any:
    """The tree with another activation within its gates."""
    if isinstance(node, SqueezeExcitation):
        return replace(node, act=activation)
    if isinstance(node, NodeSequence):
        return replace(node, items=tuple(_with_gate_activation(item, activation) for item in node.items))
    changed = {
        field.name: _with_gate_activation(getattr(node, field.name), activation)
        for field in fields(node)
        if isinstance(getattr(node, field.name), Node)
    }
    return replace(node, **changed) if changed else node
