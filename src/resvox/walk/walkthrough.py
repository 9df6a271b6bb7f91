"""The walkthrough: the stages of a blueprint for an input with its batch, their sums, and the ways to show them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from resvox.blueprint import Blueprint, Stage
from resvox.blueprint.choices import plain
from resvox.catalog import get_blueprint
from resvox.errors import BlueprintError
from resvox.walk import tables

DOCUMENTED_INPUT = (1, 3, 214, 214)


@dataclass(frozen=True, kw_only=True)
class Walkthrough:
    """What a network does to an input, one row per step.

    Attributes:
        blueprint: the network.
        input_shape: (batch, channels, \\*size).
        stages: the steps in the order of the forward pass; a residual layer holds its blocks as ``children``, and
            these their operations. Shapes carry the batch; FLOPs and activations count all of it. Receptive field
            and stride are in voxels of the input, per axis.
    """

    blueprint: Blueprint
    input_shape: tuple[int, ...]
    stages: tuple[Stage, ...]

    @staticmethod
    def of(model: str | Blueprint, input_shape: Iterable[int], /, **arguments: Any) -> Walkthrough:
        """The walkthrough without printing it; arguments and errors as of :func:`walkthrough`."""
        shape = _checked_shape(input_shape)
        blueprint = _given(model, shape, arguments) if isinstance(model, Blueprint) else _named(model, shape, arguments)
        stages = tuple(_batched(stage, shape[0]) for stage in blueprint.stages(shape[2:]))
        return Walkthrough(blueprint=blueprint, input_shape=shape, stages=stages)

    @property
    def parameters(self) -> int:
        """Learned values of all steps."""
        return self.blueprint.parameters

    @property
    def flops(self) -> int:
        """Floating-point operations of the whole batch: twice the multiply-adds."""
        return sum(stage.flops for stage in self.stages)

    @property
    def memory_bytes(self) -> int:
        """Bytes of all results of the operations in float32: about what a training step keeps."""
        return sum(tables.memory_bytes(stage) for stage in self.stages)

    def to_json(self) -> str:
        """All rows down to single operations, as one JSON object; the figures are plain numbers."""
        return json.dumps(tables.as_data(self), indent=2)

    def to_markdown(self, *, depth: int | None = None) -> str:
        """A Markdown table.

        Args:
            depth: how many levels of nested rows; ``None`` shows the stages and their blocks.
        """
        return tables.markdown(self, depth)

    def to_text(self, *, depth: int | None = None, width: int | None = None) -> str:
        """The table as plain text, as wide as its columns need unless ``width`` is given."""
        return tables.text(self, depth, width)

    def print(self, *, depth: int | None = None) -> None:
        """The table on the terminal; written to a file or a pipe, no column is cut short."""
        tables.show(self, depth)

    def __repr__(self) -> str:
        return f"Walkthrough({tables.summary(self)})"

    def _repr_html_(self) -> str:
        return tables.html_table(self, None)


def walkthrough(model: str | Blueprint, input_shape: Iterable[int] = DOCUMENTED_INPUT, **arguments: Any) -> Walkthrough:
    """Walk through a network without building it: no tensor is allocated, neither framework is imported.

    Args:
        model: a name of the catalog or a blueprint.
        input_shape: (batch, channels, H, W) or (batch, channels, D, H, W), PyTorch's order in every case. It
            sets ``spatial_dims`` and ``in_channels``.
        **arguments: those of :func:`resvox.create_model`, where ``model`` is a name.

    Returns:
        The walkthrough. It is also printed, except in a notebook, which displays the value.

    Raises:
        BlueprintError: a shape that is not valid, or dims and channels that contradict it.
        UnknownModelError: the catalog does not have this name.

    Example:
        >>> import resvox
        >>> walk = resvox.walkthrough("resnet26", (1, 3, 214, 214))
        >>> walk.stages[-1].output_shape
        (1, 1000)
    """
    walk = Walkthrough.of(model, input_shape, **arguments)
    if not tables.in_notebook():
        walk.print()
    return walk


def _checked_shape(input_shape: Iterable[int]) -> tuple[int, ...]:
    given = plain(input_shape)
    shape = tuple(given) if not isinstance(given, (str, int)) else ()
    if len(shape) not in (4, 5) or not all(type(n) is int and n >= 1 for n in shape):
        raise BlueprintError(
            f"input_shape={input_shape!r}",
            expected="(batch, channels, H, W) or (batch, channels, D, H, W), whole numbers of at least 1",
        )
    return shape


def _agree(name: str, given: object, shape: tuple[int, ...]) -> None:
    implied = len(shape) - 2 if name == "spatial_dims" else shape[1]
    if given is not None and given != implied:
        raise BlueprintError(
            f"{name}={given!r} and input_shape={shape}, which gives {implied}",
            expected="two that agree",
            fix="give input_shape=(batch, channels, *size) for the network meant, such as (1, 1, 64, 64, 64)",
        )


def _given(blueprint: Blueprint, shape: tuple[int, ...], arguments: dict[str, Any]) -> Blueprint:
    if arguments:
        raise BlueprintError(
            f"a blueprint and arguments {sorted(arguments)}",
            expected="one of the two",
            fix="give the arguments to resvox.get_blueprint",
        )
    _agree("spatial_dims", blueprint.spatial_dims, shape)
    _agree("in_channels", blueprint.in_channels, shape)
    return blueprint


def _named(name: str, shape: tuple[int, ...], arguments: dict[str, Any]) -> Blueprint:
    given = dict(arguments)
    for taken in ("name", "input_shape"):
        if taken in given:
            raise BlueprintError(f"{taken}={given[taken]!r} as an option of the model", expected="another option")
    _agree("spatial_dims", given.pop("spatial_dims", None), shape)
    _agree("in_channels", given.pop("in_channels", None), shape)
    return get_blueprint(name, spatial_dims=len(shape) - 2, in_channels=shape[1], **given)


def _batched(stage: Stage, batch: int) -> Stage:
    return replace(
        stage,
        input_shape=(batch, *stage.input_shape[1:]),
        output_shape=(batch, *stage.output_shape[1:]),
        flops=stage.flops * batch,
        activations=stage.activations * batch,
        children=tuple(_batched(child, batch) for child in stage.children),
    )
