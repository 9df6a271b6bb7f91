"""A table of names: our path beside a peer's, read in both directions by code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

_FIELD = re.compile(r"\{([a-z])([+-]\d+)?\}")
_NUMBER = "(?:0|[1-9][0-9]{0,3})"
# our last segment -> Keras's variable
KERNELS = {"weight": "kernel", "bias": "bias"}
NORMS = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


@dataclass(frozen=True)
class Row:
    """One line of a table. ``{s}`` stands for a number, the same on both sides; ``{s+1}`` for the one after it.

    Attributes:
        ours: path of a layer.
        theirs: the peer's path of it.
        kind: ``"kernel"`` (convolution, linear layer) or ``"norm"``; Keras names their variables differently.
        shape: ``"conv"`` where the peer keeps a linear layer as a convolution of one voxel.
    """

    ours: str
    theirs: str
    kind: str = "kernel"
    shape: str = ""


@dataclass(frozen=True)
class Table:
    """The rows of a peer; ``style`` is how tensors of a layer are named: as in torch or as in Keras."""

    rows: tuple[Row, ...]
    style: str = "torch"

    def theirs(self, name: str) -> tuple[str, Row] | None:
        """The peer's name of our tensor, and its row; None where the table has no row for it."""
        path, _, last = name.rpartition(".")
        for ours, _, row in self._compiled:
            values = _match(ours, path)
            variable = self._variables(row).get(last)
            if values is not None and variable is not None:
                return f"{_write(row.theirs, values)}{self._separator}{variable}", row
        return None

    def ours(self, name: str) -> tuple[str, Row] | None:
        """Our name of a peer's tensor, and its row; None where the table has no row for it."""
        path, _, variable = name.rpartition(self._separator)
        for _, theirs, row in self._compiled:
            values = _match(theirs, path)
            lasts = [last for last, each in self._variables(row).items() if each == variable]
            if values is not None and lasts:
                return f"{_write(row.ours, values)}.{lasts[0]}", row
        return None

    @property
    def _separator(self) -> str:
        return "/" if self.style == "keras" else "."

    def _variables(self, row: Row) -> dict[str, str]:
        known = NORMS if row.kind == "norm" else KERNELS
        return known if self.style == "keras" else {name: name for name in known}

    @cached_property
    def _compiled(self) -> tuple[tuple[_Pattern, _Pattern, Row], ...]:
        return tuple((_compile(row.ours), _compile(row.theirs), row) for row in self.rows)


@dataclass(frozen=True)
class _Pattern:
    regex: re.Pattern[str]
    offsets: tuple[tuple[str, int], ...]


def _compile(template: str) -> _Pattern:
    regex, offsets, end = "", [], 0
    for found in _FIELD.finditer(template):
        regex += re.escape(template[end : found.start()]) + f"(?P<{found[1]}>{_NUMBER})"
        offsets.append((found[1], int(found[2] or 0)))
        end = found.end()
    return _Pattern(re.compile(regex + re.escape(template[end:])), tuple(offsets))


def _match(pattern: _Pattern, path: str) -> dict[str, int] | None:
    """The numbers in a path, less what the template adds; None where it is another path."""
    found = pattern.regex.fullmatch(path)
    if found is None:
        return None
    values = {name: int(found[name]) - offset for name, offset in pattern.offsets}
    return values if all(value >= 0 for value in values.values()) else None


def _write(template: str, values: dict[str, int]) -> str:
    return _FIELD.sub(lambda found: str(values[found[1]] + int(found[2] or 0)), template)
