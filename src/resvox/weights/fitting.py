"""Fit named tensors to a model: everything that does not fit is collected and reported in one error."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from resvox.blueprint import Blueprint
from resvox.blueprint.leaves import Conv, TransposedConv
from resvox.errors import WeightsError
from resvox.weights.adaptation import Adaptation, change_channels, inflated
from resvox.weights.comparison import Difference, differences, encoder_of, hint, is_deeper, unspecified
from resvox.weights.formats.safetensors import Problems
from resvox.weights.naming import NamedTensors
from resvox.weights.report import LoadReport

Array = npt.NDArray[Any]
Arrays = dict[str, Array]

# what stands behind the maps of a classifier, and of a segmentation model
CLASSIFIER_HEAD = ("fc", "head", "norm", "act", "avgpool", "activation")
SEGMENTER_HEAD = ("head", "supervision", "activation")
ENCODER = "encoder."
SUPERVISION = "supervision."


def fit(named: NamedTensors, model: Blueprint, adaptation: Adaptation) -> tuple[Arrays, LoadReport]:
    """The tensors for a model, by its names, and the report.

    Raises:
        WeightsError: everything that does not fit, in one text.
    """
    fitting = _Fitting(named=_for_heads_of(named, model), model=model, adaptation=adaptation)
    return fitting.run()


def _for_heads_of(named: NamedTensors, model: Blueprint) -> NamedTensors:
    """With or without the heads of deep supervision, as the model has them or not: they work in training alone."""

    def supervised(blueprint: Blueprint) -> bool:
        return any(name.startswith(SUPERVISION) for name in blueprint.tensors())

    wanted = supervised(model)
    alike = tuple(each for each in named.blueprints if supervised(each) == wanted)
    named = replace(named, blueprints=alike or named.blueprints)
    if wanted or named.importer is None:
        return named
    kept = {name: value for name, value in named.tensors.items() if not name.startswith(SUPERVISION)}
    left = {named.theirs[name]: "a head of deep supervision" for name in named.tensors if name not in kept}
    return replace(named, tensors=kept, dropped={**named.dropped, **left})


@dataclass
class _Fitting:
    """One load: what is wrong, dropped, adapted and kept is collected on the way."""

    named: NamedTensors
    model: Blueprint
    adaptation: Adaptation
    problems: Problems = field(default_factory=Problems)
    fixes: list[str] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)
    adapted: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    unspecified: list[str] = field(default_factory=list)

    def run(self) -> tuple[Arrays, LoadReport]:
        named = self.named
        self.dropped.update(named.dropped)
        self.problems.add("unknown", named.unknown)
        self._drop_heads()
        prefix, theirs = self._scope()
        own = self._own_network(prefix)
        if named.blueprints:
            self._check_whole(theirs)
            self._compare(prefix, own)
        filled = self._fill(prefix, own)
        if self.problems:
            raise self._refusal()
        return filled, LoadReport(
            peer=named.peer,
            source=named.source.where,
            used=tuple(filled),
            dropped=self.dropped,
            adapted=self.adapted,
            kept=self.kept,
            unspecified=tuple(self.unspecified),
            wrappers=named.source.wrappers,
        )

    def _drop_heads(self) -> None:
        if self.adaptation.classifier == "drop":
            self.dropped.update(self.named.heads)
        elif self.named.heads:
            self.problems.add("of another head", tuple(self.named.heads))
            self._fix("classifier='drop' leaves it out")

    def _scope(self) -> tuple[str, Blueprint]:
        """The prefix of the weights in the model ("encoder." in a segmentation model), and their network."""
        blueprints = self.named.blueprints or (self.model,)
        theirs = blueprints[0]
        inside = encoder_of(self.model.network) is not self.model.network and encoder_of(self.model.network) is not None
        whole = encoder_of(theirs.network) is theirs.network
        return (ENCODER if inside and whole else ""), theirs

    def _own_network(self, prefix: str) -> Any:
        return encoder_of(self.model.network) if prefix else self.model.network

    def _check_whole(self, theirs: Blueprint) -> None:
        """The source has every tensor of its own network and no other, each of the right shape."""
        wanted = theirs.tensors()
        have = self.named.tensors
        self.problems.add("missing", tuple(self._their_name(name) for name in wanted if name not in have))
        self.problems.add("unknown", tuple(self._said(name) for name in have if name not in wanted))
        self.problems.add(
            "misshapen",
            tuple(
                f"{self._said(name)} {tuple(have[name].shape)} for {wanted[name].shape}"
                for name in have
                if name in wanted and tuple(have[name].shape) != wanted[name].shape
            ),
        )

    def _said(self, name: str) -> str:
        return self.named.theirs.get(name, name)

    def _their_name(self, name: str) -> str:
        found = self.named.importer.table.theirs(name) if self.named.importer else None
        return found[0] if found else self.named.theirs.get(name, name)

    def _compare(self, prefix: str, own: Any) -> None:
        """The source's network computes what the model's does, but for what was asked for."""
        new_axis = self._new_axis()
        every = []
        for index, each in enumerate(self.named.blueprints):
            found = differences(each.network, own, new_axis=new_axis)
            left = [one for one in found if not self._is_allowed(one, own)]
            every.append((len(left), index, found, left))
        count, index, found, left = min(every, key=lambda each: each[:2])
        if count:
            shown = tuple(str(one) for one in left)
            self.problems.add("computes something else", shown)
            words = hint(left)
            self._fix(
                (f"the options {words} of the model settle it; " if words else "")
                + "resvox.create_model_from(...) builds the model that matches"
            )
            return
        if index:
            self.unspecified += _changed(self.named.blueprints[0], self.named.blueprints[index])
        self.unspecified += [unspecified(one) for one in found if self._is_unconstrained(one)]

    def _is_unconstrained(self, one: Difference) -> bool:
        unconstrained = self.named.importer.unconstrained if self.named.importer else ()
        return (one.path.removeprefix(ENCODER), one.field) in unconstrained

    def _is_allowed(self, one: Difference, own: Any) -> bool:
        if self._is_unconstrained(one) or one.path == "activation":
            return True
        if _in_head(one.path, own):
            return self.adaptation.classifier == "drop" or one.field in ("out_features", "out_channels")
        if one.field == "in_channels" and one.path == _first_conv(own):
            return True  # reported with its fix where the tensor is
        return one.ours is None and is_deeper(one.path, own)

    def _new_axis(self) -> int | None:
        theirs = self.named.blueprints[0]
        if theirs.spatial_dims == self.model.spatial_dims:
            return None
        if (theirs.spatial_dims, self.model.spatial_dims) == (2, 3) and self.adaptation.inflate:
            return self.adaptation.inflate_axis
        self.problems.add("axes", (f"{theirs.spatial_dims}D weights for a {self.model.spatial_dims}D model",))
        self._fix(
            "inflate='centre' or 'average' gives 2D weights a third axis"
            if theirs.spatial_dims == 2
            else "build the model with spatial_dims=3"
        )
        return 0 if theirs.spatial_dims == 2 else None

    def _fill(self, prefix: str, own: Any) -> Arrays:
        specs = self.model.tensors()
        leaves = dict(own.leaves())
        taken: set[str] = set()
        filled: Arrays = {}
        for name, spec in specs.items():
            if not name.startswith(prefix):
                self.kept[name] = "beside the encoder"
                continue
            inner = name.removeprefix(prefix)
            array = self.named.tensors.get(inner)
            if array is None:
                self._absent(name, inner, own)
                continue
            taken.add(inner)
            path = inner.rpartition(".")[0]
            fitted = self._adapt(name, array, spec.shape, leaves[path], path, own)
            if fitted is not None:
                filled[name] = self._typed(name, fitted)
        for inner in self.named.tensors:
            if inner not in taken:
                self._superfluous(inner, own)
        return filled

    def _absent(self, name: str, inner: str, own: Any) -> None:
        if _in_head(inner, own):
            if self.adaptation.classifier == "drop":
                self.kept[name] = "the model's own head"
                return
            self._fix("classifier='drop' leaves the model's head as it is")
        self.problems.add("missing", (self._their_name(inner),))

    def _superfluous(self, inner: str, own: Any) -> None:
        theirs = self.named.theirs.get(inner, inner)
        if _in_head(inner, own):
            if self.adaptation.classifier == "drop":
                self.dropped[theirs] = "the source's head"
            else:
                self.problems.add("of another head", (theirs,))
                self._fix("classifier='drop' leaves it out")
        elif is_deeper(inner, own):
            self.dropped[theirs] = "deeper than the model"
        else:
            self.problems.add("unknown", (theirs,))

    def _adapt(self, name: str, array: Array, shape: tuple[int, ...], leaf: Any, path: str, own: Any) -> Array | None:
        """The array in the shape that the model has, where that was asked for; None where the model's stays."""
        theirs = self.named.theirs.get(path + "." + name.rpartition(".")[2], name)
        in_head = path in ("fc", "head.fc", "head") or (encoder_of(own) is None and path.split(".")[0] == "head")
        if in_head or path.startswith(SUPERVISION):
            if self.adaptation.classifier == "drop":
                self.dropped[theirs] = "the source's head"
                self.kept[name] = "the model's own head"
                return None
            if array.shape[0] != shape[0]:
                self._fix("classifier='drop' keeps the model's own head")
        done: list[str] = []
        if path == _first_conv(own) and isinstance(leaf, Conv) and array.ndim > 1:
            array = self._channels(array, leaf, done)
        rank = len(shape) - array.ndim
        if rank == 1 and isinstance(leaf, (Conv, TransposedConv)) and self.adaptation.inflate and array.ndim == 4:
            rule, axis = self.adaptation.inflate, self.adaptation.inflate_axis
            array = inflated(array, leaf, rule, axis)
            done.append(f"inflated along axis {axis}, {rule}")
        if tuple(array.shape) != shape:
            self.problems.add("misshapen", (f"{theirs} {tuple(array.shape)} for {shape}",))
            return None
        if done:
            self.adapted[name] = " and ".join(done)
        return array

    def _channels(self, array: Array, leaf: Conv, done: list[str]) -> Array:
        rule, known = self.adaptation.first_conv, array.shape[1]
        if known == leaf.in_channels:
            return array
        if rule == "error":
            self._fix("first_conv='sum', 'repeat' or 'first' changes the first convolution's channels")
            return array
        done.append(f"{known} input channels to {leaf.in_channels}, {rule}")
        return change_channels(array, leaf.in_channels, rule)

    def _typed(self, name: str, array: Array) -> Array:
        if array.dtype == np.float32:
            return array
        if array.dtype.kind != "f":
            self.problems.add("not numbers with a point", (f"{name} {array.dtype}",))
            return array
        how = "exactly" if array.dtype.itemsize < 4 else "rounded"
        self.adapted[name] = ", ".join(filter(None, (self.adapted.get(name), f"{array.dtype} to float32, {how}")))
        return array.astype(np.float32)

    def _fix(self, text: str) -> None:
        if text not in self.fixes:
            self.fixes.append(text)

    def _refusal(self) -> WeightsError:
        return WeightsError(
            f"{self.named.peer} weights that do not fit; {self.problems}",
            expected=f"the weights of {self.model.name!r} as it was built",
            fix="; ".join(self.fixes),
            path=self.named.source.where,
        )


def _changed(default: Blueprint, chosen: Blueprint) -> list[str]:
    """In what the network that fits differs from the peer's default."""
    found = differences(default.network, chosen.network)
    words = hint(found) or "how it is built"
    return [f"{words} ({found[0]}" + (f" and {len(found) - 1} more)" if len(found) > 1 else ")")] if found else []


def _in_head(path: str, own: Any) -> bool:
    """Whether a path is behind the maps."""
    return path.split(".")[0] in (CLASSIFIER_HEAD if encoder_of(own) is own else SEGMENTER_HEAD)


def _first_conv(network: Any) -> str:
    """The path of the convolution that the image meets."""
    return next((path for path, leaf in network.leaves() if isinstance(leaf, Conv)), "")
