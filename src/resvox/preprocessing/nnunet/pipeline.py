"""nnU-Net's preprocessing of a case: reorient, order of axes, crop, normalize, resample."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, ClassVar

import numpy as np

from resvox.errors import PlanError, VolumeError
from resvox.preprocessing.crop import Crop, nonzero_box, nonzero_mask
from resvox.preprocessing.nnunet.intensities import IntensityRule
from resvox.preprocessing.nnunet.resampling import Resampling
from resvox.preprocessing.nnunet.steps import AddAxis, Resize, Transpose, check_order
from resvox.preprocessing.prepared import Prepared
from resvox.preprocessing.reorient import Reorient, check_orientation
from resvox.preprocessing.steps import Step
from resvox.volumes import Volume


@dataclass(frozen=True, kw_only=True)
class NnunetPreprocessing:
    """What nnU-Net v2's ``DefaultPreprocessor`` does, with the same numbers.

    Args:
        spacing_mm: along the axes in their new order; 2 numbers for a network of 2-D slices, which keeps the first
            axis.
        order: the array axis that becomes each axis of the network (``transpose_forward``).
        rules: the normalization of each channel.
        image: resampling of images.
        labels: of label maps.
        scores: of the network's output, on the way back.
        orientation: directions of the array axes before all else, such as ``"SPL"``; None keeps those of the file, as
            nnU-Net does.
        spacing_beside: the spacing of a stack of TIFF is that of the JSON file beside it, or 1 mm, as nnU-Net's
            ``Tiff3DIO`` reads it; not what the TIFF itself states.
        exact: images with the bits of nnU-Net; otherwise the same to the rounding of float32, and much faster.

    Raises:
        PlanError: a value that is not valid.
    """

    kind: ClassVar[str] = "nnunet"

    spacing_mm: tuple[float, ...]
    order: tuple[int, ...] = (0, 1, 2)
    rules: tuple[IntensityRule, ...]
    image: Resampling = field(default_factory=Resampling)
    labels: Resampling = field(default_factory=partial(Resampling, order=1))
    scores: Resampling = field(default_factory=partial(Resampling, order=1))
    orientation: str | None = None
    spacing_beside: bool = False
    exact: bool = False

    def __post_init__(self) -> None:
        spacing = tuple(float(mm) for mm in self.spacing_mm)
        if len(spacing) not in (2, 3) or not all(math.isfinite(mm) and mm > 0 for mm in spacing):
            raise PlanError(f"spacing={list(self.spacing_mm)!r}", expected="2 or 3 numbers above 0")
        object.__setattr__(self, "spacing_mm", spacing)
        object.__setattr__(self, "order", check_order(self.order))
        if not self.rules:
            raise PlanError("no normalization", expected="one per channel")
        if self.orientation is not None:
            check_orientation(self.orientation)

    def apply(self, volume: Volume) -> Prepared:
        """Prepare one case.

        Args:
            volume: (*spatial) or (channels, *spatial), 3-D, or 2-D as one slice; it is not changed.

        Raises:
            VolumeError: a wrong number of channels, or voxels that are NaN or infinite.
        """
        self._check(volume)
        array, grid = volume.with_channel_axis().astype(np.float32), volume.grid
        steps: list[Step] = []

        def take(step: Step) -> None:
            nonlocal array, grid
            array, grid = step.forward(array, "image"), step.target
            steps.append(step)

        if self.orientation is not None:
            take(Reorient(source=grid, codes=self.orientation))
        if volume.spatial_dims == 2:
            take(AddAxis(source=grid))
        take(Transpose(source=grid, order=self.order))
        inside = nonzero_mask(array) if any(rule.needs_mask for rule in self.rules) else None
        start, stop = nonzero_box(array)
        crop = Crop(source=grid, start=start, stop=stop)
        take(crop)
        inside = None if inside is None else inside[crop.box[1:]]
        for rule, channel in zip(self.rules, array, strict=True):
            rule.apply(channel, inside)
        spacing = self.spacing_mm if len(self.spacing_mm) == 3 else (grid.spacing_mm[0], *self.spacing_mm)
        take(
            Resize(
                source=grid,
                spacing_mm=spacing,
                image=self.image,
                labels=self.labels,
                scores=self.scores,
                exact=self.exact,
            )
        )
        return Prepared(array=np.ascontiguousarray(array), grid=grid, source=volume.grid, steps=tuple(steps))

    def _check(self, volume: Volume) -> None:
        if volume.channels != len(self.rules):
            raise VolumeError(
                f"{volume.channels} channel{'s' if volume.channels > 1 else ''}",
                expected=f"{len(self.rules)}, as many as the network was made for",
                fix="give the images of all channels, in its order",
            )
        if volume.array.dtype.kind == "f" and not np.isfinite(volume.array).all():
            bad = volume.array.size - int(np.count_nonzero(np.isfinite(volume.array)))
            raise VolumeError(f"{bad} of {volume.array.size} voxels are NaN or infinite", expected="finite numbers")

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings, for JSON."""
        return {
            "kind": self.kind,
            "spacing_mm": list(self.spacing_mm),
            "order": list(self.order),
            "rules": [rule.to_dict() for rule in self.rules],
            "image": self.image.to_dict(),
            "labels": self.labels.to_dict(),
            "scores": self.scores.to_dict(),
            "orientation": self.orientation,
            **({"spacing_beside": True} if self.spacing_beside else {}),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NnunetPreprocessing:
        """What `to_dict` wrote.

        Raises:
            PlanError: an unknown name, one that is missing, or a value that is not valid.
        """
        plain = {name: value for name, value in values.items() if name != "kind"}
        known = {item.name for item in fields(cls)} - {"exact"}
        if not {"spacing_mm", "rules"} <= set(plain) <= known:
            raise PlanError(f"a preprocessing of nnU-Net with {sorted(plain)}", expected=f"of {sorted(known)}")
        rules = plain["rules"]
        if not isinstance(rules, list) or not all(isinstance(rule, Mapping) for rule in rules):
            raise PlanError(f"rules={rules!r}", expected="a list of {scheme: ...}")
        plain["rules"] = tuple(IntensityRule.from_dict(rule) for rule in rules)
        for name in ("image", "labels", "scores"):
            if name in plain:
                plain[name] = Resampling.from_dict(plain[name])
        for name in ("spacing_mm", "order"):
            if name in plain:
                plain[name] = tuple(plain[name])
        return cls(**plain)
