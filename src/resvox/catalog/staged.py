"""nnU-Net's networks: how their options become a recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from resvox.blueprint import NormChoice, activation_of, output_activation_of, per_axis
from resvox.blueprint.leaves import Axes, is_number, is_whole, require
from resvox.blueprint.staged.networks import StagedUNet
from resvox.blueprint.staged.topology import topology
from resvox.blueprint.staged.unet import MAX_STAGES, StagedRecipe, resolve_staged
from resvox.catalog.arguments import Interface
from resvox.catalog.encoders import listed
from resvox.errors import BlueprintError

PLAIN_OPTIONS = (
    "output_activation",
    "preset",
    "patch_size",
    "spacing_mm",
    "features",
    "kernels",
    "strides",
    "depths",
    "decoder_depths",
    "conv_bias",
    "norm",
    "activation",
    "deep_supervision",
)
STAGED_OPTIONS = (*PLAIN_OPTIONS, "block", "bottleneck_channels", "stem_channels")
BASE_FEATURES = 32
MAX_FEATURES = {2: 512, 3: 320}
# The patches that nnU-Net plans for large isotropic images with 8, 24 and 40 GB of GPU memory: they decide the stages.
PRESETS: dict[str, dict[int, Axes]] = {
    "M": {2: (512, 512), 3: (128, 128, 128)},
    "L": {2: (896, 768), 3: (192, 192, 192)},
    "XL": {2: (1024, 1024), 3: (256, 224, 224)},
}
_RESIDUAL_DEPTHS = (1, 3, 4, *(6,) * (MAX_STAGES - 3))
_NUMBERS = ("features", "depths", "decoder_depths", "bottleneck_channels")
_PASSED = ("block", "stem_channels", "conv_bias", "deep_supervision")


@dataclass(frozen=True, kw_only=True)
class _Kind:
    residual_encoder: bool
    residual_decoder: bool
    depths: tuple[int, ...]
    decoder_depth: int


_RESENC = _Kind(residual_encoder=True, residual_decoder=False, depths=_RESIDUAL_DEPTHS, decoder_depth=1)
_PLAIN = _Kind(residual_encoder=False, residual_decoder=False, depths=(2,) * MAX_STAGES, decoder_depth=2)
_RESIDUAL = _Kind(residual_encoder=True, residual_decoder=True, depths=_RESIDUAL_DEPTHS, decoder_depth=1)


def _network(kind: _Kind) -> Callable[[Interface, Mapping[str, Any]], StagedUNet]:
    def resolve(interface: Interface, options: Mapping[str, Any]) -> StagedUNet:
        given = {name: value for name, value in options.items() if value is not None}
        dims = interface.spatial_dims
        strides, kernels = _stages(given, dims)
        count = len(strides)
        numbers: dict[str, Any] = {
            "features": tuple(min(BASE_FEATURES * 2**stage, MAX_FEATURES[dims]) for stage in range(count)),
            "depths": kind.depths[:count],
            "decoder_depths": (kind.decoder_depth,) * (count - 1),
            **{name: given[name] for name in _NUMBERS if name in given},
        }
        passed: dict[str, Any] = {name: _whole_numbers(name, value) for name, value in numbers.items()}
        passed.update((name, options[name]) for name in _PASSED if name in options)
        recipe = StagedRecipe(
            spatial_dims=dims,
            in_channels=interface.in_channels,
            num_classes=interface.num_classes,
            residual_encoder=kind.residual_encoder,
            residual_decoder=kind.residual_decoder,
            kernels=kernels,
            strides=strides,
            norm=NormChoice.of(options.get("norm", "instance")),
            activation=activation_of(options.get("activation", "leaky_relu")),
            output_activation=output_activation_of(given.get("output_activation")),
            **passed,
        )
        return resolve_staged(recipe)

    return resolve


resenc_unet, plain_unet, residual_unet = _network(_RESENC), _network(_PLAIN), _network(_RESIDUAL)


def _stages(given: Mapping[str, Any], dims: int) -> tuple[tuple[Axes, ...], tuple[Axes, ...]]:
    """Strides and kernels: as given, by the number of other entries, or by the rule for a patch and its spacing."""
    counted = {name: len(given[name]) for name in ("strides", "kernels", "features", "depths") if _is_list(given, name)}
    planned = [name for name in ("preset", "patch_size", "spacing_mm") if name in given]
    own = [name for name in ("strides", "kernels") if name in given]
    if planned and own:
        raise BlueprintError(f"{planned[0]}= and {own[0]}=", expected="one of the two: a patch decides the stages")
    for name in own:
        _per_stage(name, given[name], dims)
    if planned or not counted:
        return _topology(given, dims)
    name, count = next(iter(counted.items()))
    # of everything that has an entry per stage, the first decides how many there are; the recipe compares the others
    require(2 <= count <= MAX_STAGES, f"{name}={given[name]!r}", f"2 to {MAX_STAGES} entries, one per stage")
    strides = _per_stage("strides", given.get("strides", (1, *(2,) * (count - 1))), dims)
    return strides, _per_stage("kernels", given.get("kernels", (3,) * count), dims)


def _is_list(given: Mapping[str, Any], name: str) -> bool:
    return isinstance(given.get(name), tuple | list)


def _patch(given: Mapping[str, Any], dims: int) -> tuple[Axes, tuple[float, ...]]:
    preset = given.get("preset", "M")
    require(isinstance(preset, str) and preset in PRESETS, f"preset={preset!r}", "one of " + ", ".join(PRESETS))
    if "preset" in given and "patch_size" in given:
        raise BlueprintError("preset= and patch_size=", expected="one of the two: a preset stands for a patch")
    patch = per_axis("patch_size", given.get("patch_size", PRESETS[preset][dims]), dims)
    require(max(patch) <= 2**14, f"patch_size={patch!r}", "at most 16384 voxels along an axis")
    spacing = listed(given.get("spacing_mm", (1.0,) * dims))
    good = isinstance(spacing, tuple) and len(spacing) == dims and all(is_number(each) and each > 0 for each in spacing)
    require(good, f"spacing_mm={spacing!r}", f"{dims} numbers above 0, one per axis")
    return patch, tuple(float(each) for each in spacing)


def _topology(given: Mapping[str, Any], dims: int) -> tuple[tuple[Axes, ...], tuple[Axes, ...]]:
    patch, spacing = _patch(given, dims)
    strides, kernels = topology(patch, spacing)
    require(len(strides) > 1, f"patch_size={patch!r}", "a size that can be halved once: 12 voxels along an axis")
    return strides, kernels


def _per_stage(name: str, value: Any, dims: int) -> tuple[Axes, ...]:
    if not isinstance(value, tuple | list) or not value:
        raise BlueprintError(f"{name}={value!r}", expected="one entry per stage, each a number or one per axis")
    return tuple(per_axis(name, each, dims) for each in value)


def _whole_numbers(name: str, value: Any) -> tuple[int, ...]:
    value = listed(value)
    good = isinstance(value, tuple) and all(is_whole(each, 1) for each in value)
    require(good, f"{name}={value!r}", "whole numbers of at least 1")
    return tuple(value)
