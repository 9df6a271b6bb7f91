"""The model card of a segmentation."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from resvox.cards.base import ModelCard, Windows
from resvox.cards.fields import Fields
from resvox.cards.outputs import Outputs
from resvox.cards.postprocessing import FIELD as POSTPROCESSING
from resvox.cards.postprocessing import LabelRule, rules_of
from resvox.errors import ResvoxError, WeightsError
from resvox.regions import Regions


@dataclass(frozen=True, kw_only=True)
class Cascade:
    """The second of two stages: it also sees the label map of the first one.

    Args:
        labels: the values of which the first stage gives a map, one more channel each.
        model: where the first stage is, from the folder of the model file.
    """

    labels: tuple[int, ...]
    model: str

    def to_dict(self) -> dict[str, Any]:
        """The fields as a file holds them."""
        return {"labels": list(self.labels), "model": self.model}


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
        cascade: the first stage whose label map the network also sees; None without.
        largest: groups of labels of which only the largest component is kept, where that is asked for.
        postprocessing: rules that cross-validation has chosen, which a prediction applies unless it is asked not to;
            None if no rule was chosen.
        outputs: how outputs become labels in a model from elsewhere; None for the usual way.
        temperature: logits divided by it give calibrated probabilities; None where it was not fitted.
    """

    task: ClassVar[str] = "segmentation"
    needed: ClassVar[tuple[str, ...]] = ("preprocessing", "labels", "channel_names", "inference")

    labels: Mapping[str, int]
    inference: Windows
    regions: Regions | None = None
    ignore: int | None = None
    colours: Mapping[str, str] | None = None
    codes: Mapping[str, Mapping[str, Any]] | None = None
    cascade: Cascade | None = None
    largest: tuple[tuple[int, ...], ...] | None = None
    postprocessing: tuple[LabelRule, ...] | None = None
    outputs: Outputs | None = None
    temperature: float | None = None

    @property
    def network_channels(self) -> int:
        """Those of a scan, and one for each label of the first stage."""
        return self.in_channels + (0 if self.cascade is None else len(self.cascade.labels))

    @property
    def windows(self) -> Windows:
        """How scans are cut into windows."""
        return self.inference

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
            **({} if self.cascade is None else {"cascade": self.cascade.to_dict()}),
            **({} if self.largest is None else {"largest": [list(each) for each in self.largest]}),
            **(
                {}
                if self.postprocessing is None
                else {POSTPROCESSING: [each.to_dict() for each in self.postprocessing]}
            ),
            **({} if self.outputs is None else {"outputs": self.outputs.to_dict()}),
            **({} if self.temperature is None else {"temperature": self.temperature}),
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
            cascade=_cascade(fields),
            largest=_groups(fields),
            postprocessing=rules_of(fields),
            outputs=None if values.get("outputs") is None else Outputs.from_fields(fields.nested("outputs")),
            temperature=_temperature(fields),
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


def _cascade(fields: Fields) -> Cascade | None:
    if fields.values.get("cascade") is None:
        return None
    inside = fields.nested("cascade")
    inside.require("labels", "model")
    return Cascade(labels=inside.label_values("labels"), model=inside.name("model"))


def _temperature(fields: Fields) -> float | None:
    if fields.values.get("temperature") is None:
        return None
    found = fields.number("temperature", default=1.0, low=0.0, below=math.inf)
    if found == 0:
        fields.reject("temperature", "a number above 0")
    return found


def _groups(fields: Fields) -> tuple[tuple[int, ...], ...] | None:
    if fields.values.get("largest") is None:
        return None
    groups = fields.values["largest"]
    if not isinstance(groups, (list, tuple)):
        fields.reject("largest", "a list of lists of label values")
    inside = Fields({str(number): each for number, each in enumerate(groups)}, path=fields.path, prefix="largest.")
    return tuple(inside.label_values(name) for name in inside.values)
