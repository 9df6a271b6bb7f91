"""Shape tracing: the symbolic feature map, a row of the report, and the recorder of rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction

from resvox.blueprint.leaves import Axes
from resvox.blueprint.node import Node


@dataclass(frozen=True, kw_only=True)
class FeatureMap:
    """A symbolic feature map: its channels and size, the stride and the receptive field of one of its voxels.

    ``tokens``: whether its voxels are a sequence of tokens, as in a transformer.
    """

    channels: int
    size: Axes
    stride: tuple[Fraction, ...]
    receptive_field: Axes
    tokens: bool = False

    @property
    def shape(self) -> Axes:
        """(batch 1, channels, \\*size), or (batch 1, tokens, channels); the output of a linear layer has no size."""
        return (1, math.prod(self.size), self.channels) if self.tokens else (1, self.channels, *self.size)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One row of a trace: an operation, or a group of operations (then ``children`` holds its rows).

    Shapes are (batch 1, channels, \\*size), of tokens (batch 1, tokens, channels); ``stride`` and ``receptive_field``
    are in voxels of the input; ``activations`` counts the values written by the operations. ``operation`` is a text to
    be read; code that needs to know what a row is uses ``node`` (the blueprint's node of an operation, None for groups)
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
class Recorder:
    """Collects rows; the sums of a group come from its rows. The parameters of a layer count where it is first used."""

    rows: list[Stage] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def leaf(
        self, path: str, operation: str, node: Node, before: FeatureMap, after: FeatureMap, flops: int
    ) -> FeatureMap:
        """Record one operation and return its output, ``after``."""
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
        self, path: str, operation: str, before: FeatureMap, *, feature_level: int | None = None
    ) -> Iterator[list[FeatureMap]]:
        """Rows added inside become children; the caller appends the output of the group to the list."""
        outer, self.rows = self.rows, []
        out: list[FeatureMap] = []
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


def _row(path: str, operation: str, before: FeatureMap, after: FeatureMap) -> Stage:
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
