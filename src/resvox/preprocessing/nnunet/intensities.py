"""The five normalizations of nnU-Net v2, in float32 and in its order of operations, so that results have equal bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from resvox.errors import PlanError, VolumeError
from resvox.preprocessing.steps import Array

SMALLEST = 1e-8  # a divisor is at least this large
CT_NUMBERS = ("mean", "std", "percentile_00_5", "percentile_99_5")


@dataclass(frozen=True, kw_only=True)
class IntensityRule:
    """The normalization of one channel.

    Args:
        scheme: nnU-Net's name of it, one of `SCHEMES`.
        masked: "ZScoreNormalization" only: mean and standard deviation of the voxels that are not outside, which
            alone are changed. Outside is what is 0 in every channel and not enclosed by other voxels.
        mean: of "CTNormalization": subtracted after clipping.
        std: of "CTNormalization": the divisor.
        percentile_00_5: of "CTNormalization": the lower bound of clipping.
        percentile_99_5: of "CTNormalization": the upper bound.

    Raises:
        PlanError: an unknown scheme, or a CT normalization without its numbers.
    """

    scheme: str
    masked: bool = False
    mean: float | None = None
    std: float | None = None
    percentile_00_5: float | None = None
    percentile_99_5: float | None = None

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise PlanError(f"normalization {self.scheme!r}", expected=f"one of {', '.join(SCHEMES)}")
        if not isinstance(self.masked, bool):
            raise PlanError(f"use_mask_for_norm={self.masked!r}", expected="true or false")
        if self.scheme == "CTNormalization":
            values = {name: getattr(self, name) for name in CT_NUMBERS}
            bad = [name for name, value in values.items() if not _is_number(value)]
            if bad:
                raise PlanError(
                    f"CTNormalization with {', '.join(f'{name}={values[name]!r}' for name in bad)}",
                    expected="finite numbers, as foreground_intensity_properties_per_channel of plans.json has them",
                )

    @property
    def needs_mask(self) -> bool:
        """Whether the rule looks at what is outside."""
        return self.masked and self.scheme == "ZScoreNormalization"

    def apply(self, channel: Array, inside: Array | None) -> None:
        """Normalize a channel (*spatial) float32 in place.

        Args:
            channel: changed; its memory layout is that of nnU-Net, as NumPy's sums depend on it.
            inside: (*spatial) bool, needed where `needs_mask` is true.
        """
        SCHEMES[self.scheme](self, channel, inside)

    def to_dict(self) -> dict[str, Any]:
        """The rule as plain values, without those that are not set."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> IntensityRule:
        """The rule that `to_dict` wrote.

        Raises:
            PlanError: an unknown field or a value that is not valid.
        """
        known = {item.name for item in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown or "scheme" not in values:
            raise PlanError(f"a normalization with {sorted(values)}", expected=f"scheme, and of {', '.join(known)}")
        return cls(**values)


def _z_score(rule: IntensityRule, channel: Array, inside: Array | None) -> None:
    if rule.masked:
        assert inside is not None
        mean, std = channel[inside].mean(), channel[inside].std()
        channel[inside] = (channel[inside] - mean) / max(std, SMALLEST)
        return
    mean, std = channel.mean(), channel.std()
    channel -= mean
    channel /= max(std, SMALLEST)


def _ct(rule: IntensityRule, channel: Array, inside: Array | None) -> None:
    assert rule.std is not None
    np.clip(channel, rule.percentile_00_5, rule.percentile_99_5, out=channel)
    channel -= rule.mean
    channel /= max(rule.std, SMALLEST)


def _none(rule: IntensityRule, channel: Array, inside: Array | None) -> None:
    return


def _rescale(rule: IntensityRule, channel: Array, inside: Array | None) -> None:
    channel -= channel.min()
    channel /= np.clip(channel.max(), SMALLEST, None)


def _rgb(rule: IntensityRule, channel: Array, inside: Array | None) -> None:
    low, high = float(channel.min()), float(channel.max())
    if low < 0 or high > 255:
        raise VolumeError(
            f"values from {low:g} to {high:g} in a channel of colour", expected="0 to 255: the model was made for RGB"
        )
    channel /= 255.0


SCHEMES: dict[str, Callable[[IntensityRule, Array, Array | None], None]] = {
    "ZScoreNormalization": _z_score,
    "CTNormalization": _ct,
    "NoNormalization": _none,
    "RescaleTo01Normalization": _rescale,
    "RGBTo01Normalization": _rgb,
}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
