"""The network of a set of tensors, as far as names and shapes determine it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from resvox.blueprint import Blueprint
from resvox.blueprint.resnet_blocks import squeezed_channels
from resvox.catalog import VARIANTS, get_blueprint
from resvox.catalog.resnets import Variant
from resvox.weights.architecture_monai import describe_monai, is_monai
from resvox.weights.staged_architecture import NotStagedError, describe_staged, is_staged

Shapes = Mapping[str, tuple[int, ...]]
SE_RATIOS = (16, *(ratio for ratio in range(1, 65) if ratio != 16))


class UnclearError(Exception):
    """Tensors that no known residual network has; the text names the one that is missing or unexpected."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The arguments of :func:`resvox.get_blueprint` that names and shapes settle.

    Attributes:
        has_statistics: whether its norms keep running statistics (batch norm); else their kind is unknown.
        is_preactivation, deep_stem, is_gated: what importers ask of it.
    """

    name: str
    spatial_dims: int
    in_channels: int
    options: dict[str, Any] = field(default_factory=dict)
    has_statistics: bool = True
    is_preactivation: bool = False
    deep_stem: bool = False
    is_gated: bool = False

    def blueprint(self, peer_defaults: Mapping[str, Any]) -> Blueprint:
        """The network, with what its peer is known to do.

        Raises:
            BlueprintError: options that are not valid together.
        """
        options = {**self.arguments, **peer_defaults}
        return get_blueprint(self.name, **options)

    @property
    def arguments(self) -> dict[str, Any]:
        """Everything that names and shapes settle."""
        return {"spatial_dims": self.spatial_dims, "in_channels": self.in_channels, **self.options}


def describe(shapes: Shapes) -> Architecture:
    """The architecture of tensors under our names.

    Raises:
        UnclearError: no known network has such tensors.
    """
    if is_staged(shapes):
        return _staged(shapes)
    if is_monai(shapes):
        return _monai(shapes)
    if any(name.startswith("decoder.") for name in shapes):
        return _segmenter(shapes)
    return _resnet(shapes)


def _staged(shapes: Shapes) -> Architecture:
    try:
        name, options = describe_staged(shapes)
    except NotStagedError as error:
        raise UnclearError(str(error)) from error
    return Architecture(
        name=name,
        spatial_dims=options.pop("spatial_dims"),
        in_channels=options.pop("in_channels"),
        options=options,
        has_statistics=any(name.endswith("running_mean") for name in shapes),
    )


def _monai(shapes: Shapes) -> Architecture:
    try:
        name, first, options = describe_monai(shapes)
    except KeyError as error:
        raise UnclearError(f"no {error.args[0]}") from None
    if len(first) not in (4, 5):
        raise UnclearError(f"a first convolution of shape {first}, which is no kernel over 2 or 3 axes")
    statistics = any(name.endswith("running_mean") for name in shapes)
    return Architecture(
        name=name, spatial_dims=len(first) - 2, in_channels=first[1], options=options, has_statistics=statistics
    )


def _segmenter(shapes: Shapes) -> Architecture:
    encoder = _resnet({n.removeprefix("encoder."): s for n, s in shapes.items() if n.startswith("encoder.")})
    inside = {n.removeprefix("decoder.blocks."): s for n, s in shapes.items() if n.startswith("decoder.blocks.")}
    depth = _count(inside, r"(\d+)\.")
    kernels = [_need(inside, f"{block}.conv1.weight") for block in range(depth)]
    head = _need(shapes, "head.weight")
    options: dict[str, Any] = {
        **encoder.options,
        "encoder_name": encoder.name,
        "encoder_depth": depth,
        "num_classes": head[0],
        "head_kernel": head[2],
        "decoder_filters": tuple(kernel[0] for kernel in kernels),
        "decoder_normalization": _norm(inside, "0.bn1"),
    }
    options.pop("features_only", None)
    if "0.up.0.weight" in inside:
        widest = max(max(inside[f"{block}.up.0.weight"][2:]) for block in range(depth))
        options.update(decoder_block_type="transpose", decoder_transpose_kernel=4 if widest == 4 else 2)
    return Architecture(
        name="unet",
        spatial_dims=encoder.spatial_dims,
        in_channels=encoder.in_channels,
        options=options,
        has_statistics=encoder.has_statistics,
        is_preactivation=encoder.is_preactivation,
        deep_stem=encoder.deep_stem,
        is_gated=encoder.is_gated,
    )


def _norm(shapes: Shapes, path: str) -> Any:
    if f"{path}.running_mean" in shapes:
        return "batch"
    return "instance" if f"{path}.weight" in shapes else None


@dataclass(frozen=True, kw_only=True)
class _Names:
    """Where a residual network of one kind keeps what is looked for."""

    stem: tuple[str, ...]  # the first convolution: of a plain stem, of a deep one
    stage: str  # a stage's blocks
    first: int  # the number of the first stage
    fc: str


_V1 = _Names(stem=("conv1.weight", "conv1.0.weight"), stage="layer{}", first=1, fc="fc.weight")
_V2 = _Names(stem=("stem.conv.weight", "stem.conv1.weight"), stage="stages.{}.blocks", first=0, fc="head.fc.weight")


def _resnet(shapes: Shapes) -> Architecture:
    preactivation = any(name.startswith(("stem.", "stages.")) for name in shapes)
    names = _V2 if preactivation else _V1
    deep = names.stem[1] in shapes
    stem = _need(shapes, names.stem[1 if deep else 0])
    if len(stem) not in (4, 5):
        raise UnclearError(f"{names.stem[int(deep)]} of shape {stem}, which is no kernel over 2 or 3 axes")
    stages = [_stage(shapes, names.stage.format(names.first + i)) for i in range(4)]
    levels = sum(1 for stage in stages if stage)
    if levels < 4 and any(stages[levels:]):
        raise UnclearError("a residual stage missing between two others")
    block = "bottleneck" if any(name.endswith("conv3.weight") for name in stages[0]) else "basic"
    expansion = 4 if block == "bottleneck" else 1
    last = "conv3.weight" if block == "bottleneck" else "conv2.weight"
    widths = [_need(stage, f"0.{last}")[0] // expansion for stage in stages[:levels]]
    widths += widths[-1:] * (4 - levels)
    depths = [_count(stage, r"(\d+)\.") for stage in stages[:levels]] + [1] * (4 - levels)
    average = any(
        re.fullmatch(r"\d+\.downsample\.(2\.weight|1\.weight)", name) and (name[-8] == "2" or len(shape) > 1)
        for stage in stages
        for name, shape in stage.items()
    )
    found: dict[str, Any] = {"depths": tuple(depths), "widths": tuple(widths)}
    found.update(_grouping(stages[0], block, widths[0]))
    ratio = _squeeze(stages[:levels], [width * expansion for width in widths])
    found.update(ratio)
    row = _row(block, found, preactivation=preactivation, average=average)
    options = {name: value for name, value in found.items() if name not in ratio or not _says(row, name, value)}
    options.update(_stem(shapes, row, deep=deep, names=names, kernel=stem[2:]))
    options.update(_shortcuts_and_biases(shapes, stages, names, preactivation=preactivation))
    top = shapes.get(names.fc)
    options.update({"num_classes": top[0]} if top else {"features_only": True})
    if levels < 4 and not top:
        options["encoder_depth"] = 1 + levels
    return Architecture(
        name=row.name,
        spatial_dims=len(stem) - 2,
        in_channels=stem[1],
        options={name: value for name, value in options.items() if not _says(row, name, value)},
        has_statistics=any(name.endswith("running_mean") for name in shapes),
        is_preactivation=preactivation,
        deep_stem=deep,
        is_gated=ratio["se_ratio"] is not None,
    )


_DEFAULTS = {"widths": (64, 128, 256, 512), "stem_width": 64, "groups": 1, "width_per_group": 64}


def _says(row: Variant, name: str, value: Any) -> bool:
    """Whether the row, or every network, has that value anyway."""
    return bool(getattr(row, name, _DEFAULTS.get(name)) == value)


def _need(shapes: Shapes, name: str) -> tuple[int, ...]:
    if name not in shapes or len(shapes[name]) < 2:
        raise UnclearError(f"no {name}")
    return shapes[name]


def _count(shapes: Shapes, pattern: str) -> int:
    numbers = [int(found[1]) for found in (re.match(pattern, name) for name in shapes) if found]
    if not numbers or max(numbers) >= 1000:
        raise UnclearError("no blocks")
    return max(numbers) + 1


def _stage(shapes: Shapes, path: str) -> dict[str, tuple[int, ...]]:
    return {n.removeprefix(path + "."): shape for n, shape in shapes.items() if n.startswith(path + ".")}


def _grouping(stage: Shapes, block: str, width: int) -> dict[str, int]:
    if block == "basic":
        return {"groups": 1, "width_per_group": 64}
    inner, per_group = _need(stage, "0.conv2.weight")[:2]
    if not width or not per_group or inner % per_group:
        raise UnclearError(f"conv2 of shape {stage['0.conv2.weight']}")
    groups = inner // per_group
    # the inverse of the rule width * width_per_group / 64 * groups
    return {"groups": groups, "width_per_group": 64 * inner // groups // width}


def _squeeze(stages: list[dict[str, tuple[int, ...]]], channels: list[int]) -> dict[str, Any]:
    inner = [stage["0.se.fc1.weight"][0] for stage in stages if "0.se.fc1.weight" in stage]
    if not inner:
        return {"se_ratio": None}
    for rounding in ("multiple_of_8", "floor"):
        for ratio in SE_RATIOS:
            if inner == [squeezed_channels(rounding, each, ratio) for each in channels[: len(inner)]]:
                return (
                    {"se_ratio": ratio} if rounding == "multiple_of_8" else {"se_ratio": ratio, "se_rounding": rounding}
                )
    raise UnclearError(f"gates of {inner} channels")


def _row(block: str, found: dict[str, Any], *, preactivation: bool, average: bool) -> Variant:
    """The catalog's row with most in common; the differences become options."""
    same = [
        row for row in VARIANTS if (row.block, row.preactivation, row.average_down) == (block, preactivation, average)
    ]
    wanted = ("depths", "groups", "width_per_group", "se_ratio")
    return max(same, key=lambda row: sum(getattr(row, name) == found[name] for name in wanted))


