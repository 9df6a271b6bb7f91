"""The model card of a classification."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from resvox.cards.base import ModelCard, WholeImage


@dataclass(frozen=True, kw_only=True)
class ClassificationCard(ModelCard):
    """The metadata of a model for classification.

    Args:
        labels: name and index of each class.
        inference: how an image is brought to the size that the network sees.
    """

    task: ClassVar[str] = "classification"
    needed: ClassVar[tuple[str, ...]] = ("preprocessing", "labels", "channel_names", "inference")

    labels: Mapping[str, int]
    inference: WholeImage

    @property
    def input_size(self) -> tuple[int, ...]:
        """The size of a whole image."""
        return self.inference.input_size

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes in the order of the network's outputs."""
        return tuple(sorted(self.labels, key=lambda name: self.labels[name]))

    def output_axes(self, sizes: Sequence[Any]) -> list[Any]:
        """One logit per class for the whole image."""
        return ["batch", "classes"]

    def own_fields(self) -> dict[str, Any]:
        """Classes and image size."""
        return {"labels": dict(self.labels), "inference": self.inference.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, path: str | os.PathLike[str] | None = None) -> ClassificationCard:
        """Read the metadata of a model file, see `ModelCard.from_dict`."""
        fields = cls.checked_fields(values, path)
        return cls(
            **cls.common(fields),
            labels=fields.labels("labels"),
            inference=WholeImage.from_fields(fields.nested("inference")),
        )
