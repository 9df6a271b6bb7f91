"""A peer's weights into a model of ours: exact, or refused with the reason."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from resvox.blueprint import Blueprint
from resvox.blueprint.leaves import Conv, Linear, TransposedConv
from resvox.errors import BlueprintError, WeightsError
from resvox.factory import build, check_framework
from resvox.weights.adaptation import Adaptation, change_channels, inflated
from resvox.weights.architecture import Architecture, UnclearError, describe
from resvox.weights.comparison import Difference, differences, encoder_of, hint
from resvox.weights.files import Problems
from resvox.weights.importers import PEERS, Importer, candidates, choose
from resvox.weights.models import room_of
from resvox.weights.provenance import remember
from resvox.weights.report import LoadReport
from resvox.weights.sources import COUNTER, Source, read_source

Array = npt.NDArray[Any]
Arrays = dict[str, Array]

# what stands behind the maps of a classifier, and of a segmentation model
CLASSIFIER_HEAD = ("fc", "head", "norm", "act", "avgpool", "activation")
SEGMENTER_HEAD = ("head", "activation")
ENCODER = "encoder."


@dataclass(frozen=True, kw_only=True)
class Named:
    """A source under our names.

    Attributes:
        importer: whose names they were; None for ours.
        tensors: by our name, axes in PyTorch's order.
        theirs: our name to the source's.
        dropped: the source's names that are no part of the network, with the reason.
        heads: the same for another head, dropped only when asked.
        unknown: the source's names that nobody knows.
        blueprints: what the source may compute; the first is what its peer does unless told otherwise. Empty where
            names and shapes tell of no network.
        unclear: why, then.
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


def load_weights(
    model: Any,
    source: Any,
    *,
    peer: str | None = None,
    first_conv: str = "error",
    classifier: str = "error",
    inflate: str | None = None,
    inflate_axis: int = 0,
) -> LoadReport:
    """Fill a model with weights from anywhere: every tensor is checked, and what the peer computes too.

    Args:
        model: a torch or Keras model that resvox built. A segmentation model takes the weights of a residual network
            into its encoder.
        source: a file (.pth, .pt, .safetensors, .h5, .weights.h5, .keras, .npz), a state dict, or a folder of the
            Hugging Face cache.
        peer: whose weights they are: "torchvision", "timm", "monai", "medicalnet", "kenshohara", "smp",
            "keras.applications", "medicai" or "resvox"; recognised by names and shapes where that is possible.
        first_conv: the first convolution for another number of channels: "sum", "repeat" (scaled) or "first".
        classifier: "drop" leaves the source's head out and the model's as it is.
        inflate: 2D weights in a 3D model: "centre" or "average" along the new axis.
        inflate_axis: which of (D, H, W) is the new one.

    Returns:
        What was used, dropped, adapted and kept, each with the reason.

    Raises:
        WeightsError: a source that cannot be read or is not safe; unknown, missing or misshapen tensors, all of them
            in one text; a peer that computes something else than the model, with the options that would match.

    Example:
        >>> model = resvox.create_model("unet", encoder_name="resnet50", spatial_dims=3, in_channels=1)
        >>> report = resvox.load_weights(
        ...     model, "resnet50.pth", first_conv="sum", classifier="drop", inflate="centre"
        ... )
    """
    adaptation = Adaptation(first_conv=first_conv, classifier=classifier, inflate=inflate, inflate_axis=inflate_axis)
    room, blueprint = room_of(model)
    named = name_source(read_source(source), peer, blueprint)
    tensors, report = fit(named, blueprint, adaptation)
    room.update(model, tensors)
    remember(model, {**report.to_dict(), **_asked(adaptation)})
    return report


def create_model_from(source: Any, *, peer: str | None = None, framework: str = "torch", **options: Any) -> Any:
    """The model that a source's weights belong to, filled with them.

    Args:
        source, peer: as of :func:`load_weights`.
        framework: "torch" or "keras".
        **options: of :func:`resvox.create_model`, where the source leaves them open: the stride of a MONAI stem,
            the dilation of a torchvision net.

    Raises:
        WeightsError: a source that cannot be read, or whose tensors are those of no network of ours.
        BlueprintError: options that are not valid.
    """
    check_framework(framework)
    read = read_source(source)
    named = name_source(read, peer, None)
    if not named.blueprints:
        raise WeightsError(
            f"tensors of no network of ours ({named.unclear})",
            expected="a residual network, or a U-Net on one",
            fix="build the model with resvox.create_model and load the weights into it",
            path=read.where,
        )
    blueprint = named.blueprints[0]
    if options:
        blueprint = _settled(named, read, options)
    tensors, report = fit(named, blueprint, Adaptation())
    model = build(blueprint, framework=framework)
    room_of(model)[0].update(model, tensors)
    if framework == "torch":
        model.eval()
    remember(model, report.to_dict())
    return model


