"""From a node to how it is walked."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from resvox.blueprint.leaves import Axes
from resvox.blueprint.node import Node, Sequence, join
from resvox.blueprint.trace.signal import Signal, Stage, Tape
from resvox.errors import BlueprintError

Visit = Callable[[Any, str, Signal, Tape], Signal]
_VISITS: dict[type[Node], Visit] = {}


def visits(*kinds: type[Node]) -> Callable[[Visit], Visit]:
    """Registers how nodes of these kinds are walked."""

    def register(visit: Visit) -> Visit:
        _VISITS.update(dict.fromkeys(kinds, visit))
        return visit

    return register


def visit(node: Node, path: str, signal: Signal, tape: Tape) -> Signal:
    """The signal behind a node; its rows go to the tape.

    Raises:
        BlueprintError: a node that nobody knows how to walk.
    """
    known = _VISITS.get(type(node))
    if known is None:
        raise BlueprintError(f"{type(node).__name__} at {path!r}", expected="a node that can be traced")
    return known(node, path, signal, tape)


def through(node: Node | None, path: str, signal: Signal, tape: Tape) -> Signal:
    """The same for a child that may be absent."""
    return signal if node is None else visit(node, path, signal, tape)


def chain(node: Node, names: tuple[str, ...], path: str, signal: Signal, tape: Tape) -> Signal:
    """The named children of a node, one after another."""
    for name in names:
        signal = through(getattr(node, name), join(path, name), signal, tape)
    return signal


@visits(Sequence)
def _sequence(node: Sequence, path: str, signal: Signal, tape: Tape) -> Signal:
    for name, child in node.children():
        signal = visit(child, join(path, name), signal, tape)
    return signal


def named(
    node: Node,
    names: tuple[str, ...],
    path: str,
    title: str,
    signal: Signal,
    tape: Tape,
    *,
    feature_level: int | None = None,
) -> Signal:
    """Children as one row of the walk."""
    row_name = " + ".join(join(path, name) for name in names)
    with tape.group(row_name, title, signal, feature_level=feature_level) as out:
        out.append(chain(node, names, path, signal, tape))
    return out[0]


def trace(network: Node, in_channels: int, size: Axes) -> tuple[Stage, ...]:
    """The rows of a network for an input of that spatial size, in the order of the forward pass."""
    ones = (1,) * len(size)
    start = Signal(channels=in_channels, size=size, stride=tuple(map(Fraction, ones)), receptive_field=ones)
    tape = Tape()
    visit(network, "", start, tape)
    return tuple(tape.rows)
