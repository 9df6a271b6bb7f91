"""The blueprint of a module as it is now, which may not be as it was built."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from resvox.blueprint import Blueprint
from resvox.blueprint.networks import Encoder
from resvox.blueprint.node import Node, Sequence
from resvox.blueprint.tasks import FEATURES
from resvox.errors import BlueprintError, WeightsError
from resvox.torch.leaf_reading import leaf_of
from resvox.torch.wrappers import unwrapped

# attributes of a module that do not change predictions
_SILENT = ("training", "checkpointing", "level_sizes", "inplace", "blueprint", "reduction", "reset_parameters")
SIDE = 16  # voxels: size of the image on which hooks are tested
SHOWN = 4
# a word in the class of what was put into a network -> how to get a network of this package back
_FIXES = {
    "Quantiz": "save the model before it is quantized",
    "quantiz": "save the model before it is quantized",
    "peft": "model.merge_and_unload() first",
    "Parametrized": "torch.nn.utils.parametrize.remove_parametrizations(layer, name) first",
    "FSDP": "gather the full state dict, and load it into a model of its own",
    "FullySharded": "gather the full state dict, and load it into a model of its own",
}
_FIX = (
    "build it with the options of resvox.create_model that say so and load the state dict into it, or keep the state "
    "dict with torch.save"
)


def blueprint_as_is(model: nn.Module) -> Blueprint:
    """The blueprint of what a module computes now, with the layers that were changed by hand.

    Raises:
        WeightsError: it computes something that a blueprint cannot describe; the error names the layers.
    """
    from resvox.torch import build

    blueprint = adapted(model)
    with torch.device("meta"):
        wanted = build(blueprint)
    found = list(_differences(model, wanted, "")) or list(_hooks(model, blueprint))
    if found:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        fix = next((fix for word, fix in _FIXES.items() if any(word in each for each in found)), _FIX)
        raise WeightsError(
            f"a model that computes something else than its blueprint: {'; '.join(found[:SHOWN])}{more}",
            expected="the network as it was built, or layers in it that a blueprint can describe",
            fix=fix,
        )
    return blueprint


def adapted(model: nn.Module) -> Blueprint:
    """The blueprint with the layers that were changed by hand, as far as it can hold them. Nothing is checked."""
    given: Blueprint = model.blueprint  # type: ignore[assignment]
    try:
        network: Any = _node(given.network, model)
        if network == given.network:
            return given
        changed = replace(given, network=network, in_channels=next(_convolutions(network)))
        last = changed.stages((64,) * given.spatial_dims)[-1].output_shape[1]
        if given.task == FEATURES or (isinstance(network, Encoder) and _has_no_classifier(network)):
            changed = replace(changed, task=FEATURES, num_classes=0)
        else:
            changed = replace(changed, num_classes=last)
        return Blueprint.from_json(changed.to_json())
    except (BlueprintError, StopIteration):  # such as a convolution for another number of input channels
        return given


def _has_no_classifier(network: Encoder) -> bool:
    head = getattr(network, "head", network)
    return getattr(head, "fc", None) is None


def _convolutions(network: Node) -> Iterator[int]:
    for _, leaf in network.leaves():
        channels = getattr(leaf, "in_channels", None)
        if channels is not None:
            yield channels


def _node(node: Node, module: nn.Module) -> Node | None:
    """A node with the leaves that describe the current layers."""
    module = unwrapped(module)
    children = list(node.children())
    if not children:
        return leaf_of(node, module)
    found = {name: _child(child, module._modules.get(name)) for name, child in children}
    if isinstance(node, Sequence):
        return replace(node, items=tuple(found[name] or child for name, child in children))
    names = {field.name for field in fields(node)}
    return replace(node, **{name: child for name, child in found.items() if name in names})


def _child(child: Node, module: nn.Module | None) -> Node | None:
    return child if module is None else _node(child, module)


def _differences(have: nn.Module, want: nn.Module, path: str) -> Iterator[str]:
    """The differences of a module from the one that its blueprint builds, layer by layer."""
    have, named = unwrapped(have), path or "the model"
    if not _computes_alike(have, want):
        yield f"{named} is a {type(have).__module__}.{type(have).__name__}, not a {type(want).__name__}"
        return
    for key, value in vars(want).items():
        if not key.startswith("_") and key not in _SILENT and not _equal(vars(have).get(key), value):
            yield f"{path + '.' if path else ''}{key} is {vars(have).get(key)!r}, not {value!r}"
    for key, value in vars(have).items():
        if callable(value) and not key.startswith("_") and key not in vars(want) and hasattr(type(want), key):
            yield f"{named} has a {key} of its own"
    theirs = {name: child for name, child in want._modules.items() if child is not None}
    ours = {name: child for name, child in have._modules.items() if child is not None}
    for name in [*theirs, *(name for name in ours if name not in theirs)]:
        inner = f"{path}.{name}" if path else name
        if name not in ours or name not in theirs:
            yield f"{inner} was {'added' if name in ours else 'removed'}"
        else:
            yield from _differences(ours[name], theirs[name], inner)


def _computes_alike(have: nn.Module, want: nn.Module) -> bool:
    """Whether a class computes what the one that was built does: the same, or a subclass that overrides nothing."""
    if isinstance(want, nn.modules.batchnorm._BatchNorm) and type(have) is nn.SyncBatchNorm:
        return True
    if isinstance(want, nn.GroupNorm | nn.InstanceNorm2d | nn.InstanceNorm3d) and type(have) in type(want).__bases__:
        return True  # PyTorch's class of the same name
    own = type(have).__mro__
    if type(want) not in own:
        return False
    added = {name for kind in own[: own.index(type(want))] for name in vars(kind)}
    return not any(name in dir(want) for name in added if not name.startswith("__"))


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return True  # tensors are compared by name and shape, where they are written
    if isinstance(one, tuple | list) != isinstance(other, tuple | list):  # 3 and (3, 3) are one kernel
        several, single = (one, other) if isinstance(one, tuple | list) else (other, one)
        return all(each == single for each in several)
    return bool(list(one) == list(other)) if isinstance(one, tuple | list) else bool(one == other)


def _hooks(model: nn.Module, blueprint: Blueprint) -> Iterator[str]:
    """The hooks that change inputs or outputs, as text; a file cannot store them."""
    hooked = [(name, each) for name, each in model.named_modules() if each._forward_hooks or each._forward_pre_hooks]
    if not hooked:
        return
    like = next(model.parameters())
    if like.is_meta:
        return
    shape = (1, blueprint.in_channels, *(SIDE,) * blueprint.spatial_dims)
    image = torch.sin(torch.arange(math.prod(shape), dtype=torch.float32)).reshape(shape).to(like)
    modes = [(each, each.training) for each in model.modules()]
    kept = [(each, each._forward_hooks, each._forward_pre_hooks) for _, each in hooked]
    changing: set[str] = set()
    try:
        model.eval()
        for name, each in hooked:
            each._forward_hooks = _watched(each._forward_hooks, -1, name or "the model", changing)
            each._forward_pre_hooks = _watched(each._forward_pre_hooks, 1, name or "the model", changing)
        with torch.no_grad():
            model(image)
    finally:
        for each, after, before in kept:
            each._forward_hooks, each._forward_pre_hooks = after, before
        for each, mode in modes:
            each.training = mode
    if changing:
        yield f"a hook on {', '.join(sorted(changing)[:SHOWN])} changes what goes in or comes out"


def _watched(hooks: Any, given: int, name: str, changing: set[str]) -> Any:
    """The same hooks; of one that gives another value than the ``given``-th of its arguments, the name is noted."""

    def watch(hook: Any) -> Any:
        def watched(*arguments: Any) -> Any:
            result = hook(*arguments)
            if result is not None and not _same(result, arguments[given]):
                changing.add(name)
            return result

        return watched

    return type(hooks)((key, watch(hook)) for key, hook in hooks.items())


def _same(result: Any, given: Any) -> bool:
    ours, theirs = _outputs(result), _outputs(given)
    return len(ours) == len(theirs) and all(
        a is b or (isinstance(a, Tensor) and isinstance(b, Tensor) and torch.equal(a, b))
        for a, b in zip(ours, theirs, strict=True)
    )


def _outputs(result: Any) -> list[Any]:
    return list(result) if isinstance(result, list | tuple) else [result]
