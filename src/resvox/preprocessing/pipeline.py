"""The whole preprocessing of a case: its options, and their application to a volume."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from resvox.errors import PlanError, VolumeError
from resvox.preprocessing.crop import Crop, nonzero_box, nonzero_mask
from resvox.preprocessing.normalize import Normalization, Window, ZScore, normalization_from_dict
from resvox.preprocessing.pad import Pad
from resvox.preprocessing.prepared import Prepared
from resvox.preprocessing.reorient import Reorient, check_orientation
from resvox.preprocessing.respace import Respace
from resvox.preprocessing.steps import Array, Step
from resvox.volumes import Volume

CROPS = ("none", "nonzero", "nonzero_mask")


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """From a scan to the input of a network: reorient, crop, normalize, respace, pad, in this order.

    Normalization comes before interpolation, so that values far outside a window (-3024 beside a CT's
    field of view) are clipped before they are mixed with tissue.

    Args:
        orientation: directions of the array axes, e.g. ``"SPL"``; None keeps those of the file (2-D images).
        spacing_mm: distance between voxel centres along each (reoriented) array axis; None keeps that of the file.
        crop: ``"none"``; ``"nonzero"`` to cut away the border that is 0 in every channel; ``"nonzero_mask"`` to do so
            and to restore background wherever every channel is 0, except in holes that are enclosed by other values.
        normalization: one rule per channel, as many as the network has input channels. Empty: no normalization,
            any number of channels.
        minimum_size: pad with background up to this many voxels along each axis; None does not pad.

    Raises:
        PlanError: a value that is not valid.
    """

    orientation: str | None = None
    spacing_mm: tuple[float, ...] | None = None
    crop: str = "none"
    normalization: tuple[Normalization, ...] = field(default=())
    minimum_size: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.orientation is not None:
            check_orientation(self.orientation)
        if self.crop not in CROPS:
            raise PlanError(f"crop={self.crop!r}", expected=f"one of {', '.join(CROPS)}")
        rules = tuple(self.normalization)
        if not all(isinstance(rule, (Window, ZScore)) for rule in rules):
            raise PlanError(f"normalization={rules!r}", expected="a tuple of Window(...) or ZScore(...)")
        object.__setattr__(self, "normalization", rules)
        for name, kind in (("spacing_mm", float), ("minimum_size", int)):
            object.__setattr__(self, name, _positive(name, getattr(self, name), kind))
        self._check_dims()

    def _check_dims(self) -> None:
        given = {
            name: len(value)
            for name in ("orientation", "spacing_mm", "minimum_size")
            if (value := getattr(self, name)) is not None
        }
        if len(set(given.values())) > 1 or not set(given.values()) <= {2, 3}:
            text = ", ".join(f"{name}={getattr(self, name)!r}" for name in given)
            raise PlanError(text, expected="2 values each for images, or 3 each for volumes")

    def apply(self, volume: Volume) -> Prepared:
        """Prepare one case.

        Args:
            volume: (*spatial) or (channels, *spatial); it is not changed.

        Raises:
            VolumeError: a wrong number of channels or dimensions, or voxels that are NaN or infinite.
        """
        self._check(volume)
        array, grid = volume.with_channel_axis(), volume.grid
        steps: list[Step] = []

        def take(step: Step) -> None:
            nonlocal array, grid
            array, grid = step.forward(array, "image"), step.target
            steps.append(step)

        if self.orientation is not None:
            take(Reorient(source=grid, codes=self.orientation))
        if self.crop != "none":
            start, stop = nonzero_box(array)
            mask = nonzero_mask(array) if self.crop == "nonzero_mask" else None
            take(Crop(source=grid, start=start, stop=stop, mask=mask))
        array = self.normalize(array)
        if self.spacing_mm is not None:
            take(Respace(source=grid, spacing_mm=self.spacing_mm))
        if self.minimum_size is not None:
            take(Pad(source=grid, minimum_size=self.minimum_size))
        array = np.ascontiguousarray(array, np.float32)
        return Prepared(array=array, grid=grid, source=volume.grid, steps=tuple(steps))

    def normalize(self, array: Array) -> Array:
        """Each channel of (channels, *spatial) by its rule, float32."""
        if not self.normalization:
            return array.astype(np.float32)
        channels = zip(self.normalization, array, strict=True)
        if len(array) == 1:  # a single channel needs no stacking, hence no copy
            return next(rule(channel) for rule, channel in channels)[np.newaxis]
        out = np.empty(array.shape, np.float32)
        for place, (rule, channel) in zip(out, channels, strict=True):
            place[...] = rule(channel)
        return out

    def _check(self, volume: Volume) -> None:
        wanted = len(self.normalization) or volume.channels
        if volume.channels != wanted:
            raise VolumeError(
                f"{volume.channels} channel{'s' if volume.channels > 1 else ''}",
                expected=f"{wanted}, as many as the network was made for",
                fix="give the images of all channels, in its order",
            )
        dims = {len(value) for value in (self.orientation, self.spacing_mm, self.minimum_size) if value}
        if dims and volume.spatial_dims not in dims:
            raise VolumeError(
                f"a {volume.spatial_dims}-D image of {'x'.join(map(str, volume.grid.shape))} voxels",
                expected=f"{dims.pop()} dimensions",
            )
        floating = volume.array.dtype.kind == "f"  # whole numbers are always finite
        bad = volume.array.size - int(np.count_nonzero(np.isfinite(volume.array))) if floating else 0
        if bad:
            raise VolumeError(f"{bad} of {volume.array.size} voxels are NaN or infinite", expected="finite numbers")

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings, for JSON and YAML."""
        return {
            "orientation": self.orientation,
            "spacing_mm": None if self.spacing_mm is None else list(self.spacing_mm),
            "crop": self.crop,
            "normalization": [rule.to_dict() for rule in self.normalization],
            "minimum_size": None if self.minimum_size is None else list(self.minimum_size),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """The preprocessing that `to_dict` wrote; missing entries have their defaults.

        Raises:
            PlanError: an unknown name, or a value that is not valid.
        """
        known = [item.name for item in fields(cls)]
        for name in values:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, n=1)
                raise PlanError(
                    f"preprocessing with unknown {name!r}",
                    expected=f"one of {', '.join(known)}",
                    fix=f"did you mean {near[0]!r}?" if near else "remove it",
                )
        plain = dict(values)
        rules = plain.get("normalization") or ()
        if not all(isinstance(rule, Mapping) for rule in rules):
            raise PlanError(f"normalization={rules!r}", expected="a list of {kind: window, ...}")
        plain["normalization"] = tuple(normalization_from_dict(rule) for rule in rules)
        return cls(**plain)


def _positive(name: str, values: Any, kind: type[float] | type[int]) -> tuple[Any, ...] | None:
    if values is None:
        return None
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        numbers = ()
    fits = numbers and all(math.isfinite(value) and value > 0 and kind(value) == value for value in numbers)
    if not fits:
        raise PlanError(f"{name}={values!r}", expected="a number above 0 for each axis, or None")
    return tuple(kind(value) for value in numbers)