def _settled(named: Named, read: Source, options: dict[str, Any]) -> Blueprint:
    if named.importer is None:
        raise WeightsError(
            f"options {', '.join(options)} for a model file", expected="none: it says them all", path=read.where
        )
    found = describe({name: tuple(value.shape) for name, value in named.tensors.items()})
    return found.blueprint({**named.importer.habits(found)[0], **options})


def _asked(adaptation: Adaptation) -> dict[str, Any]:
    """The rules that were asked for, as a file remembers them."""
    asked: dict[str, Any] = {}
    if adaptation.first_conv != "error":
        asked["first_conv"] = adaptation.first_conv
    if adaptation.inflate:
        asked.update(inflate=adaptation.inflate, inflate_axis=adaptation.inflate_axis)
    return asked


# --- names ------------------------------------------------------------------------------------------------------


def name_source(source: Source, peer: str | None, model: Blueprint | None) -> Named:
    """A source under our names, and what its network may be.

    Raises:
        WeightsError: nobody's names, or those of several peers that compute different things.
    """
    if peer is not None and peer not in PEERS:
        raise WeightsError(f"peer={peer!r}", expected="one of " + ", ".join(PEERS))
    tensors = {name: value for name, value in source.tensors.items() if not name.endswith(COUNTER)}
    counters = dict.fromkeys(
        (name for name in source.tensors if name.endswith(COUNTER)), "a step counter that nothing reads"
    )
    if source.blueprint is not None and peer in (None, "resvox"):
        return _ours(source, tensors, counters, source.blueprint)
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    found = [] if peer == "resvox" else candidates(shapes, source.kind, peer)
    if peer is None and not all(_is_known(found, name) for name in shapes) and _is_ours(source, tensors, model):
        found = []
    if not found:
        if model is None or (peer is None and not _is_ours(source, tensors, model)):
            raise WeightsError(
                f"names that no peer uses, such as {', '.join(list(shapes)[:4])}",
                expected="weights of " + ", ".join(PEERS),
                fix="say peer=, or rename the tensors after resvox.get_blueprint(...).tensors()",
                path=source.where,
            )
        return replace(_ours(source, tensors, counters, model), blueprints=())
    importer = choose(found, shapes, source.wrappers, source.where)
    return _translated(source, importer, tensors, counters)


def _is_known(found: list[Importer], name: str) -> bool:
    return any(each.table.ours(name) or each.head(name) or each.dropped(name) for each in found)


def _is_ours(source: Source, tensors: Arrays, model: Blueprint | None) -> bool:
    """Whether most names are those of the model itself."""
    if model is None:
        return False
    own = set(_own_names(model, source.kind).values())
    return sum(name in own for name in tensors) * 2 > len(tensors)


def _own_names(blueprint: Blueprint, kind: str) -> dict[str, str]:
    """Our names as a file of that kind of ours has them."""
    names = list(blueprint.tensors())
    return dict(zip(names, names, strict=True)) if kind == "torch" else keras_names(blueprint)


def keras_names(blueprint: Blueprint) -> dict[str, str]:
    """Our names to those of the Keras twin: ``layer1_0_conv1/kernel``."""
    from resvox.weights.importers.table import KERNELS, NORMS

    found = {}
    for path, leaf in blueprint.network.leaves():
        for last, spec in leaf.own_tensors():
            plain = isinstance(leaf, (Conv, TransposedConv, Linear)) and bool(spec)
            variable = (KERNELS if plain else NORMS)[last]
            found[f"{path}.{last}"] = f"{path.replace('.', '_')}/{variable}"
    return found


def _ours(source: Source, tensors: Arrays, dropped: dict[str, str], blueprint: Blueprint) -> Named:
    names = {theirs: ours for ours, theirs in _own_names(blueprint, source.kind).items()}
    known = {names[name]: _torch_axes(value, source) for name, value in tensors.items() if name in names}
    return Named(
        source=source,
        importer=None,
        tensors=known,
        theirs={ours: theirs for theirs, ours in names.items()},
        dropped=dropped,
        unknown=tuple(name for name in tensors if name not in names),
        blueprints=(blueprint,),
    )


