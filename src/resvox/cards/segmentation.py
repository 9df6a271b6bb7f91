"""The model card of a segmentation."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from resvox.cards.base import ModelCard, Windows


@dataclass(frozen=True, kw_only=True)
class SegmentationCard(ModelCard):
    """The metadata of a model for segmentation.

    Args:
        labels: name and value in the label map; values may have gaps. In order of value they are the network's classes;
            a single one is the foreground of a network with one output.
        inference: how scans are cut into windows.
        colours: ``{label name: "#rrggbb"}``; None where the file holds none.
        codes: ``{label name: {"type": {"value", "meaning", "scheme"}, "category": ..., "side": "left"}}``, coded
            structures for DICOM; None where the file holds none, and names are looked up in a table.
    """

    task: ClassVar[str] = "segmentation"
    needed: ClassVar[tuple[str, ...]] = ("preprocessing", "labels", "channel_names", "inference")

    labels: Mapping[str, int]
    inference: Windows
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

    def own_fields(self) -> dict[str, Any]:
        """Labels, colours, windows."""
        return {
            "labels": dict(self.labels),
            **({} if self.colours is None else {"colours": dict(self.colours)}),
            **({} if self.codes is None else {"codes": {name: dict(code) for name, code in self.codes.items()}}),
            "inference": self.inference.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, path: str | os.PathLike[str] | None = None) -> SegmentationCard:
        """Read the metadata of a model file, see `ModelCard.from_dict`."""
        fields = cls.checked_fields(values, path)
        return cls(
            **cls.common(fields),
            labels=fields.labels("labels"),
            inference=Windows.from_fields(fields.nested("inference")),
            colours=None if values.get("colours") is None else dict(fields.object("colours")),
            codes=None if values.get("codes") is None else dict(fields.object("codes")),
        )
