"""The blueprint: a resolved network, its name and its interface. Everything about it is known without a tensor."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from resvox.blueprint import blocks, leaves, networks, node
from resvox.blueprint.node import Node, TensorSpec
from resvox.blueprint.trace import Stage, trace
from resvox.errors import BlueprintError

FORMAT = 1
TASKS = ("classification", "segmentation", "regression", "features")


@dataclass(frozen=True, kw_only=True)
class Blueprint:
    """A network, resolved.

    Attributes:
        name: the catalog's name (``"resnet50"``, ``"unet"``).
        task: ``"classification"``, ``"segmentation"``, ``"regression"`` or ``"features"`` (no head).
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        num_classes: channels of the output; 0 for features.
        network: the tree.
    """

    name: str
    task: str
    spatial_dims: int
    in_channels: int
    num_classes: int
    network: networks.Network

    def __post_init__(self) -> None:
        leaves.require(self.task in TASKS, f"task={self.task!r}", "one of " + ", ".join(TASKS))
        leaves.require(self.spatial_dims in (2, 3), f"spatial_dims={self.spatial_dims!r}", "2 or 3")

    @property
    def parameters(self) -> int:
        """Learned values: PyTorch's parameters, Keras's trainable weights."""
        return self.network.parameters

    @property
    def statistics(self) -> int:
        """Running means and variances; Keras's ``count_params()`` is ``parameters + statistics``."""
        return self.network.statistics

    def tensors(self) -> dict[str, TensorSpec]:
        """Every tensor by its name, in the order of PyTorch's state dict, shapes in PyTorch's axis order."""
        return dict(self.network.tensors())

    def stages(self, size: Iterable[int]) -> tuple[Stage, ...]:
        """The walk for an input of that spatial size ((D,) H, W): a row an operation, blocks nested.

        Raises:
            BlueprintError: the size has the wrong number of axes, or an axis below 1.
        """
        sizes = tuple(size)
        good = len(sizes) == self.spatial_dims and all(type(n) is int and n >= 1 for n in sizes)
        axes = "(D, H, W)" if self.spatial_dims == 3 else "(H, W)"
        leaves.require(good, f"size={sizes!r}", f"{self.spatial_dims} whole numbers of at least 1, {axes}")
        return trace(self.network, self.in_channels, sizes)

    def flops(self, size: Iterable[int]) -> int:
        """Floating-point operations for a batch of 1 of that spatial size: twice the multiply-adds."""
        return sum(stage.flops for stage in self.stages(size))

    def to_json(self) -> str:
        """The whole tree as JSON with a format number; every default is written out."""
        return json.dumps({"format": FORMAT, **_encode(self)}, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> Blueprint:
        """The inverse of :meth:`to_json`.

        Raises:
            BlueprintError: not JSON, another format number, or a node that is unknown or not valid.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BlueprintError("a blueprint that is not JSON", expected="the text of to_json()") from error
        if not isinstance(data, dict) or data.pop("format", None) != FORMAT:
            raise BlueprintError(
                "a blueprint of another format",
                expected=f"format {FORMAT}",
                fix="read it with the resvox version that wrote it, or a newer one",
            )
        found = _decode(data)
        if not isinstance(found, Blueprint):
            raise BlueprintError(f"a {type(found).__name__}", expected="a Blueprint")
        return found


def _kinds() -> dict[str, type]:
    found: dict[str, type] = {"Blueprint": Blueprint}
    for module in (node, leaves, blocks, networks):
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Node) and value is not Node:
                found[value.__name__] = value
    return found


def _encode(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"kind!": type(value).__name__, **fields}
    return [_encode(item) for item in value] if isinstance(value, tuple) else value


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_decode(item) for item in value)
    if not isinstance(value, dict):
        return value
    name = value.get("kind!")
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise BlueprintError(f"a node of kind {name!r}", expected="one of " + ", ".join(sorted(_KINDS)))
    arguments = {key: _decode(item) for key, item in value.items() if key != "kind!"}
    known = {f.name for f in dataclasses.fields(kind)}
    if set(arguments) != known:
        odd = sorted(set(arguments) ^ known)
        raise BlueprintError(f"{name} with missing or unknown fields {odd}", expected=f"{sorted(known)}")
    try:
        return kind(**arguments)
    except (TypeError, AttributeError) as error:
        raise BlueprintError(f"{name} with fields of a wrong type ({error})", expected="valid fields") from error


_KINDS = _kinds()
