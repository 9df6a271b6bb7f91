"""The preparation of a case by a list of MONAI's transforms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from resvox.errors import PlanError, VolumeError
from resvox.preprocessing.monai.transforms import MonaiTransform, Orientation, Spacing, transform_from_dict
from resvox.preprocessing.nnunet.steps import Transpose
from resvox.preprocessing.prepared import Prepared
from resvox.preprocessing.steps import Step
from resvox.volumes import Volume


@dataclass(frozen=True, kw_only=True)
class MonaiPreprocessing:
    """What MONAI's transforms do to a scan, in their order and with their numbers.

    MONAI counts the axes of an image from the other end: x, y, z. Without an `Orientation` the network sees the file's
    axes in that order.

    Args:
        transforms: in the order in which they are applied.
        slice_axis: of networks for 2-D images that see a volume slice by slice: the axis of the slices after all
            transforms, which becomes the first one. None for others.

    Raises:
        PlanError: a value that is not valid.
    """

    kind: ClassVar[str] = "monai"

    transforms: tuple[MonaiTransform, ...]
    slice_axis: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "transforms", tuple(self.transforms))
        if self.slice_axis is not None and self.slice_axis not in (0, 1, 2):
            raise PlanError(f"slice_axis={self.slice_axis!r}", expected="0, 1 or 2")

    @property
    def orientation(self) -> str | None:
        """Where the axes of the network point; None where they are the file's."""
        codes = [each.axcodes for each in self.transforms if isinstance(each, Orientation)]
        return codes[-1] if codes else None

    @property
    def spacing_mm(self) -> tuple[float, ...] | None:
        """The spacing of what the network sees; None where it is the file's."""
        found = [each.pixdim for each in self.transforms if isinstance(each, Spacing)]
        return found[-1] if found else None

    def apply(self, volume: Volume) -> Prepared:
        """Prepare one case.

        Args:
            volume: (*spatial) or (channels, *spatial); it is not changed.

        Raises:
            VolumeError: voxels that are NaN or infinite, or an image that a transform cannot take.
        """
        _check_finite(volume)
        array, grid = volume.with_channel_axis().astype(np.float32), volume.grid
        steps: list[Step] = []
        # turning the axes to given directions ends in the same order from either order
        turned = self.transforms[:1] if isinstance(next(iter(self.transforms), None), Orientation) else ()
        first: Sequence[Step] = () if turned else (_reversed(volume),)
        for new in first:
            array, grid = new.forward(array, "image"), new.target
            steps.append(new)
        for transform in self.transforms:
            for new in transform.steps(array, grid):
                array, grid = new.forward(array, "image"), new.target
                steps.append(new)
            array = transform.intensities(array)
        if self.slice_axis is not None:
            order = (self.slice_axis, *(axis for axis in range(3) if axis != self.slice_axis))
            step = Transpose(source=grid, order=order)
            array, grid = step.forward(array, "image"), step.target
            steps.append(step)
        array = np.ascontiguousarray(array, np.float32)
        return Prepared(array=array, grid=grid, source=volume.grid, steps=tuple(steps))

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings, for JSON."""
        return {
            "kind": self.kind,
            "transforms": [each.to_dict() for each in self.transforms],
            **({} if self.slice_axis is None else {"slice_axis": self.slice_axis}),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MonaiPreprocessing:
        """What `to_dict` wrote.

        Raises:
            PlanError: an unknown name, one that is missing, or a value that is not valid.
        """
        listed = values.get("transforms")
        unknown = sorted(set(map(str, values)) - {"kind", "transforms", "slice_axis"})
        if unknown:
            raise PlanError(f"a preprocessing of MONAI with {unknown[0]!r}", expected="transforms and slice_axis")
        if not isinstance(listed, list) or not all(isinstance(each, Mapping) for each in listed):
            raise PlanError(f"transforms={listed!r}", expected="a list of {transform: ...}")
        return cls(transforms=tuple(transform_from_dict(each) for each in listed), slice_axis=values.get("slice_axis"))


def _reversed(volume: Volume) -> Step:
    return Transpose(source=volume.grid, order=tuple(reversed(range(volume.spatial_dims))))


def _check_finite(volume: Volume) -> None:
    if volume.array.dtype.kind == "f" and not np.isfinite(volume.array).all():
        bad = volume.array.size - int(np.count_nonzero(np.isfinite(volume.array)))
        raise VolumeError(f"{bad} of {volume.array.size} voxels are NaN or infinite", expected="finite numbers")
