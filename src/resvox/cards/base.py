"""What the model cards of all tasks have in common."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from resvox.cards.fields import Fields

FITS = ("resize", "crop")
STYLES = ("monai", "nnunet")
BLENDS = ("gaussian", "constant")
PADDINGS = ("constant", "reflect", "replicate", "circular")


@dataclass(frozen=True, kw_only=True)
class Windows:
    """How a scan is cut into windows.

    Args:
        roi_size: the window, in voxels of the prepared scan.
        overlap: fraction of a window that its neighbour shares.
        mirror_axes: spatial axes that training mirrored, and that a prediction may mirror.
        mirror: whether a prediction mirrors them unless the call decides otherwise.
        style: positions and weights of windows: those of "monai" or of "nnunet".
        blend: weights where windows of the style "monai" overlap: "gaussian" or "constant".
        sigma_scale: of "gaussian": its standard deviation as a fraction of the window.
        padding: of a scan smaller than a window: "constant", "reflect", "replicate" or "circular".
        padding_value: of "constant" padding.
    """

    roi_size: tuple[int, ...]
    overlap: float = 0.5
    mirror_axes: tuple[int, ...] = ()
    mirror: bool = False
    style: str = "monai"
    blend: str = "gaussian"
    sigma_scale: float = 0.125
    padding: str = "constant"
    padding_value: float = 0.0

    @property
    def input_size(self) -> tuple[int, ...]:
        """The spatial size of what the network sees at once."""
        return self.roi_size

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, in the order of the file."""
        return {
            "roi_size": list(self.roi_size),
            "overlap": self.overlap,
            "mirror_axes": list(self.mirror_axes),
            **({"mirror": True} if self.mirror else {}),
            **({} if self.style == "monai" else {"style": self.style}),
            **({} if self.blend == "gaussian" else {"blend": self.blend}),
            **({} if self.sigma_scale == 0.125 else {"sigma_scale": self.sigma_scale}),
            **({} if self.padding == "constant" else {"padding": self.padding}),
            **({} if self.padding_value == 0 else {"padding_value": self.padding_value}),
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> Windows:
        """Read the object ``inference`` of a model file."""
        fields.require("roi_size")
        roi_size = fields.sizes("roi_size")
        return cls(
            roi_size=roi_size,
            overlap=fields.number("overlap", default=0.5, low=0, below=1),
            mirror_axes=fields.axes("mirror_axes", dims=len(roi_size)),
            mirror=fields.flag("mirror", default=False),
            style=fields.text("style", choices=STYLES) if "style" in fields.values else "monai",
            blend=fields.text("blend", choices=BLENDS) if "blend" in fields.values else "gaussian",
            sigma_scale=fields.number("sigma_scale", default=0.125, low=1e-9, below=1e9),
            padding=fields.text("padding", choices=PADDINGS) if "padding" in fields.values else "constant",
            padding_value=fields.number("padding_value", default=0.0, low=-1e30, below=1e30),
        )


@dataclass(frozen=True, kw_only=True)
class WholeImage:
    """How a whole image is brought to the size that the network sees.

    Args:
        image_size: in voxels.
        fit: ``"resize"`` interpolates, ``"crop"`` cuts the middle out or pads.
        batch_size: images in one pass of the network.
    """

    image_size: tuple[int, ...]
    fit: str
    batch_size: int = 16

    @property
    def input_size(self) -> tuple[int, ...]:
        """The spatial size of what the network sees at once."""
        return self.image_size

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, in the order of the file."""
        return {"image_size": list(self.image_size), "fit": self.fit, "batch_size": self.batch_size}

    @classmethod
    def from_fields(cls, fields: Fields) -> WholeImage:
        """Read the object ``inference`` of a model file."""
        fields.require("image_size", "fit")
        return cls(
            image_size=fields.sizes("image_size"),
            fit=fields.text("fit", choices=FITS),
            batch_size=fields.whole("batch_size", default=16),
        )


@dataclass(frozen=True, kw_only=True)
class ModelCard(ABC):
    """The metadata of a model file: all that a prediction needs beside the network. Abstract; one class per task.

    Args:
        preprocessing: as `resvox.preprocessing.Preprocessing.to_dict` gives it.
        channel_names: of the scan's channels, in order.
        training: where the model came from: dataset, steps, scores; None where nothing is known.
    """

    task: ClassVar[str]
    needed: ClassVar[tuple[str, ...]]  # fields that every file of the task has

    preprocessing: Mapping[str, Any]
    channel_names: tuple[str, ...]
    training: Mapping[str, Any] | None = None

    @property
    @abstractmethod
    def input_size(self) -> tuple[int, ...]:
        """The spatial size of what the network sees at once: a window, or a whole image."""

    @abstractmethod
    def own_fields(self) -> dict[str, Any]:
        """The fields of the task, with ``inference`` as the last one."""

    @classmethod
    @abstractmethod
    def from_dict(cls, values: Mapping[str, Any], *, path: str | os.PathLike[str] | None = None) -> ModelCard:
        """Read the metadata of a model file; fields that are not known are left out.

        Args:
            values: the metadata.
            path: the file, named in errors.

        Raises:
            WeightsError: a field that is missing or of another type; the error names the file and the field.
        """

    @property
    def output_meaning(self) -> str:
        """What the network's outputs are, as an export describes them."""
        return "logits"

    @property
    def names_labels(self) -> bool:
        """Whether the outputs decide on a label or class."""
        return True

    @property
    def class_order(self) -> tuple[int, ...] | None:
        """The value that each output writes where its logit is above 0, in order; None where the largest one counts."""
        return None

    def output_axes(self, sizes: Sequence[Any]) -> list[Any]:
        """The axes of the network's outputs, as an export describes them; ``sizes`` are the spatial ones."""
        return ["batch", "classes", *sizes]

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return len(self.input_size)

    @property
    def in_channels(self) -> int:
        """How many channels a scan has."""
        return len(self.channel_names)

    @property
    def windows(self) -> Windows | None:
        """How scans are cut into windows; None where the network sees a whole image."""
        return None

    @property
    def network_channels(self) -> int:
        """How many channels the network has: those of a scan, and what is put beside them."""
        return self.in_channels

    def to_dict(self) -> dict[str, Any]:
        """The metadata as it is written to a model file, in this order."""
        return {
            "preprocessing": dict(self.preprocessing),
            "channel_names": list(self.channel_names),
            "task": self.task,
            **self.own_fields(),
            **({} if self.training is None else {"training": dict(self.training)}),
        }

    @classmethod
    def checked_fields(cls, values: Mapping[str, Any], path: str | os.PathLike[str] | None) -> Fields:
        """A reader of the metadata, once it is known that no field is missing."""
        fields = Fields(values, path=path)
        fields.require(*cls.needed)
        return fields

    @staticmethod
    def common(fields: Fields) -> dict[str, Any]:
        """The keyword arguments that the cards of all tasks have."""
        return {
            "preprocessing": dict(fields.object("preprocessing")),
            "channel_names": fields.names("channel_names"),
            "training": None if fields.values.get("training") is None else dict(fields.object("training")),
        }
