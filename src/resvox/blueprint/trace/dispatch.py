"""From a node to the rule that traces it."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from resvox.blueprint.leaves import Axes
from resvox.blueprint.node import Node, Sequence, join
from resvox.blueprint.trace.recording import FeatureMap, Recorder, Stage
from resvox.errors import BlueprintError

Tracer = Callable[[Any, str, FeatureMap, Recorder], FeatureMap]
_TRACERS: dict[type[Node], Tracer] = {}


def traces(*kinds: type[Node]) -> Callable[[Tracer], Tracer]:
    """Register the rule that traces nodes of these kinds."""

    def register(trace_node: Tracer) -> Tracer:
        _TRACERS.update(dict.fromkeys(kinds, trace_node))
        return trace_node

    return register


def trace_node(node: Node, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
    """The output of a node; its rows go to the recorder.

    Raises:
        BlueprintError: no rule traces a node of this kind.
    """
    known = _TRACERS.get(type(node))
    if known is None:
        raise BlueprintError(f"{type(node).__name__} at {path!r}", expected="a node that can be traced")
    return known(node, path, feature_map, recorder)


def trace_optional(node: Node | None, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
    """The output of a child that may be absent (then its input)."""
    return feature_map if node is None else trace_node(node, path, feature_map, recorder)


def trace_children(
    node: Node, names: tuple[str, ...], path: str, feature_map: FeatureMap, recorder: Recorder
) -> FeatureMap:
    """The output of the named children of a node, applied one after another."""
    for name in names:
        feature_map = trace_optional(getattr(node, name), join(path, name), feature_map, recorder)
    return feature_map


@traces(Sequence)
def _sequence(node: Sequence, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
    for name, child in node.children():
        feature_map = trace_node(child, join(path, name), feature_map, recorder)
    return feature_map


def trace_group(
    node: Node,
    names: tuple[str, ...],
    path: str,
    title: str,
    feature_map: FeatureMap,
    recorder: Recorder,
    *,
    feature_level: int | None = None,
) -> FeatureMap:
    """The output of the named children, recorded as one group."""
    row_name = " + ".join(join(path, name) for name in names)
    with recorder.group(row_name, title, feature_map, feature_level=feature_level) as out:
        out.append(trace_children(node, names, path, feature_map, recorder))
    return out[0]


def trace(network: Node, in_channels: int, size: Axes) -> tuple[Stage, ...]:
    """The rows of a network for an input of that spatial size, in the order of the forward pass."""
    ones = (1,) * len(size)
    start = FeatureMap(channels=in_channels, size=size, stride=tuple(map(Fraction, ones)), receptive_field=ones)
    recorder = Recorder()
    trace_node(network, "", start, recorder)
    return tuple(recorder.rows)
