"""What two networks compute differently, found in their trees; what training alone needs is left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from resvox.blueprint import Node, Sequence
from resvox.blueprint import leaves as lf
from resvox.blueprint import networks as net
from resvox.blueprint.node import join

# fields that change how a network is trained or initialised, not what it computes
IGNORED = {("Conv", "init"), ("Norm", "initial_weight"), ("Norm", "momentum")}
PER_AXIS = ("kernel", "stride", "padding", "dilation", "scale")
# which option of a blueprint settles a difference; the first rule that fits speaks
HINTS = (
    ("norm", "norm"),
    ("eps", "norm"),
    ("affine", "norm"),
    ("bias", "conv_bias"),
    ("dilation", "output_stride or dilate_first_block"),
    ("stride", "stride_on, stride_block, strides or output_stride"),
    ("padding", "stem_kernel"),
    ("kernel", "stem_kernel or strides"),
    ("se_before_norm", "se_placement"),
    ("activation", "activation"),
    ("slope", "activation"),
    ("pooling", "pool_padding or strides"),
    ("shortcut", "shortcut, or the name of another network"),
    ("groups", "groups"),
)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Something that a network computes otherwise: at ``path``, ``field`` (of a layer, or what stands there)."""

    path: str
    field: str
    theirs: Any
    ours: Any

    def __str__(self) -> str:
        return f"{self.path or 'the network'} {self.field} {_brief(self.theirs)} for {_brief(self.ours)}"


def unspecified(one: Difference) -> str:
    """A difference that neither a file nor a peer's defaults settle, as text."""
    return f"{one.path} {one.field} {_brief(one.ours)}, where the peer's default is {_brief(one.theirs)}"


def differences(theirs: Node | None, ours: Node | None, *, new_axis: int | None = None) -> list[Difference]:
    """Where two trees do not compute the same.

    Args:
        theirs: a peer's network.
        ours: the model's.
        new_axis: of a model with one axis more, which is not compared.
    """
    return list(_compare(theirs, ours, "", new_axis))


def _compare(theirs: Any, ours: Any, path: str, new_axis: int | None) -> Iterator[Difference]:
    theirs, ours = _bare(theirs), _bare(ours)
    if theirs is None and ours is None:
        return
    if type(theirs) is not type(ours):
        yield Difference(path=path, field=_title(theirs, ours), theirs=theirs, ours=ours)
        return
    if isinstance(theirs, Sequence):
        if len(theirs) != len(ours):
            yield Difference(path=path, field="length", theirs=len(theirs), ours=len(ours))
            return
        for index, (a, b) in enumerate(zip(theirs.items, ours.items, strict=True)):
            yield from _compare(a, b, join(path, str(index)), new_axis)
        return
    if isinstance(theirs, lf.Norm) and theirs.kind != ours.kind:  # other differences follow from this one
        yield Difference(path=path, field="norm", theirs=theirs.kind, ours=ours.kind)
        return
    yield from _compare_fields(theirs, ours, path, new_axis)


def _compare_fields(theirs: Node, ours: Node, path: str, new_axis: int | None) -> Iterator[Difference]:
    """Differences of two nodes of one class."""
    for name, value in vars(theirs).items():
        other = getattr(ours, name)
        if isinstance(value, Node) or isinstance(other, Node) or value is None or other is None:
            yield from _compare(value, other, join(path, name), new_axis)
        elif (type(theirs).__name__, name) not in IGNORED:
            flat = _flat(name, other, value, new_axis)
            if value != flat:
                field = type(theirs).__name__.lower() if name == "kind" else name
                yield Difference(path=path, field=field, theirs=value, ours=other)


def _bare(node: Any) -> Any:
    """Nothing, where a node does nothing when a network predicts."""
    return None if isinstance(node, (lf.DropPath, lf.Dropout, lf.Identity)) else node


def _flat(name: str, ours: Any, theirs: Any, new_axis: int | None) -> Any:
    """Our sizes per axis without the axis that theirs do not have."""
    if name == "spatial_dims" and new_axis is not None:
        return ours - 1
    if new_axis is None or name not in PER_AXIS or not isinstance(ours, tuple) or len(ours) != len(theirs) + 1:
        return ours
    return ours[:new_axis] + ours[new_axis + 1 :]


def _title(theirs: Any, ours: Any) -> str:
    kinds = [type(each) for each in (theirs, ours)]
    if any(issubclass(kind, lf.MaxPool) for kind in kinds):
        return "pooling"
    if any(issubclass(kind, lf.Norm) for kind in kinds):
        return "norm"
    return "shortcut" if any(kind.__name__.endswith("Shortcut") for kind in kinds) else "layer"


def _brief(value: Any) -> str:
    if value is None:
        return "nothing"
    return type(value).__name__ if isinstance(value, Node) else repr(value)


def hint(found: list[Difference]) -> str:
    """The options that settle the differences."""
    words = []
    for each in found:
        for field, option in HINTS:
            if each.field == field and option not in words:
                words.append(option)
    return ", ".join(words)


def encoder_of(network: Node) -> net.ResNet | net.PreActResNet | None:
    """The residual encoder of a segmentation model, or a residual network itself; None for a network without one."""
    inner = dict(network.children()).get("encoder", network)
    return inner if isinstance(inner, (net.ResNet, net.PreActResNet)) else None


_LEVEL = re.compile(r"(?:layer(\d)|stages\.(\d))(?:\.|$)")


def is_deeper(path: str, network: Node) -> bool:
    """Whether a path lies in a stage beyond the last one of an encoder that is cut."""
    encoder = encoder_of(network)
    if encoder is None:
        return False
    found = _LEVEL.match(path.removeprefix("encoder."))
    if found is None:
        return path.removeprefix("encoder.") == "maxpool" and not encoder.stage_list
    number = int(found[1]) if found[1] else int(found[2]) + 1
    return number > len(encoder.stage_list)
