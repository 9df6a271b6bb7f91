"""How the outputs of a model from elsewhere become labels, where that differs from the usual way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from resvox.cards.fields import Fields

ACTIVATIONS = ("none", "softmax", "sigmoid")
RESTORED = ("logits", "probabilities", "labels")


@dataclass(frozen=True, kw_only=True)
class Largest:
    """Only the largest components of labels are kept.

    Args:
        labels: the values; none for every value that occurs.
        together: they are one foreground, instead of each by itself.
        reach: the number of orthogonal steps within which voxels touch: 1 over faces; None also over corners.
        count: how many components are kept.
        on_scan: on the scan's grid, instead of the network's.
    """

    labels: tuple[int, ...] = ()
    together: bool = False
    reach: int | None = None
    count: int = 1
    on_scan: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values, in the order of the file."""
        return {
            "labels": list(self.labels),
            "together": self.together,
            "reach": self.reach,
            "count": self.count,
            "on_scan": self.on_scan,
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> Largest:
        """Read one of the list ``outputs.largest`` of a model file."""
        return cls(
            labels=fields.label_values("labels") if fields.values.get("labels") else (),
            together=fields.flag("together", default=False),
            reach=None if fields.values.get("reach") is None else fields.whole("reach", default=1),
            count=fields.whole("count", default=1),
            on_scan=fields.flag("on_scan", default=False),
        )


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """From the network's outputs to labels on the scan's grid.

    Args:
        activation: "softmax", "sigmoid" or "none".
        restored: what is brought to the scan's grid: "logits", "probabilities" (linearly) or "labels" (the nearest).
        threshold: of outputs that are decided one by one, in units of the activation; None where the largest wins.
        order: the outputs in the order in which they are written, later over earlier ones; empty keeps the network's.
        largest: components that are kept, in this order.
    """

    activation: str = "none"
    restored: str = "logits"
    threshold: float | None = None
    order: tuple[int, ...] = ()
    largest: tuple[Largest, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, in the order of the file."""
        return {
            "activation": self.activation,
            "restored": self.restored,
            **({} if self.threshold is None else {"threshold": self.threshold}),
            **({"order": list(self.order)} if self.order else {}),
            **({"largest": [each.to_dict() for each in self.largest]} if self.largest else {}),
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> Outputs:
        """Read the object ``outputs`` of a model file."""
        fields.require("activation", "restored")
        return cls(
            activation=fields.text("activation", choices=ACTIVATIONS),
            restored=fields.text("restored", choices=RESTORED),
            threshold=_threshold(fields),
            order=_order(fields),
            largest=tuple(Largest.from_fields(each) for each in fields.nested_list("largest")),
        )


def _threshold(fields: Fields) -> float | None:
    if fields.values.get("threshold") is None:
        return None
    return fields.number("threshold", default=0.5, low=-1e30, below=1e30)


def _order(fields: Fields) -> tuple[int, ...]:
    if fields.values.get("order") is None:
        return ()
    found = fields.label_values("order")
    if sorted(found) != list(range(len(found))):
        fields.reject("order", "every output once, counted from 0")
    return found