def _stem(shapes: Shapes, row: Variant, *, deep: bool, names: _Names, kernel: tuple[int, ...]) -> dict[str, Any]:
    if deep:
        last = _need(shapes, names.stem[1].replace("0.weight", "6.weight").replace("conv1.weight", "conv3.weight"))
        width, plain = last[0], (3,) * len(kernel)
    else:
        width, plain = _need(shapes, names.stem[0])[0], (7,) * len(kernel)
    options: dict[str, Any] = {"stem_width": width}
    if deep != (row.stem == "deep"):
        options["stem"] = "deep" if deep else "7x7"
    if kernel != plain:
        options["stem_kernel"] = kernel
    return options


def _shortcuts_and_biases(
    shapes: Shapes, stages: list[dict[str, tuple[int, ...]]], names: _Names, *, preactivation: bool
) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if not any("downsample." in name for stage in stages for name in stage):
        options["shortcut"] = "zero_pad"
    biased = []
    if names.stem[0].replace("weight", "bias") in shapes or names.stem[1].replace("weight", "bias") in shapes:
        biased.append("stem")
    inside = {name.split(".", 1)[1] for stage in stages for name in stage}
    biased += [f"conv{n}" for n in (1, 2, 3) if f"conv{n}.bias" in inside]
    kernels = {
        name.split(".", 1)[1].removesuffix("weight")
        for stage in stages
        for name, shape in stage.items()
        if ".downsample." in name and name.endswith("weight") and len(shape) > 1
    }
    if any(f"{path}bias" in inside for path in kernels):
        biased.append("downsample")
    if biased:
        options["conv_bias"] = tuple(biased)
    if not any(name.endswith("running_mean") for name in shapes):
        options["norm"] = "instance"
    return options
