"""A source's tensors under our names, and what network they may be."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from resvox.blueprint import Blueprint
from resvox.blueprint.leaves import Norm
from resvox.blueprint.transformers import LayerNorm
from resvox.errors import BlueprintError, WeightsError
from resvox.weights.architecture import Architecture, UnclearError, describe
from resvox.weights.comparison import encoder_of, is_deeper
from resvox.weights.importers import PEERS, Importer, candidates, choose
from resvox.weights.importers.table import KERNELS, NORMS
from resvox.weights.sources import COUNTER, Source

Array = npt.NDArray[Any]
Arrays = dict[str, Array]


@dataclass(frozen=True, kw_only=True)
class NamedTensors:
    """The tensors of a source under our names.

    Attributes:
        importer: the kind of network whose names they were; None for our own names.
        tensors: by our name, axes in PyTorch's order.
        theirs: our name to the source's.
        dropped: the source's names that are not part of the network, with the reason.
        heads: the same for another head, dropped only on request.
        unknown: the source's names that are not recognised.
        blueprints: the networks that the source may belong to; the first one has the peer's defaults. Empty where
            names and shapes do not determine one.
        unclear: why, in that case.
    """

    source: Source
    importer: Importer | None
    tensors: Arrays
    theirs: dict[str, str]
    dropped: dict[str, str] = field(default_factory=dict)
    heads: dict[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    blueprints: tuple[Blueprint, ...] = ()
    unclear: str = ""

    @property
    def peer(self) -> str:
        """What reports say."""
        return self.importer.title if self.importer else "resvox"


def name_source(source: Source, peer: str | None, model: Blueprint | None) -> NamedTensors:
    """A source under our names, and what its network may be.

    Raises:
        WeightsError: unrecognised names, or names shared by peers that compute different things.
    """
    if peer is not None and peer not in PEERS:
        raise WeightsError(f"peer={peer!r}", expected="one of " + ", ".join(PEERS))
    tensors = {name: value for name, value in source.tensors.items() if not name.endswith(COUNTER)}
    counters = dict.fromkeys(
        (name for name in source.tensors if name.endswith(COUNTER)), "a step counter that is not used"
    )
    counters = {**source.beside, **counters}
    if source.blueprint is not None and peer in (None, "resvox"):
        return _ours(source, tensors, counters, source.blueprint)
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    found = [] if peer == "resvox" else candidates(shapes, source.kind, peer)
    theirs = sum(_is_known(found, name) for name in shapes)
    own = set() if model is None else set(_own_names(model, source.kind).values())
    ours = sum(name in own for name in shapes)
    if peer == "resvox" or (peer is None and ours > theirs):
        if model is None:
            raise WeightsError(
                "a resvox state dict without its blueprint",
                expected="a model to load it into",
                fix="build it with resvox.create_model, then resvox.load_weights",
                path=source.where,
            )
        return replace(_ours(source, tensors, counters, model), blueprints=())
    if not found:
        raise WeightsError(
            f"names that {f'{peer} does not use' if peer else 'no peer uses'}, such as {', '.join(list(shapes)[:4])}",
            expected="weights of " + ", ".join(PEERS),
            fix="say peer=, or rename the tensors after resvox.get_blueprint(...).tensors()",
            path=source.where,
        )
    importer = choose(found, shapes, source.wrappers, source.where)
    tensors, counters = _without_repetitions(source, importer, tensors, counters)
    return _translated(source, importer, tensors, counters)


def _is_known(found: list[Importer], name: str) -> bool:
    return any(each.knows(name) for each in found)


def _own_names(blueprint: Blueprint, kind: str) -> dict[str, str]:
    """Our names, and those in a resvox file of that kind."""
    names = list(blueprint.tensors())
    return dict(zip(names, names, strict=True)) if kind == "torch" else keras_names(blueprint)


def keras_names(blueprint: Blueprint) -> dict[str, str]:
    """Our names to those of the Keras twin: ``layer1_0_conv1/kernel``."""
    found = {}
    for path, leaf in blueprint.network.leaves():
        known = NORMS if isinstance(leaf, Norm | LayerNorm) else KERNELS
        for last, _ in leaf.own_tensors():
            variable = known.get(last, last)
            found[f"{path}.{last}"] = f"{path.replace('.', '_')}/{variable}"
    return found


def _ours(source: Source, tensors: Arrays, dropped: dict[str, str], blueprint: Blueprint) -> NamedTensors:
    names = {theirs: ours for ours, theirs in _own_names(blueprint, source.kind).items()}
    known = {names[name]: _torch_axes(value, source) for name, value in tensors.items() if name in names}
    return NamedTensors(
        source=source,
        importer=None,
        tensors=known,
        theirs={ours: theirs for theirs, ours in names.items()},
        dropped=dropped,
        unknown=tuple(name for name in tensors if name not in names),
        blueprints=(blueprint,),
    )


def _without_repetitions(
    source: Source, importer: Importer, tensors: Arrays, dropped: dict[str, str]
) -> tuple[Arrays, dict[str, str]]:
    """Tensors under their first names alone, and what is dropped, for a peer that has them under several.

    Raises:
        WeightsError: two names of one tensor with different values.
    """
    pairs = [(name, importer.first_name(name)) for name in tensors]
    repeated = {name: first for name, first in pairs if first is not None}
    unequal = [
        f"{name} and {first}"
        for name, first in repeated.items()
        if first in tensors and not _is_same(tensors[name], tensors[first])
    ]
    if unequal:
        more = f" and {len(unequal) - 3} more" if len(unequal) > 3 else ""
        raise WeightsError(
            f"two names of one tensor with different values: {', '.join(unequal[:3])}{more}",
            expected=f"equal values, as {importer.title} writes them",
            fix="do not use this file: which of the values the network computes with is not known",
            path=source.where,
        )
    # a further name without the first one stands for it
    alone = {first: tensors[name] for name, first in repeated.items() if first not in tensors}
    kept = {**{name: value for name, value in tensors.items() if name not in repeated}, **alone}
    reasons = {name: "a second name of another tensor" for name, first in repeated.items() if first in tensors}
    return kept, {**dropped, **reasons}


def _is_same(one: Array, other: Array) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    same_memory = one.__array_interface__["data"][0] == other.__array_interface__["data"][0]
    return (same_memory and one.strides == other.strides) or np.array_equal(one, other, equal_nan=True)


def _translated(source: Source, importer: Importer, tensors: Arrays, dropped: dict[str, str]) -> NamedTensors:
    known: Arrays = {}
    theirs: dict[str, str] = {}
    heads: dict[str, str] = {}
    unknown = []
    for name, value in tensors.items():
        found = importer.table.ours(name)
        if importer.dropped(name):
            dropped = {**dropped, name: importer.dropped(name) or ""}
        elif importer.head(name):
            heads[name] = importer.head(name) or ""
        elif found is None or found[0] in known:
            unknown.append(name)
        else:
            known[found[0]] = _linear(_torch_axes(value, source), found[1].shape, found[0])
            theirs[found[0]] = name
    named = NamedTensors(
        source=source,
        importer=importer,
        tensors=known,
        theirs=theirs,
        dropped=dropped,
        heads=heads,
        unknown=tuple(unknown),
    )
    try:
        found_network = describe({name: tuple(value.shape) for name, value in known.items()})
        return _cut(replace(named, blueprints=blueprints_of(importer, found_network)))
    except (UnclearError, BlueprintError) as error:
        return replace(named, unclear=str(error))


def _cut(named: NamedTensors) -> NamedTensors:
    """Without the stages of the encoder that the decoder does not use: SMP keeps them."""
    network = named.blueprints[0].network
    deeper = [name for name in named.tensors if network is not encoder_of(network) and is_deeper(name, network)]
    return replace(
        named,
        tensors={name: value for name, value in named.tensors.items() if name not in deeper},
        dropped={**named.dropped, **{named.theirs[name]: "a stage that the decoder does not read" for name in deeper}},
    )


def blueprints_of(importer: Importer, found: Architecture) -> tuple[Blueprint, ...]:
    """What a peer builds with such tensors; alternatives to its defaults that cannot be built are left out."""
    first, *others = importer.peer_defaults(found)
    blueprints = [found.blueprint(first)]
    for options in others:
        try:
            blueprints.append(found.blueprint(options))
        except BlueprintError:  # such as a group norm of 32 groups over 48 channels
            continue
    return tuple(blueprints)


def _torch_axes(array: Array, source: Source) -> Array:
    """Keras's (\\*kernel, in, out) as (out, in, \\*kernel)."""
    return np.moveaxis(array, (-1, -2), (0, 1)) if source.kind == "keras" and array.ndim > 1 else array


def _linear(array: Array, shape: str, name: str) -> Array:
    """A linear layer that a peer keeps as a convolution of one voxel."""
    if shape == "conv" and name.endswith("weight") and array.ndim > 2 and set(array.shape[2:]) == {1}:
        return array.reshape(array.shape[:2])
    return array
