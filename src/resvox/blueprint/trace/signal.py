"""What a walk writes down: a feature map in thought, a row, and the tape that collects rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction

from resvox.blueprint.leaves import Axes
from resvox.blueprint.node import Node


@dataclass(frozen=True, kw_only=True)
class Signal:
    """A feature map in thought: its channels and size, the stride and field of one of its voxels.

    ``tokens``: whether its voxels stand in a row, as a transformer has them.
    """

    channels: int
    size: Axes
    stride: tuple[Fraction, ...]
    receptive_field: Axes
    tokens: bool = False

    @property
    def shape(self) -> Axes:
        """(batch 1, channels, \\*size), or (batch 1, tokens, channels); a linear layer's signal has no size."""
        return (1, math.prod(self.size), self.channels) if self.tokens else (1, self.channels, *self.size)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One row of a walk: an operation or a group of them (then ``children`` holds its rows).

    Shapes are (batch 1, channels, \\*size), of tokens (batch 1, tokens, channels); ``stride`` and ``receptive_field``
    are in voxels of the input; ``activations`` counts the values written by the operations. ``operation`` is a text for
    people; code that needs to know what a row is asks ``node`` (the blueprint's node of an operation, None for groups)
    and ``feature_level`` (1 to 5 where the output is that level of an encoder's feature pyramid, else None).
    """

    name: str
    operation: str
    input_shape: Axes
    output_shape: Axes
    parameters: int
    statistics: int
    flops: int
    receptive_field: Axes
    stride: Axes
    activations: int
    children: tuple[Stage, ...] = ()
    node: Node | None = field(default=None, repr=False, compare=False)
    feature_level: int | None = None

    def walk(self) -> Iterator[Stage]:
        """This row and all below it, depth first."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass
class Tape:
    """Collects rows; a group's sums come from its rows. A layer that is used again has no parameters there."""

    rows: list[Stage] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def leaf(self, path: str, operation: str, node: Node, before: Signal, after: Signal, flops: int) -> Signal:
        row, first = _row(path, operation, before, after), path not in self.seen
        self.seen.add(path)
        self.rows.append(
            replace(
                row,
                parameters=node.parameters if first else 0,
                statistics=node.statistics if first else 0,
                flops=flops,
                activations=math.prod(after.shape),
                node=node,
            )
        )
        return after

    @contextmanager
    def group(
        self, path: str, operation: str, before: Signal, *, feature_level: int | None = None
    ) -> Iterator[list[Signal]]:
        """Rows added inside become children; the caller appends the signal that leaves the group."""
        outer, self.rows = self.rows, []
        out: list[Signal] = []
        yield out
        inner, self.rows = self.rows, outer
        row = _row(path, operation, before, out[-1])
        self.rows.append(
            replace(
                row,
                parameters=sum(r.parameters for r in inner),
                statistics=sum(r.statistics for r in inner),
                flops=sum(r.flops for r in inner),
                activations=sum(r.activations for r in inner),
                children=tuple(inner),
                feature_level=feature_level,
            )
        )


def _row(path: str, operation: str, before: Signal, after: Signal) -> Stage:
    return Stage(
        name=path,
        operation=operation,
        input_shape=before.shape,
        output_shape=after.shape,
        parameters=0,
        statistics=0,
        flops=0,
        receptive_field=after.receptive_field,
        stride=tuple(math.ceil(s) for s in after.stride),
        activations=0,
    )
