"""The transforms of MONAI that a preparation may consist of: one frozen class each, in a table by name.

Intensities are computed in float32 in MONAI's order of operations; means and deviations in float64.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from resvox.errors import PlanError
from resvox.preprocessing.monai.cropping import foreground_steps
from resvox.preprocessing.monai.spacing import Spaced
from resvox.preprocessing.reorient import Reorient, check_orientation
from resvox.preprocessing.steps import Array, Step
from resvox.volumes import Grid

INTERPOLATIONS = ("bilinear", "nearest")


class MonaiTransform:
    """One transform: geometric steps for a case, or new intensities."""

    name: ClassVar[str]

    def steps(self, array: Array, grid: Grid) -> Sequence[Step]:
        """The geometric steps for one case, (channels, *spatial) on its grid; none by default."""
        return ()

    def intensities(self, array: Array) -> Array:
        """New intensities of (channels, *spatial) float32; by default the array itself."""
        return array

    def to_dict(self) -> dict[str, Any]:
        """The transform as plain values."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}  # type: ignore[arg-type]
        return {"transform": self.name, **{name: _plain(value) for name, value in values.items()}}


@dataclass(frozen=True, kw_only=True)
class Orientation(MonaiTransform):
    """Axes turned to given directions, such as ``"RAS"``: the first axis points to the right, and so on."""

    name: ClassVar[str] = "Orientation"

    axcodes: str

    def __post_init__(self) -> None:
        check_orientation(self.axcodes)

    def steps(self, array: Array, grid: Grid) -> Sequence[Step]:
        """Permuted and flipped axes."""
        return (Reorient(source=grid, codes=self.axcodes),)


@dataclass(frozen=True, kw_only=True)
class Spacing(MonaiTransform):
    """Another spacing; the last of ``pixdim`` stands for axes that it does not name, 0 or less keeps the image's."""

    name: ClassVar[str] = "Spacing"

    pixdim: tuple[float, ...]
    mode: str = "bilinear"

    def __post_init__(self) -> None:
        object.__setattr__(self, "pixdim", _numbers("pixdim", self.pixdim))
        if not self.pixdim:
            raise PlanError("pixdim=[]", expected="millimetres along each axis")
        if self.mode not in INTERPOLATIONS:
            raise PlanError(f"mode={self.mode!r} of Spacing", expected=" or ".join(map(repr, INTERPOLATIONS)))

    def steps(self, array: Array, grid: Grid) -> Sequence[Step]:
        """Resample to the new spacing."""
        wanted = (*self.pixdim, *(self.pixdim[-1],) * grid.spatial_dims)[: grid.spatial_dims]
        spacing = tuple(mm if mm > 0 else old for mm, old in zip(wanted, grid.spacing_mm, strict=True))
        return (Spaced(source=grid, spacing_mm=spacing, nearest=self.mode == "nearest"),)


@dataclass(frozen=True, kw_only=True)
class CropForeground(MonaiTransform):
    """The box of the voxels above 0."""

    name: ClassVar[str] = "CropForeground"

    channel_indices: tuple[int, ...] | None = None
    margin: tuple[int, ...] = (0,)
    k_divisible: tuple[int, ...] = (1,)
    allow_smaller: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "margin", _whole("margin", self.margin, least=0))
        object.__setattr__(self, "k_divisible", _whole("k_divisible", self.k_divisible, least=1))
        if self.channel_indices is not None:
            object.__setattr__(self, "channel_indices", _whole("channel_indices", self.channel_indices, least=0))
        _check_flag("allow_smaller", self.allow_smaller)

    def steps(self, array: Array, grid: Grid) -> Sequence[Step]:
        """A crop, and a border of 0 where the box reaches beyond the image."""
        highest = max(self.channel_indices or (0,))
        if highest >= len(array):
            raise PlanError(f"channel {highest} of CropForeground", expected=f"one of the image's {len(array)}")
        return foreground_steps(
            array,
            grid,
            channels=self.channel_indices,
            margin=_per_axis("margin", self.margin, grid.spatial_dims),
            divisor=_per_axis("k_divisible", self.k_divisible, grid.spatial_dims),
            allow_smaller=self.allow_smaller,
        )


@dataclass(frozen=True, kw_only=True)
class ScaleIntensityRange(MonaiTransform):
    """From ``a_min``..``a_max`` to ``b_min``..``b_max``, linearly, and clipped where that is asked for."""

    name: ClassVar[str] = "ScaleIntensityRange"

    a_min: float
    a_max: float
    b_min: float | None = None
    b_max: float | None = None
    clip: bool = False

    def __post_init__(self) -> None:
        for name in ("a_min", "a_max", "b_min", "b_max"):
            _check_number(name, getattr(self, name), optional=name.startswith("b"))
        _check_flag("clip", self.clip)

    def intensities(self, array: Array) -> Array:
        """(array - a_min) / (a_max - a_min) * (b_max - b_min) + b_min."""
        scaled = array - np.float32(self.a_min)
        if self.a_max == self.a_min:
            return scaled if self.b_min is None else scaled + np.float32(self.b_min)
        scaled /= np.float32(self.a_max - self.a_min)
        if self.b_min is not None and self.b_max is not None:
            scaled *= np.float32(self.b_max - self.b_min)
            scaled += np.float32(self.b_min)
        if self.clip and (self.b_min is not None or self.b_max is not None):
            np.clip(scaled, _bound(self.b_min), _bound(self.b_max), out=scaled)
        return scaled


