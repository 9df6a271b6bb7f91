"""The model card of a segmentation."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from resvox.cards.base import ModelCard, Windows
from resvox.cards.fields import Fields
from resvox.errors import ResvoxError, WeightsError
from resvox.regions import Regions


@dataclass(frozen=True, kw_only=True)
class SegmentationCard(ModelCard):
    """The metadata of a model for segmentation.

    Args:
        labels: name and value in the label map; values may have gaps. In order of value they are the network's classes;
            a single one is the foreground of a network with one output. With ``regions`` they are not.
        inference: how scans are cut into windows.
        regions: where the network has one sigmoid output per region instead of one output per label; ``labels`` then
            name what is written, and may be left out of a file.
        ignore: the value of reference label maps whose voxels were not annotated; no output has it.
        colours: ``{label name: "#rrggbb"}``; None where the file holds none.
        codes: ``{label name: {"type": {"value", "meaning", "scheme"}, "category": ..., "side": "left"}}``, coded
            structures for DICOM; None where the file holds none, and names are looked up in a table.
    """

    task: ClassVar[str] = "segmentation"
    needed: ClassVar[tuple[str, ...]] = ("preprocessing", "labels", "channel_names", "inference")

    labels: Mapping[str, int]
    inference: Windows
    regions: Regions | None = None
    ignore: int | None = None
    colours: Mapping[str, str] | None = None
    codes: Mapping[str, Mapping[str, Any]] | None = None

    @property
    def input_size(self) -> tuple[int, ...]:
        """The size of a window."""
        return self.inference.input_size

    @property
    def labels_by_class(self) -> dict[str, int]:
        """The labels in the order of the network's classes."""
        return dict(sorted(self.labels.items(), key=lambda item: item[1]))

    @property
    def output_names(self) -> tuple[str, ...]:
        """What each output of the network stands for: a region, or a label."""
        return tuple(self.labels_by_class) if self.regions is None else self.regions.names

    @property
    def class_order(self) -> tuple[int, ...] | None:
        """The value that each region writes; None for labels."""
        return None if self.regions is None else self.regions.class_order

    @property
    def output_meaning(self) -> str:
        """What the network's outputs are, as an export describes them."""
        return "logits" if self.regions is None else "logits of regions, each with its own sigmoid"

    def own_fields(self) -> dict[str, Any]:
        """Labels, regions, colours, windows."""
        return {
            "labels": dict(self.labels),
            **({} if self.regions is None else self.regions.to_dict()),
            **({} if self.ignore is None else {"ignore": self.ignore}),
            **({} if self.colours is None else {"colours": dict(self.colours)}),
            **({} if self.codes is None else {"codes": {name: dict(code) for name, code in self.codes.items()}}),
            "inference": self.inference.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, path: str | os.PathLike[str] | None = None) -> SegmentationCard:
        """Read the metadata of a model file, see `ModelCard.from_dict`."""
        regions = _regions(Fields(values, path=path))
        if regions is not None:
            values = {"labels": regions.labels(), **values}
        fields = cls.checked_fields(values, path)
        labels = fields.labels("labels")
        unnamed = set() if regions is None else set(regions.class_order) - set(labels.values())
        if unnamed:
            fields.reject("labels", f"a name for each value of regions_class_order, also for {min(unnamed)}")
        return cls(
            **cls.common(fields),
            labels=labels,
            inference=Windows.from_fields(fields.nested("inference")),
            regions=regions,
            ignore=None if values.get("ignore") is None else fields.label_value("ignore"),
            colours=None if values.get("colours") is None else dict(fields.object("colours")),
            codes=None if values.get("codes") is None else dict(fields.object("codes")),
        )


def _regions(fields: Fields) -> Regions | None:
    """The regions of a model file; None where it has none."""
    if fields.values.get("regions") is None:
        return None
    fields.require("regions_class_order")
    listed = fields.nested("regions")
    values = {name: listed.label_values(name) for name in fields.object("regions")}
    order = fields.label_values("regions_class_order")
    try:
        return Regions(values=values, class_order=order)
    except ResvoxError as error:
        raise WeightsError(error.got, expected=error.expected, fix=error.fix, path=fields.path) from error
