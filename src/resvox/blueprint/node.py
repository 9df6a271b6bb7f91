"""The tree that describes a network: frozen nodes, named children, and the tensors that they own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Role = Literal["parameter", "statistic"]


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One tensor of a network: its shape in PyTorch's axis order and whether an optimizer learns it."""

    shape: tuple[int, ...]
    role: Role

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node of the tree. A field that holds a node is a child; its name is a part of the names of the weights.

    Therefore names of child fields contain no ``_`` (``conv1``, ``bn1``, ``downsample``); those of plain data may
    (``in_channels``).
    """

    def children(self) -> Iterator[tuple[str, Node]]:
        """The direct children in the order of the forward pass, each with its path segment."""
        # a dataclass's fields are the instance's own values, in the order of declaration
        for name, value in vars(self).items():
            if isinstance(value, Node):
                yield name, value

    def own_tensors(self) -> Iterator[tuple[str, TensorSpec]]:
        """The tensors this node itself owns, by their last path segment (``weight``, ``running_mean``)."""
        return iter(())

    def leaves(self, path: str = "") -> Iterator[tuple[str, Node]]:
        """Every node without children below this one, with its full path."""
        children = list(self.children())
        if not children:
            yield path, self
        for name, child in children:
            yield from child.leaves(join(path, name))

    def tensors(self, path: str = "") -> Iterator[tuple[str, TensorSpec]]:
        """Every tensor at and below this node, by its full name, in the order of PyTorch's state dict."""
        for name, spec in self.own_tensors():
            yield join(path, name), spec
        for name, child in self.children():
            yield from child.tensors(join(path, name))

    @property
    def parameters(self) -> int:
        """Number of learned values: PyTorch's parameters, Keras's trainable weights."""
        return sum(spec.size for _, spec in self.tensors() if spec.role == "parameter")

    @property
    def statistics(self) -> int:
        """Number of running means and variances: PyTorch's buffers less the step counters."""
        return sum(spec.size for _, spec in self.tensors() if spec.role == "statistic")


@dataclass(frozen=True, kw_only=True)
class Sequence(Node):
    """Nodes run one after another; the segments are ``0``, ``1``, ... as in ``torch.nn.Sequential``."""

    items: tuple[Node, ...]

    def children(self) -> Iterator[tuple[str, Node]]:
        """The items with their numbers as path segments."""
        for index, item in enumerate(self.items):
            yield str(index), item

    def __len__(self) -> int:
        return len(self.items)


def join(path: str, name: str) -> str:
    """``encoder`` and ``conv1`` make ``encoder.conv1``; an empty part adds no dot."""
    return f"{path}.{name}" if path and name else path or name
