"""What results say of the labels, the model and themselves: codes, colours, identifiers that a rerun repeats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from resvox._version import __version__
from resvox.delivery.codes import Structure, structure_of
from resvox.errors import VolumeError

MANUFACTURER = "resvox"


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """The model that made a label map.

    Args:
        name: shown by viewers, at most 64 characters are kept.
        version: of the model or of resvox.
        identifier: a digest of the model file; results of one model and one series replace each other.
    """

    name: str = "resvox"
    version: str = __version__
    identifier: str = ""


@dataclass(frozen=True, kw_only=True)
class NamedLabel:
    """One label of a label map: value, name, colour and coded structure."""

    value: int
    name: str
    colour: str
    structure: Structure


@dataclass(frozen=True, kw_only=True)
class LabelSet:
    """The labels of a model, the background left out, in the order of their values.

    Raises:
        VolumeError: no label, two of one value, or a value below 1.
    """

    labels: tuple[NamedLabel, ...] = field(default=())

    def __post_init__(self) -> None:
        values = [label.value for label in self.labels]
        if not values or min(values) < 1 or len(set(values)) < len(values):
            raise VolumeError(f"label values {values}", expected="at least one label, each with its own value above 0")


def label_set(
    labels: Mapping[str, int],
    *,
    colours: Mapping[str, str] | None = None,
    codes: Mapping[str, Mapping[str, Any]] | None = None,
) -> LabelSet:
    """Labels with colours and codes.

    Args:
        labels: ``{name: value}``; a value of 0 is the background and left out.
        colours: ``{name: "#rrggbb"}``; the default palette for the others.
        codes: ``{name: {...}}``, see `structure_of`; the table for the others.

    Raises:
        VolumeError: see `LabelSet` and `structure_of`.
    """
    from resvox.viewer import label_colours

    foreground = {name: int(value) for name, value in labels.items() if int(value) != 0}
    palette = {**label_colours(foreground), **(colours or {})}
    ordered = sorted(foreground.items(), key=lambda item: item[1])
    return LabelSet(
        labels=tuple(
            NamedLabel(
                value=value, name=name, colour=palette[name], structure=structure_of(name, (codes or {}).get(name))
            )
            for name, value in ordered
        )
    )


def uid_of(*parts: str) -> str:
    """A DICOM UID that is the same for the same parts, so that a rerun replaces its earlier result."""
    from pydicom.uid import generate_uid

    return str(generate_uid(entropy_srcs=list(parts)))
