"""Rules for the label maps of a model: which components are kept, which holes are filled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from resvox.cards.fields import Fields
from resvox.errors import WeightsError

FIELD = "postprocessing"


@dataclass(frozen=True, kw_only=True)
class LabelRule:
    """What is done to the voxels of some values, in this order: components are removed, then holes are filled.

    Components touch at a face, an edge or a corner; holes are background that is enclosed, through faces.

    Args:
        values: the values of a label map that form one structure.
        largest: keep the largest component only; several of the same size are all kept.
        smallest: remove components smaller than this, in mm³ (mm² of 2D images).
        holes: fill enclosed background; for a single value only.

    Raises:
        WeightsError: a rule that does nothing, or that cannot be.
    """

    values: tuple[int, ...]
    largest: bool = False
    smallest: float = 0.0
    holes: bool = False

    def __post_init__(self) -> None:
        if not self.values or not (self.largest or self.smallest or self.holes):
            raise WeightsError(f"{self}", expected="values, and one of largest, smallest and holes")
        if self.holes and len(self.values) > 1:
            raise WeightsError(f"holes of several values {self.values}", expected="one value to fill them with")
        if not (math.isfinite(self.smallest) and self.smallest >= 0):
            raise WeightsError(f"smallest={self.smallest}", expected="a size from 0, in mm³ or mm²")

    @property
    def words(self) -> str:
        """The rule in words, without the values."""
        parts = ["largest component"] if self.largest else []
        parts += [f"components of at least {self.smallest:g} mm³ (mm² in 2D)"] if self.smallest else []
        return ", ".join([*parts, *(["holes filled"] if self.holes else [])])

    def to_dict(self) -> dict[str, Any]:
        """The fields as a file holds them; those at their defaults are left out."""
        return {
            "values": list(self.values),
            **({"largest": True} if self.largest else {}),
            **({"smallest": self.smallest} if self.smallest else {}),
            **({"holes": True} if self.holes else {}),
        }


def rules_of(fields: Fields) -> tuple[LabelRule, ...] | None:
    """The rules of a model file; None where it has none.

    Raises:
        WeightsError: naming the file and the field.
    """
    listed = fields.values.get(FIELD)
    if listed is None:
        return None
    if not isinstance(listed, (list, tuple)) or not all(isinstance(each, Mapping) for each in listed):
        fields.reject(FIELD, "a list of rules")
    return tuple(
        _rule(Fields(each, path=fields.path, prefix=f"{FIELD}.{number}.")) for number, each in enumerate(listed)
    )


def _rule(inside: Fields) -> LabelRule:
    inside.require("values")
    try:
        return LabelRule(
            values=inside.label_values("values"),
            largest=inside.flag("largest", default=False),
            smallest=inside.number("smallest", default=0.0, low=0.0, below=math.inf),
            holes=inside.flag("holes", default=False),
        )
    except WeightsError as error:
        if error.path is not None:
            raise
        raise WeightsError(error.got, expected=error.expected, fix=error.fix, path=inside.path) from error
