"""The blueprint: a resolved network, its name and its interface. Its shapes and counts are known without tensors."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from resvox.blueprint import blocks, leaves, networks, node, transformers
from resvox.blueprint.choices import plain
from resvox.blueprint.monai import networks as monai_networks
from resvox.blueprint.node import Node, TensorSpec
from resvox.blueprint.staged import networks as staged_networks
from resvox.blueprint.tasks import FEATURES, TASKS
from resvox.blueprint.trace import Stage, trace
from resvox.errors import BlueprintError, suggest

FORMAT = 1
MAX_DEPTH = 40  # of a tree read from a file; the deepest tree of the catalog has 11 levels


@dataclass(frozen=True, kw_only=True)
class Blueprint:
    """A network with every number resolved.

    Attributes:
        name: the catalog's name (``"resnet50"``, ``"unet"``).
        task: ``"classification"``, ``"segmentation"``, ``"regression"`` or ``"features"`` (no head).
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        num_classes: channels of the output; 0 for features.
        network: the tree.
        out_indices: the maps P1, P2, ... that a network without a head returns, counted from 0; None for all of them.
    """

    name: str
    task: str
    spatial_dims: int
    in_channels: int
    num_classes: int
    network: networks.Network
    out_indices: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        known = (*TASKS, FEATURES)
        leaves.require(self.task in known, f"task={self.task!r}", "one of " + ", ".join(known))
        leaves.require(self.spatial_dims in (2, 3), f"spatial_dims={self.spatial_dims!r}", "2 or 3")
        if self.out_indices is not None:
            self._check_indices(self.out_indices)

    def _check_indices(self, indices: tuple[int, ...]) -> None:
        network = self.network
        encoder = isinstance(network, networks.Encoder) and self.task == "features"
        leaves.require(encoder, f"out_indices={indices!r} of {self.name!r}", "a network without a head")
        levels = 1 + len(network.stage_list) if isinstance(network, networks.Encoder) else 0
        good = bool(indices) and all(leaves.is_whole(index, 0) and index < levels for index in indices)
        leaves.require(good, f"out_indices={indices!r}", f"whole numbers from 0 to {levels - 1}, one for each map")

    @property
    def maps(self) -> list[int]:
        """Which of the maps P1, P2, ... an encoder returns, counted from 0.

        Raises:
            BlueprintError: the network is not an encoder.
        """
        if not isinstance(self.network, networks.Encoder):
            raise BlueprintError(f"{self.name!r}, which returns no maps", expected="a residual network")
        every = range(1 + len(self.network.stage_list))
        return list(every if self.out_indices is None else self.out_indices)

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
        """The trace for an input of that spatial size ((D,) H, W): one row per operation, blocks nested.

        Raises:
            BlueprintError: the size has the wrong number of axes, or an axis below 1.
        """
        sizes = tuple(plain(each) for each in size)
        good = len(sizes) == self.spatial_dims and all(type(n) is int and n >= 1 for n in sizes)
        axes = "(D, H, W)" if self.spatial_dims == 3 else "(H, W)"
        leaves.require(good, f"size={sizes!r}", f"{self.spatial_dims} whole numbers of at least 1, {axes}")
        return trace(self.network, self.in_channels, sizes)

    def flops(self, size: Iterable[int]) -> int:
        """Floating-point operations for a batch of 1 of that spatial size: twice the multiply-adds."""
        return sum(stage.flops for stage in self.stages(size))

    def to_json(self) -> str:
        """The whole tree as JSON with a format number; every default is written out."""
        data = {"format": FORMAT, **_encode(self)}
        if self.out_indices is None:  # left out, so that versions without it read the file
            del data["out_indices"]
        return json.dumps(data, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> Blueprint:
        """The inverse of :meth:`to_json`.

        The text may come from an untrusted file: every field is checked against its type, and the network is
        traced to check that its layers fit together.

        Raises:
            BlueprintError: not JSON, another format number, a node that is unknown or not valid, or layers that
                do not fit together.
        """
        try:
            data = json.loads(text)
        except (ValueError, TypeError, RecursionError) as error:
            raise BlueprintError("a blueprint that is not JSON", expected="the text of to_json()") from error
        if not isinstance(data, dict) or data.pop("format", None) != FORMAT:
            raise BlueprintError(
                "a blueprint of another format",
                expected=f"format {FORMAT}",
                fix="read it with the resvox version that wrote it, or a newer one",
            )
        found = _decode({"out_indices": None, **data} if data.get("kind!") == "Blueprint" else data)
        if not isinstance(found, Blueprint):
            raise BlueprintError(f"a {type(found).__name__}", expected="a Blueprint")
        _check_fit(found)
        return found


def encoder_blueprint(blueprint: Blueprint) -> Blueprint:
    """The encoder of a segmentation model as a blueprint of its own."""
    network = blueprint.network
    if not isinstance(network, networks.Segmenter) or not isinstance(network.encoder, networks.Encoder):
        raise BlueprintError(
            f"{blueprint.name!r}, which has no residual network as its encoder", expected="a model such as 'unet'"
        )
    return dataclasses.replace(
        blueprint, name=f"{blueprint.name}.encoder", task="features", num_classes=0, network=network.encoder
    )


def _kinds() -> dict[str, type]:
    found: dict[str, type] = {"Blueprint": Blueprint}
    for module in (node, leaves, blocks, transformers, networks, staged_networks, monai_networks):
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Node) and value is not Node:
                found[value.__name__] = value
    return found


def _encode(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"kind!": type(value).__name__, **fields}
    return [_encode(item) for item in value] if isinstance(value, tuple) else value


def _decode(value: Any, depth: int = 0) -> Any:
    if depth > MAX_DEPTH:
        raise BlueprintError(
            f"a blueprint nested deeper than {MAX_DEPTH} levels", expected="a blueprint written by resvox"
        )
    if isinstance(value, list):
        return tuple(_decode(item, depth + 1) for item in value)
    if not isinstance(value, dict):
        return value
    name = value.get("kind!")
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise BlueprintError(
            f"a node of kind {name!r}",
            expected=f"one of the {len(_KINDS)} kinds of this version, such as Conv or ResNet",
            fix=suggest(str(name), _KINDS) or "read it with the resvox version that wrote it",
        )
    arguments = {key: _decode(item, depth + 1) for key, item in value.items() if key != "kind!"}
    hints = _hints(kind)
    if set(arguments) != set(hints):
        odd = sorted(set(arguments) ^ set(hints))
        raise BlueprintError(f"{name} with missing or unknown fields {odd}", expected=f"{sorted(hints)}")
    for key, argument in arguments.items():
        if not _is_a(argument, hints[key]):
            raise BlueprintError(f"{name} whose {key} is {_brief(argument)}", expected=f"{key}: {_spell(hints[key])}")
    return kind(**arguments)


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {f.name: hints[f.name] for f in dataclasses.fields(kind)}


def _is_a(value: Any, hint: Any) -> bool:
    """Whether a value has the type that a field of a node is annotated with."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_is_a(value, each) for each in inner)
    if origin is tuple:  # all tuples of nodes are tuple[X, ...]
        return isinstance(value, tuple) and all(_is_a(item, inner[0]) for item in value)
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)
    # type() is exact: True is an int, and not a number of channels
    return type(value) is hint if hint in (int, bool, str, type(None)) else isinstance(value, hint)


def _brief(value: Any) -> str:
    return f"a {type(value).__name__}" if isinstance(value, Node | tuple) else f"{value!r}"[:60]


def _spell(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else re.sub(r"[\w]+\.", "", f"{hint}")


def _check_fit(found: Blueprint) -> None:
    """Trace every layer: a network that cannot be traced cannot be built.

    Once at the smallest size, and once at a size at which branches of different strides differ where they join.
    """
    try:
        for size in (1, 65537):  # tracing is arithmetic: a large size costs nothing
            found.stages((size,) * found.spatial_dims)
    except BlueprintError:
        raise
    except (ValueError, TypeError, AttributeError, AssertionError, IndexError) as error:
        raise BlueprintError(
            f"a network whose layers do not fit together ({error})", expected="the text of to_json()"
        ) from error


_KINDS = _kinds()