@dataclass(frozen=True, kw_only=True)
class ScaleIntensity(MonaiTransform):
    """From the lowest and highest value of the image or a channel to ``minv``..``maxv``; or times 1 + factor."""

    name: ClassVar[str] = "ScaleIntensity"

    minv: float | None = 0.0
    maxv: float | None = 1.0
    factor: float | None = None
    channel_wise: bool = False

    def __post_init__(self) -> None:
        for name in ("minv", "maxv", "factor"):
            _check_number(name, getattr(self, name), optional=True)
        _check_flag("channel_wise", self.channel_wise)

    def intensities(self, array: Array) -> Array:
        """Scale each channel, or all of them together."""
        if self.minv is None and self.maxv is None:
            return array if self.factor is None else array * np.float32(1 + self.factor)
        if not self.channel_wise:
            return self._scaled(array)
        return np.stack([self._scaled(channel) for channel in array])

    def _scaled(self, array: Array) -> Array:
        low, high = array.min(), array.max()
        if low == high:
            return array if self.minv is None else np.multiply(array, np.float32(self.minv))
        scaled: Array = (array - low) / (high - low)
        if self.minv is None or self.maxv is None:
            return scaled
        scaled *= np.float32(self.maxv - self.minv)
        scaled += np.float32(self.minv)
        return scaled


@dataclass(frozen=True, kw_only=True)
class NormalizeIntensity(MonaiTransform):
    """Minus the mean, divided by the standard deviation: of the image or of each channel, or as they are given.

    Args:
        subtrahend: one number for the image, or one per channel with ``channel_wise``; None for the mean.
        divisor: the same; None for the standard deviation. 0 counts as 1.
        nonzero: only the voxels that are not 0 are counted and changed.
        channel_wise: each channel by itself.
    """

    name: ClassVar[str] = "NormalizeIntensity"

    subtrahend: tuple[float, ...] | None = None
    divisor: tuple[float, ...] | None = None
    nonzero: bool = False
    channel_wise: bool = False

    def __post_init__(self) -> None:
        for name in ("nonzero", "channel_wise"):
            _check_flag(name, getattr(self, name))
        for name in ("subtrahend", "divisor"):
            if getattr(self, name) is not None:
                numbers = _numbers(name, getattr(self, name))
                object.__setattr__(self, name, numbers)
                if not self.channel_wise and len(numbers) != 1:
                    raise PlanError(f"{name}={list(numbers)}", expected="one number, or channel_wise=true")

    def intensities(self, array: Array) -> Array:
        """Normalize each channel, or all of them together."""
        if not self.channel_wise:
            return self._normalized(array, 0)
        for name in ("subtrahend", "divisor"):
            numbers = getattr(self, name)
            if numbers is not None and len(numbers) != len(array):
                raise PlanError(f"{name}={list(numbers)} for {len(array)} channels", expected="one number per channel")
        return np.stack([self._normalized(channel, place) for place, channel in enumerate(array)])

    def _normalized(self, array: Array, place: int) -> Array:
        counted = array[array != 0] if self.nonzero else array
        if not counted.size:
            return array
        mean = counted.mean(dtype=np.float64) if self.subtrahend is None else self.subtrahend[place]
        std = counted.std(dtype=np.float64) if self.divisor is None else self.divisor[place]
        divisor = np.float32(std) if np.float32(std) != 0 else np.float32(1)
        scored = array - np.float32(mean)
        scored /= divisor
        return np.where(array != 0, scored, array) if self.nonzero else scored


TRANSFORMS: dict[str, type[MonaiTransform]] = {
    each.name: each
    for each in (Orientation, Spacing, CropForeground, ScaleIntensityRange, ScaleIntensity, NormalizeIntensity)
}


def transform_from_dict(values: Mapping[str, Any]) -> MonaiTransform:
    """The transform that ``to_dict`` wrote.

    Raises:
        PlanError: an unknown name or argument, one that is missing, or a value that is not valid.
    """
    rest = dict(values)
    name = rest.pop("transform", None)
    if not isinstance(name, str) or name not in TRANSFORMS:
        raise PlanError(f"the transform {name!r}", expected=f"one of {', '.join(TRANSFORMS)}")
    cls = TRANSFORMS[name]
    known = [item.name for item in fields(cls)]  # type: ignore[arg-type]
    unknown = sorted(set(map(str, rest)) - set(known))
    if unknown:
        raise PlanError(f"{unknown[0]} of {name}", expected=f"of {', '.join(known)}")
    try:
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in rest.items()})
    except TypeError as error:
        raise PlanError(f"{name} with {', '.join(rest) or 'no arguments'} ({error})", expected="all it needs") from None


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _bound(value: float | None) -> np.float32 | None:
    return None if value is None else np.float32(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check_number(name: str, value: Any, *, optional: bool) -> None:
    if not (_is_number(value) or (optional and value is None)):
        raise PlanError(f"{name}={value!r}", expected="a finite number" + (" or null" if optional else ""))


def _check_flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise PlanError(f"{name}={value!r}", expected="true or false")


def _numbers(name: str, values: Any) -> tuple[float, ...]:
    found = tuple(values) if isinstance(values, (list, tuple)) else (values,)
    if not all(map(_is_number, found)):
        raise PlanError(f"{name}={values!r}", expected="finite numbers")
    return tuple(float(value) for value in found)


def _whole(name: str, values: Any, *, least: int) -> tuple[int, ...]:
    found = tuple(values) if isinstance(values, (list, tuple)) else (values,)
    if not found or not all(type(value) is int and value >= least for value in found):
        raise PlanError(f"{name}={values!r}", expected=f"whole numbers from {least}")
    return found


def _per_axis(name: str, values: tuple[int, ...], dims: int) -> tuple[int, ...]:
    if len(values) not in (1, dims):
        raise PlanError(f"{name}={list(values)}", expected=f"one number, or {dims}")
    return values * dims if len(values) == 1 else values
