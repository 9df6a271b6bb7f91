"""Choices that apply to all layers of a network: the norm, the activation, sizes per axis."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from resvox.blueprint.leaves import ACTIVATIONS, NORMS, Activation, Axes, Norm, is_number, is_whole, require
from resvox.errors import BlueprintError, suggest

OUTPUT_ACTIVATIONS = ("softmax", "sigmoid")
HIDDEN_ACTIVATIONS = tuple(a for a in ACTIVATIONS if a not in (*OUTPUT_ACTIVATIONS, "identity"))
_SLOPES = {"leaky_relu": 0.01, "elu": 1.0}
_ARGUMENTS = {
    "batch": {"eps", "momentum", "affine"},
    "instance": {"eps", "affine"},
    "group": {"eps", "affine", "num_groups"},
}


def plain(value: Any) -> Any:
    """Numbers of NumPy or PyTorch, and arrays of them, in Python's types; other values are returned unchanged."""
    if type(value) in (type(None), bool, int, float, str):
        return value
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        items = [plain(each) for each in value]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    tolist = getattr(value, "tolist", None)  # an array, or NumPy's bool, which is not registered as a number
    return plain(tolist()) if callable(tolist) else value


@dataclass(frozen=True, kw_only=True)
class NormChoice:
    """A norm whose number of channels is not known yet. eps 1e-5 and momentum 0.1 are PyTorch's defaults."""

    kind: str = "batch"
    eps: float = 1e-5
    momentum: float = 0.1
    affine: bool = True
    num_groups: int | None = None

    def __post_init__(self) -> None:
        good = self.num_groups is None or is_whole(self.num_groups, 1)
        require(good, f"norm num_groups={self.num_groups!r}", "a whole number of at least 1, or None")
        # a norm over one channel checks all other fields
        Norm(kind=self.kind, channels=1, eps=self.eps, momentum=self.momentum, affine=self.affine, groups=1)

    @staticmethod
    def of(value: object, option: str = "norm") -> NormChoice:
        """From ``"group"`` or ``("group", {"num_groups": 8})``, MONAI's syntax; errors name the option."""
        if isinstance(value, NormChoice):
            return value
        kind, arguments = _split(option, value, NORMS)
        _known_arguments(f"{option} {kind!r}", arguments, _ARGUMENTS[kind])
        return NormChoice(kind=kind, **arguments)

    def over(self, channels: int) -> Norm:
        """The norm over that many channels. Group norm without a number takes the largest divisor up to 32."""
        groups = 0
        if self.kind == "group":
            groups = self.num_groups if self.num_groups is not None else math.gcd(32, channels)
        return Norm(
            kind=self.kind,
            channels=channels,
            eps=self.eps,
            momentum=self.momentum,
            affine=self.affine,
            groups=groups,
        )


def activation_of(value: object, option: str = "activation") -> Activation:
    """From ``"relu"`` or ``("leaky_relu", {"negative_slope": 0.2})``: the activation of hidden layers."""
    if isinstance(value, Activation):
        return value
    kind, arguments = _split(option, value, HIDDEN_ACTIVATIONS)
    allowed = {"leaky_relu": {"negative_slope"}, "elu": {"alpha"}}.get(kind, set())
    _known_arguments(f"{option} {kind!r}", arguments, allowed)
    for name, slope in arguments.items():
        require(is_number(slope), f"{option} {kind!r} with {name}={slope!r}", "a number")
    return Activation(kind=kind, slope=float(next(iter(arguments.values()), _SLOPES.get(kind, 0.0))))


def output_activation_of(value: object) -> Activation | None:
    """The activation after the last layer: ``None`` or ``"linear"`` for logits, ``"softmax"``, ``"sigmoid"``."""
    if value is None or value == "linear":
        return None
    if not isinstance(value, str) or value not in OUTPUT_ACTIVATIONS:
        raise BlueprintError(f"output_activation={value!r}", expected="None (logits), 'softmax' or 'sigmoid'")
    return Activation(kind=value)


def per_axis(name: str, value: int | Iterable[int], spatial_dims: int) -> Axes:
    """One number for every axis, or one number each, as a tuple of ``spatial_dims`` numbers."""
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, (int, tuple, list)):
        raise BlueprintError(f"{name}={value!r}", expected=f"a whole number or {spatial_dims} of them")
    axes = (value,) * spatial_dims if isinstance(value, int) else tuple(value)
    good = len(axes) == spatial_dims and all(is_whole(n, 1) for n in axes)
    require(good, f"{name}={value!r}", f"a whole number of at least 1, or {spatial_dims} of them (one per axis)")
    return axes


def _split(what: str, value: object, known: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
    value = plain(value)
    kind, arguments = value, {}
    if isinstance(value, (tuple, list)) and len(value) == 2 and isinstance(value[1], Mapping):
        kind, arguments = value[0], dict(value[1])
    if not isinstance(kind, str) or kind not in known:
        raise BlueprintError(
            f"{what}={value!r}",
            expected=f"one of {', '.join(known)}, or a pair such as ({known[0]!r}, {{...}})",
            fix=suggest(str(kind), known),
        )
    return kind, arguments


def _known_arguments(owner: str, arguments: Mapping[str, object], known: set[str]) -> None:
    for name in arguments:
        if name not in known:
            expected = ", ".join(sorted(known)) or "no arguments"
            raise BlueprintError(f"{owner} with {name}=", expected=expected, fix=suggest(name, known))