def _translated(source: Source, importer: Importer, tensors: Arrays, dropped: dict[str, str]) -> Named:
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
    named = Named(
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
        return replace(named, blueprints=_blueprints(importer, found_network))
    except (UnclearError, BlueprintError) as error:
        return replace(named, unclear=str(error))


def _blueprints(importer: Importer, found: Architecture) -> tuple[Blueprint, ...]:
    """What a peer builds with such tensors; those of its habits that our catalog cannot build are left out."""
    first, *others = importer.habits(found)
    blueprints = [found.blueprint(first)]
    for habits in others:
        try:
            blueprints.append(found.blueprint(habits))
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


# --- fitting ----------------------------------------------------------------------------------------------------


def fit(named: Named, model: Blueprint, adaptation: Adaptation) -> tuple[Arrays, LoadReport]:
    """The tensors for a model, by its names, and the report.

    Raises:
        WeightsError: everything that does not fit, in one text.
    """
    fitting = _Fitting(named=named, model=model, adaptation=adaptation)
    return fitting.run()


@dataclass
class _Fitting:
    """One load: what is wrong, dropped, adapted and kept is collected on the way."""

    named: Named
    model: Blueprint
    adaptation: Adaptation
    problems: Problems = field(default_factory=Problems)
    fixes: list[str] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)
    adapted: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    untold: list[str] = field(default_factory=list)

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
            untold=tuple(self.untold),
            wrappers=named.source.wrappers,
        )

    def _drop_heads(self) -> None:
        if self.adaptation.classifier == "drop":
            self.dropped.update(self.named.heads)
        elif self.named.heads:
            self.problems.add("of another head", tuple(self.named.heads))
            self._fix("classifier='drop' leaves it out")

    def _scope(self) -> tuple[str, Blueprint]:
        """ "encoder." where a residual network's weights go into a segmentation model; and what they belong to."""
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
        say: Callable[[str], str] = lambda name: self.named.theirs.get(name, name)  # noqa: E731
        self.problems.add("missing", tuple(self._their_name(name) for name in wanted if name not in have))
        self.problems.add("unknown", tuple(say(name) for name in have if name not in wanted))
        self.problems.add(
            "misshapen",
            tuple(
                f"{say(name)} {tuple(have[name].shape)} for {wanted[name].shape}"
                for name in have
                if name in wanted and tuple(have[name].shape) != wanted[name].shape
            ),
        )

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
            self.untold += _changed(self.named.blueprints[0], self.named.blueprints[index])
        self.untold += [str(one) for one in found if self._is_free(one)]

    def _is_free(self, one: Difference) -> bool:
        free = self.named.importer.free if self.named.importer else ()
        return (one.path.removeprefix(ENCODER), one.field) in free

    def _is_allowed(self, one: Difference, own: Any) -> bool:
        if self._is_free(one) or one.path == "activation":
            return True
        if _in_head(one.path, own):
            return self.adaptation.classifier == "drop" or one.field in ("out_features", "out_channels")
        if one.field == "in_channels" and one.path == _first_conv(own):
            return True  # said again, with its fix, where the tensor is
        return one.ours is None and _is_deeper(one.path, own)

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
                self.kept[name] = "no encoder's"
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
        elif _is_deeper(inner, own):
            self.dropped[theirs] = "deeper than the model"
        else:
            self.problems.add("unknown", (theirs,))

    def _adapt(self, name: str, array: Array, shape: tuple[int, ...], leaf: Any, path: str, own: Any) -> Array | None:
        """The array in the shape that the model has, where that was asked for; None where the model's stays."""
        theirs = self.named.theirs.get(path + "." + name.rpartition(".")[2], name)
        if path in ("fc", "head.fc", "head"):
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
    """In what the network that fits differs from what the peer builds unless told otherwise."""
    found = differences(default.network, chosen.network)
    words = hint(found) or "how it is built"
    return [f"{words} ({found[0]}" + (f" and {len(found) - 1} more)" if len(found) > 1 else ")")] if found else []


def _in_head(path: str, own: Any) -> bool:
    """Whether a path is behind the maps."""
    return path.split(".")[0] in (CLASSIFIER_HEAD if encoder_of(own) is own else SEGMENTER_HEAD)


def _first_conv(network: Any) -> str:
    """The path of the convolution that the image meets."""
    return next((path for path, leaf in network.leaves() if isinstance(leaf, Conv)), "")


_LEVEL = re.compile(r"(?:layer(\d)|stages\.(\d))(?:\.|$)")


def _is_deeper(path: str, own: Any) -> bool:
    """Whether a path lies in a stage beyond the last one of an encoder that is cut."""
    network = encoder_of(own)
    if network is None:
        return False
    found = _LEVEL.match(path.removeprefix(ENCODER))
    if found is None:
        return path.removeprefix(ENCODER) == "maxpool" and not network.stage_list
    number = int(found[1]) if found[1] else int(found[2]) + 1
    return number > len(network.stage_list)
