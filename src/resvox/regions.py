"""Regions: labels that join several values of a label map, so that one voxel may belong to several of them.

A network for regions has one output per region, each with a sigmoid. A label map is made of them in order: each region
writes its own value where its probability is above 0.5, later regions over earlier ones (Isensee et al. 2021, nnU-Net).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from resvox.errors import ResvoxError

LARGEST_VALUE = 2**32 - 1  # the largest that a label map of unsigned integers is written with


@dataclass(frozen=True, kw_only=True)
class Regions:
    """The regions of a dataset or a network, in the order of the network's outputs.

    Args:
        values: ``{name: (value, ...)}``, the values of a label map that belong to each region.
        class_order: for each region the value that it is written as, nnU-Net's ``regions_class_order``. Regions are
            written in the order of ``values``, so that a later one lies over an earlier one.

    Raises:
        ResvoxError: a region without values, a value that is not a whole number above 0, or another number of regions
            than of values to write.
    """

    values: Mapping[str, tuple[int, ...]]
    class_order: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", {name: tuple(values) for name, values in self.values.items()})
        object.__setattr__(self, "class_order", tuple(self.class_order))
        if not self.values:
            raise ResvoxError("no regions", expected='at least one, as {"whole tumour": [1, 2, 3]}')
        if "background" in self.values:
            raise ResvoxError("a region called 'background'", expected="another name: it is what no region covers")
        for name, values in self.values.items():
            if not values or len(set(values)) != len(values) or not all(map(_is_value, values)):
                raise ResvoxError(
                    f"the region {name!r} of the values {list(values)}",
                    expected="different whole numbers above 0, at least one",
                )
        if len(self.class_order) != len(self.values) or not all(map(_is_value, self.class_order)):
            raise ResvoxError(
                f"regions_class_order {list(self.class_order)} for {len(self.values)} regions",
                expected=f"for each of {', '.join(self.values)} the value above 0 that it is written as",
                fix='from the largest region to the smallest, as "regions_class_order": [1, 2, 3]',
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in the order of the outputs."""
        return tuple(self.values)

    @property
    def label_values(self) -> tuple[int, ...]:
        """Every value of a label map that belongs to a region, ascending."""
        return tuple(sorted({value for values in self.values.values() for value in values}))

    @property
    def ambiguous(self) -> tuple[int, ...]:
        """The values whose voxels would belong to other regions after they are written, see `written_as`.

        A label map that is written in this order does not distinguish such regions.
        """
        return tuple(
            value for value in self.label_values if self.containing(value) != self.containing(self.written_as(value))
        )

    def labels(self) -> dict[str, int]:
        """``{name: value}`` of the label maps that are written, with the background.

        A region that a later one partly covers is named "rest of ..." there, because its value stands only where no
        later region is. A value is named after the last region that writes it.
        """
        names = self.names
        by_value = {}
        for place, (name, value) in enumerate(zip(names, self.class_order, strict=True)):
            covered = any(set(self.values[name]) & set(self.values[later]) for later in names[place + 1 :])
            by_value[value] = f"rest of {name}" if covered else name
        labels = {"background": 0}
        for value, name in sorted(by_value.items()):
            labels[f"{name} ({value})" if name in labels else name] = value
        return labels

    def containing(self, value: int) -> tuple[bool, ...]:
        """For each region whether a voxel of ``value`` belongs to it."""
        return tuple(value in values for values in self.values.values())

    def written_as(self, value: int) -> int:
        """What a voxel of ``value`` becomes when it is divided into regions and these are written again."""
        written = 0
        for values, own in zip(self.values.values(), self.class_order, strict=True):
            written = own if value in values else written
        return written

    def to_dict(self) -> dict[str, object]:
        """The fields ``regions`` and ``regions_class_order`` of a model file."""
        return {
            "regions": {name: list(values) for name, values in self.values.items()},
            "regions_class_order": list(self.class_order),
        }


def _is_value(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LARGEST_VALUE
