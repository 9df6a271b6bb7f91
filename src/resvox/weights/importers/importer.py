"""What is known of a peer: its names, its habits that no file tells, and what of a file is no network of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from resvox.weights.architecture import Architecture
from resvox.weights.importers.table import Table

Shapes = Mapping[str, tuple[int, ...]]
Options = Mapping[str, Any]


def nothing_untold(architecture: Architecture) -> tuple[Options, ...]:
    """The habits of a peer that computes what our catalog's row does, and nothing else."""
    return ({},)


@dataclass(frozen=True, kw_only=True)
class Importer:
    """One peer, or one of its kinds of networks.

    Attributes:
        peer: the name users say.
        title: the name reports say.
        table: its names beside ours.
        habits: options of the network that files do not tell. The first are the peer's defaults; the others are what
            it also builds with the same tensors.
        free: (path, field) pairs that neither a file nor the peer's defaults settle: the model decides.
        heads: beginnings of names of tensors that belong to another head, with what they are.
        left_out: beginnings of names that are left out always, with the reason.
        spatial_dims: that it has.
    """

    peer: str
    title: str
    table: Table
    habits: Callable[[Architecture], tuple[Options, ...]] = nothing_untold
    free: tuple[tuple[str, str], ...] = ()
    heads: tuple[tuple[str, str], ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    spatial_dims: tuple[int, ...] = (2, 3)

    @property
    def style(self) -> str:
        """ "torch" or "keras": how tensors are named and which axes come first."""
        return self.table.style

    def dropped(self, name: str) -> str | None:
        """Why a name is left out always; None where it is not."""
        return next((reason for start, reason in self.left_out if name.startswith(start)), None)

    def head(self, name: str) -> str | None:
        """Which other head a name belongs to; None where to none."""
        return next((title for start, title in self.heads if name.startswith(start)), None)
