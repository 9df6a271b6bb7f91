"""The ``inferer`` of a bundle as the windows of a model card."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from resvox.cards import Windows
from resvox.cards.base import BLENDS, PADDINGS
from resvox.prediction.bundle.targets import Target, target_of
from resvox.weights.bundle.configuration import Configuration

OF_SPEED = {"sw_batch_size", "sw_device", "device", "progress", "cache_roi_weight_map", "cpu_thresh", "buffer_steps",
            "buffer_dim"}  # fmt: skip
READ = {"roi_size", "overlap", "mode", "sigma_scale", "padding_mode", "cval"}
OVERLAP = 0.25  # MONAI's own values where a bundle leaves them out
BLEND = "constant"


@dataclass(frozen=True, kw_only=True)
class Inferer:
    """How a bundle's network sees a scan: windows, and the axis along which it is cut into slices, if it is."""

    windows: Windows
    slice_axis: int | None = None


def inferer_of(configuration: Configuration, spatial_dims: int) -> Inferer:
    """What a bundle states.

    Raises:
        WeightsError: another inferer than those of windows, or an argument that is not known here.
    """
    target = target_of(configuration, configuration.values.get("inferer"), "inferer")
    if target.name not in INFERERS:
        target.refuse(
            f"the inferer {target.name}",
            f"one of {', '.join(INFERERS)}",
            "write a SlidingWindowInferer with the roi_size that the network was trained with",
        )
    return INFERERS[target.name](target, spatial_dims)


def _sliding(target: Target, spatial_dims: int) -> Inferer:
    target.check_known(READ | OF_SPEED | {"with_coord"})
    target.check_fixed({"with_coord": (False,)})
    return Inferer(windows=_windows(target, spatial_dims))


def _slices(target: Target, spatial_dims: int) -> Inferer:
    target.check_known(READ | OF_SPEED | {"with_coord", "spatial_dim"})
    target.check_fixed({"with_coord": (False,)})
    axis = target.read("spatial_dim", 0)
    if axis not in (0, 1, 2) or spatial_dims != 2:
        target.refuse(f"spatial_dim={axis!r} with a {spatial_dims}-D network", "0, 1 or 2 with a 2-D network")
    return Inferer(windows=_windows(target, 2), slice_axis=axis)


def _windows(target: Target, spatial_dims: int) -> Windows:
    return Windows(
        roi_size=_roi_size(target, spatial_dims),
        overlap=_number(target, "overlap", OVERLAP, lambda value: 0 <= value < 1),
        blend=_word(target, "mode", BLEND, BLENDS),
        sigma_scale=_number(target, "sigma_scale", 0.125, lambda value: value > 0),
        padding=_word(target, "padding_mode", "constant", PADDINGS),
        padding_value=_number(target, "cval", 0.0, lambda value: True),
    )


def _roi_size(target: Target, spatial_dims: int) -> tuple[int, ...]:
    given = target.read("roi_size")
    sizes = given if isinstance(given, list) else [given] * spatial_dims
    if len(sizes) != spatial_dims or not all(type(size) is int and size > 0 for size in sizes):
        target.refuse(f"roi_size={given!r}", f"{spatial_dims} numbers of voxels above 0")
    return tuple(sizes)


def _number(target: Target, name: str, default: float, fits: Callable[[float], bool]) -> float:
    value = target.read(name, default)
    if isinstance(value, list) and value and value == [value[0]] * len(value):
        value = value[0]  # the same along every axis
    if isinstance(value, bool) or not isinstance(value, int | float) or not fits(value):
        target.refuse(f"{name}={value!r}", "a number that suits, the same along every axis")
    return float(value)


def _word(target: Target, name: str, default: str, choices: tuple[str, ...]) -> str:
    value: Any = target.read(name, default)
    if value not in choices:
        target.refuse(f"{name}={value!r}", " or ".join(map(repr, choices)))
    return str(value)


INFERERS: dict[str, Callable[[Target, int], Inferer]] = {
    "SlidingWindowInferer": _sliding,
    "SlidingWindowInfererAdapt": _sliding,
    "SliceInferer": _slices,
}
