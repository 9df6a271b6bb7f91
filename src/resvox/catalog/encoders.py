"""From a row of the residual networks and the user's options to a recipe."""

from __future__ import annotations

from typing import Any

from resvox.blueprint import NormChoice, ResNetRecipe, activation_of, per_axis
from resvox.blueprint.resnet_recipe import BIAS_PLACES, LEVELS
from resvox.catalog import resnets
from resvox.catalog.arguments import Interface
from resvox.errors import BlueprintError

RESNET_OPTIONS = (
    "norm",
    "activation",
    "output_activation",
    "strides",
    "output_stride",
    "drop_path",
    "zero_init_residual",
    "stem",
    "stem_width",
    "stem_kernel",
    "widths",
    "depths",
    "se_ratio",
    "se_placement",
    "se_rounding",
    "groups",
    "width_per_group",
    "shortcut",
    "stride_on",
    "stride_block",
    "conv_bias",
    "pool_padding",
    "dilate_first_block",
)
ENCODER_OPTIONS = tuple(name for name in RESNET_OPTIONS if name != "output_activation")


def encoder_recipe(name: str, interface: Interface, options: dict[str, Any]) -> ResNetRecipe:
    """The recipe of a residual network: the catalog's row, then the user's options over it."""
    row = resnets.BY_NAME[name]
    taken = dict(options)
    dims = interface.spatial_dims
    settled: dict[str, Any] = {
        "block": row.block,
        "depths": row.depths,
        "stem": row.stem,
        "preactivation": row.preactivation,
        "average_down": row.average_down,
        "groups": row.groups,
        "width_per_group": row.width_per_group,
        "se_ratio": row.se_ratio,
    }
    if "norm" in taken:
        settled["norm"] = NormChoice.of(taken.pop("norm"))
    if "activation" in taken:
        settled["activation"] = activation_of(taken.pop("activation"))
    if "strides" in taken:
        strides = taken.pop("strides")
        if not isinstance(strides, (tuple, list)) or len(strides) != LEVELS:
            raise BlueprintError(
                f"strides={strides!r}",
                expected="five entries (stem, pooling, stages 2 to 4), each a number or one per axis",
            )
        settled["strides"] = tuple(per_axis("strides", stride, dims) for stride in strides)
    if "stem_kernel" in taken:
        settled["stem_kernel"] = _odd_kernel(per_axis("stem_kernel", taken.pop("stem_kernel"), dims))
    for key in ("depths", "widths"):
        if key in taken:
            settled[key] = listed(taken.pop(key))
    if type(taken.get("conv_bias")) is bool:
        settled["conv_bias"] = BIAS_PLACES if taken.pop("conv_bias") else ()
    elif isinstance(taken.get("conv_bias"), list):
        settled["conv_bias"] = tuple(taken.pop("conv_bias"))
    settled.update(taken)
    return ResNetRecipe(spatial_dims=dims, in_channels=interface.in_channels, **settled)


def listed(value: Any) -> Any:
    """A list as a tuple; other values unchanged, so that the recipe rejects them by name."""
    return tuple(value) if isinstance(value, list) else value


def _odd_kernel(kernel: tuple[int, ...]) -> tuple[int, ...]:
    if any(k % 2 == 0 for k in kernel):
        raise BlueprintError(f"stem_kernel={kernel!r}", expected="odd numbers, so that padding is symmetric")
    return kernel


def depth_of(options: dict[str, Any]) -> int:
    """Remove ``encoder_depth`` from the options and return it: the number of levels P1..P<depth>."""
    depth = options.pop("encoder_depth", LEVELS)
    if type(depth) is not int or not 1 <= depth <= LEVELS:
        raise BlueprintError(f"encoder_depth={depth!r}", expected="a whole number from 1 to 5")
    return depth


def levels_of(options: dict[str, Any]) -> tuple[int, tuple[int, ...] | None]:
    """Remove ``encoder_depth`` and ``out_indices`` from the options; return the depth and the levels (None: all).

    As in timm, ``out_indices`` count from 0, negative ones from the deepest level, and levels deeper than all
    requested maps are not built, unless ``encoder_depth`` includes them.
    """
    indices, fixed = options.pop("out_indices", None), "encoder_depth" in options
    depth = depth_of(options)
    if indices is None:
        return depth, None
    good = isinstance(indices, tuple | list) and len(indices) > 0
    good = good and all(type(index) is int and -depth <= index < depth for index in indices)
    if not good:
        raise BlueprintError(
            f"out_indices={indices!r}",
            expected=f"whole numbers from 0 (P1) to {depth - 1} (P{depth}), or from -{depth} to -1",
            fix="a single map is out_indices=(4,)" if type(indices) is int else "",
        )
    counted = tuple(index % depth for index in indices)
    return (depth if fixed else 1 + max(counted)), counted
