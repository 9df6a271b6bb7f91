"""The model card of a dense regression."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from resvox.cards.base import ModelCard, Windows


@dataclass(frozen=True, kw_only=True)
class RegressionCard(ModelCard):
    """The metadata of a model for dense regression.

    The network's outputs times ``target_std`` plus ``target_mean`` are values in the units of the training files.

    Args:
        target_mean, target_std: one number per value.
        inference: how scans are cut into windows.
        target_names: of the values; None where the file holds none.
    """

    task: ClassVar[str] = "regression"
    needed: ClassVar[tuple[str, ...]] = ("preprocessing", "target_mean", "target_std", "channel_names", "inference")

    target_mean: tuple[float, ...]
    target_std: tuple[float, ...]
    inference: Windows
    target_names: tuple[str, ...] | None = None

    @property
    def windows(self) -> Windows:
        """How scans are cut into windows."""
        return self.inference

    @property
    def input_size(self) -> tuple[int, ...]:
        """The size of a window."""
        return self.inference.input_size

    @property
    def output_meaning(self) -> str:
        """What the network's outputs are, as an export describes them."""
        return "values, to be multiplied by target_std and added to target_mean"

    @property
    def names_labels(self) -> bool:
        """Whether the outputs decide on a label: they are values."""
        return False

    def output_axes(self, sizes: Sequence[Any]) -> list[Any]:
        """Values instead of classes."""
        return ["batch", "values", *sizes]

    def own_fields(self) -> dict[str, Any]:
        """Names and units of the values, and windows."""
        return {
            **({} if self.target_names is None else {"target_names": list(self.target_names)}),
            "target_mean": list(self.target_mean),
            "target_std": list(self.target_std),
            "inference": self.inference.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, path: str | os.PathLike[str] | None = None) -> RegressionCard:
        """Read the metadata of a model file, see `ModelCard.from_dict`."""
        fields = cls.checked_fields(values, path)
        mean, std = fields.numbers("target_mean"), fields.numbers("target_std")
        if len(std) != len(mean):
            fields.reject("target_std", f"{len(mean)} numbers, as many as target_mean")
        names = None if values.get("target_names") is None else fields.names("target_names")
        if names is not None and len(names) != len(mean):
            fields.reject("target_names", f"{len(mean)} names, as many as target_mean")
        return cls(
            **cls.common(fields),
            target_mean=mean,
            target_std=std,
            inference=Windows.from_fields(fields.nested("inference")),
            target_names=names,
        )
