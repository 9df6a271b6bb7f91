"""What ``dataset.json`` states: channels, labels, regions, the label that is ignored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resvox.weights.nnunet.fields import JsonFields, is_whole, read_json

IGNORE = "ignore"
BACKGROUND = "background"


@dataclass(frozen=True, kw_only=True)
class NnunetDataset:
    """The channels and labels of a model.

    Attributes:
        channel_names: such as ``("CT",)``, in the order of the network's input.
        labels: name to the label values that belong to it, in the file's order, with background and without the ignored
            label. A label is one value; a region has several.
        ignore: the value of the label that is left out of training and has no output channel; None without one.
        regions_class_order: for regions, the value that each output channel writes, in order; later ones overwrite.
        file_ending: such as ``".nii.gz"``.
    """

    channel_names: tuple[str, ...]
    labels: Mapping[str, tuple[int, ...]]
    ignore: int | None
    regions_class_order: tuple[int, ...] | None
    file_ending: str

    @property
    def has_regions(self) -> bool:
        """Whether outputs are regions (a sigmoid per channel) instead of labels (one softmax)."""
        return any(len(values) > 1 for values in self.labels.values())

    @property
    def regions(self) -> Mapping[str, tuple[int, ...]]:
        """The regions by name in the order of the output channels, without background; empty without regions."""
        if not self.has_regions:
            return {}
        return {name: values for name, values in self.labels.items() if set(values) != {0}}

    @property
    def all_labels(self) -> tuple[int, ...]:
        """Every label value in ascending order, background included, the ignored one excluded."""
        return tuple(sorted({value for values in self.labels.values() for value in values}))

    @property
    def foreground_labels(self) -> tuple[int, ...]:
        """The same without background; the extra input channels of a cascade's second stage, in this order."""
        return tuple(value for value in self.all_labels if value != 0)

    @property
    def output_channels(self) -> int:
        """Channels of the network's output."""
        return len(self.regions) if self.has_regions else len(self.all_labels)

    @staticmethod
    def read(path: Path) -> NnunetDataset:
        """The content of a ``dataset.json``.

        Raises:
            WeightsError: not readable, or a field that is missing or not valid.
        """
        return NnunetDataset.of(read_json(path))

    @staticmethod
    def of(fields: JsonFields) -> NnunetDataset:
        """The same from the object in the file."""
        labels, ignore = _labels(fields)
        regions = any(len(values) > 1 for values in labels.values())
        order = fields.wholes("regions_class_order") if regions else None
        found = NnunetDataset(
            channel_names=_channels(fields),
            labels=labels,
            ignore=ignore,
            regions_class_order=order,
            file_ending=fields.text("file_ending", ".nii.gz"),
        )
        if order is not None and len(order) != len(found.regions):
            fields.reject("regions_class_order", f"{len(found.regions)} values, one for each region")
        return found


def _channels(fields: JsonFields) -> tuple[str, ...]:
    name = "channel_names" if fields.has("channel_names") else "modality"
    if not fields.has(name):
        fields.reject("channel_names", 'an object such as {"0": "CT"}')
    given = fields.object(name)
    wanted = [str(number) for number in range(len(given))]
    if not given or sorted(given) != sorted(wanted):
        fields.reject(name, 'the numbers of the channels from "0", each with a name')
    return tuple(str(given[number]) for number in wanted)


def _labels(fields: JsonFields) -> tuple[dict[str, tuple[int, ...]], int | None]:
    given = fields.object("labels")
    ignore = given.pop(IGNORE, None)
    ignore = ignore[0] if isinstance(ignore, list) and len(ignore) == 1 else ignore
    if ignore is not None and not is_whole(ignore, 1):
        fields.reject("labels", "one whole number above 0 for 'ignore'")
    labels = {str(name): _values(value) for name, value in given.items()}
    if not labels or not all(labels.values()):
        fields.reject("labels", "names, each with a label value or a list of them", "nnU-Net v2 writes {name: value}")
    if labels.get(BACKGROUND, (0,)) != (0,):
        fields.reject("labels", "0 for background")
    return {name: values for name, values in labels.items() if values is not None}, ignore


def _values(value: Any) -> tuple[int, ...] | None:
    numbers = value if isinstance(value, list) else [value]
    return tuple(numbers) if numbers and all(is_whole(number, 0) for number in numbers) else None
