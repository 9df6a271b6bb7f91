"""A peer: its names beside ours, its defaults that a file does not record, and the tensors that we leave out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from resvox.blueprint import Blueprint
from resvox.weights.architecture import Architecture
from resvox.weights.importers.table import Table

Shapes = Mapping[str, tuple[int, ...]]
Options = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What distinguishes peers that use the same names: shapes, and prefixes that were removed from the names."""

    shapes: Shapes
    wrappers: tuple[str, ...] = ()

    @property
    def spatial_dims(self) -> int:
        """2 or 3, from the kernels; 2 where there are no kernels."""
        return max((len(shape) - 2 for shape in self.shapes.values() if len(shape) > 3), default=2)

    @property
    def in_channels(self) -> int:
        """Channels of the input, 0 where there is no ``conv1``."""
        shape = self.shapes.get("conv1.weight", ())
        return shape[1] if len(shape) > 1 else 0

    def has(self, pattern: str) -> bool:
        """Whether the regular expression is found in a name."""
        return any(re.search(pattern, name) for name in self.shapes)

    @property
    def has_classifier(self) -> bool:
        """Whether there is a linear layer ``fc``."""
        return "fc.weight" in self.shapes

    @property
    def has_shortcut_bias(self) -> bool:
        """Whether the convolutions of the shortcuts have a bias."""
        return self.has(r"downsample\.0\.bias$")


def no_defaults(architecture: Architecture) -> tuple[Options, ...]:
    """The defaults of a peer that computes exactly what the row of the catalog does."""
    return ({},)


def never(evidence: Evidence) -> bool:
    """The evidence for a peer that cannot be distinguished from others."""
    return False


def no_second_name(name: str) -> str | None:
    """The first name of a tensor for a peer that has every tensor under one name."""
    return None


def no_second_names(name: str) -> tuple[str, ...]:
    """The further names of a tensor for such a peer."""
    return ()


@dataclass(frozen=True, kw_only=True)
class Importer:
    """One kind of network of a peer.

    Attributes:
        peer: name of the peer, as users give it.
        title: name of the kind, as reports show it.
        table: its names beside ours.
        peer_defaults: options of the network that files do not record. The first are the peer's defaults; the others
            are what it also builds with the same tensors.
        is_likely: whether weights are of this kind, where several peers use the same names.
        unconstrained: (path, field) pairs that neither a file nor the peer's defaults settle: the model decides.
        heads: prefixes of tensors of another head, with what they are.
        left_out: prefixes of tensors that are always left out, with the reason.
        spatial_dims: numbers of spatial axes that it is built with.
        first_name: for a peer that has tensors under several names: from a further name to the first, else None.
        second_names: from a first name to the further ones.
    """

    peer: str
    title: str
    table: Table
    peer_defaults: Callable[[Architecture], tuple[Options, ...]] = no_defaults
    is_likely: Callable[[Evidence], bool] = never
    unconstrained: tuple[tuple[str, str], ...] = ()
    heads: tuple[tuple[str, str], ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    spatial_dims: tuple[int, ...] = (2, 3)
    first_name: Callable[[str], str | None] = no_second_name
    second_names: Callable[[str], tuple[str, ...]] = no_second_names

    @property
    def style(self) -> str:
        """The style "torch" or "keras": names of tensors and order of axes."""
        return self.table.style

    def knows(self, name: str) -> bool:
        """Whether the peer uses the name for a layer, for another head, or for something that is left out."""
        first = self.first_name(name)
        if first is not None:
            return self.table.ours(first) is not None
        return self.table.ours(name) is not None or bool(self.head(name) or self.dropped(name))

    def dropped(self, name: str) -> str | None:
        """Why a tensor is always left out; None where it is not."""
        return next((reason for start, reason in self.left_out if name.startswith(start)), None)

    def head(self, name: str) -> str | None:
        """To which other head a tensor belongs; None for tensors of the network."""
        return next((title for start, title in self.heads if name.startswith(start)), None)


def no_importers(source: Any) -> tuple[Importer, ...]:
    """Further importers of a peer whose names do not depend on the network."""
    return ()


def no_objection(blueprint: Blueprint) -> tuple[str, str] | None:
    """The objection of a peer that accepts all networks whose names it has."""
    return None


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A library whose weights are read and written: one file of this folder each.

    Attributes:
        importers: its kinds of networks.
        of_shapes: further kinds, whose names depend on the network: found from the tensors of a file.
        of_blueprint: the same for a network whose weights are to be written.
        objection: what prevents writing a network's weights: what was got and what is expected; None otherwise.
    """

    importers: tuple[Importer, ...]
    of_shapes: Callable[[Shapes], tuple[Importer, ...]] = no_importers
    of_blueprint: Callable[[Blueprint], tuple[Importer, ...]] = no_importers
    objection: Callable[[Blueprint], tuple[str, str] | None] = no_objection

    @property
    def name(self) -> str:
        """As users give it."""
        return self.importers[0].peer
