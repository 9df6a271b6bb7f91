"""The ``postprocessing`` of a bundle: how its outputs become labels."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from resvox.cards.outputs import Largest, Outputs
from resvox.prediction.bundle.targets import Target, transforms_of
from resvox.weights.bundle.configuration import Configuration

POSTPROCESSING = "postprocessing"
# torch.where(x[[2]] > 0, 4, torch.where(x[[0]] > 0, 1, ... 0)): regions that are written over each other
_NESTED = re.compile(r"\$lambda x:\s*((?:torch\.where\(x\[\[\d+\]\] > 0, \d+, )+)0(\)+)")
_REGION = re.compile(r"torch\.where\(x\[\[(\d+)\]\] > 0, (\d+), ")


@dataclass(frozen=True, kw_only=True)
class Decided:
    """What a bundle's post-processing does.

    Args:
        outputs: for the model card.
        one_by_one: whether each output is decided by itself, with a threshold.
        written: ``(output, value)`` in the order of writing, where the bundle states it.
    """

    outputs: Outputs
    one_by_one: bool
    written: tuple[tuple[int, int], ...] = ()


@dataclass
class _State:
    """What was done so far."""

    activation: str = "none"
    decision: str = ""  # "argmax" or "threshold"
    threshold: float = 0.5
    restored: str = ""
    largest: list[Largest] = field(default_factory=list)
    written: tuple[tuple[int, int], ...] = ()


def postprocessing_of(configuration: Configuration) -> Decided:
    """What a bundle states.

    Raises:
        WeightsError: a transform that is not known here, or an order that makes no label map.
    """
    state = _State()
    for target in transforms_of(configuration, POSTPROCESSING, set(STEPS)):
        keys = target.keys()
        if keys is not None and "pred" not in keys:
            continue
        if target.name not in STEPS:
            target.refuse(f"the transform {target.name}", f"one of {', '.join(STEPS)}, also with d at the end")
        STEPS[target.name](target, state)
    one_by_one = (state.decision or ("threshold" if state.activation == "sigmoid" else "argmax")) == "threshold"
    outputs = Outputs(
        activation=state.activation,
        restored=state.restored or "labels",
        threshold=state.threshold if one_by_one else None,
        largest=tuple(state.largest),
    )
    return Decided(outputs=outputs, one_by_one=one_by_one, written=state.written)


def _activate(target: Target, state: _State) -> None:
    target.check_known({"sigmoid", "softmax", "other", "dim"})
    target.check_fixed({"other": (None,), "dim": (0,)})
    chosen = [name for name in ("sigmoid", "softmax") if target.read(name, False)]
    if not chosen:
        return
    if len(chosen) > 1 or state.activation != "none" or state.decision:
        target.refuse(f"{' and '.join(chosen)} after {state.decision or state.activation}", "one, before the decision")
    state.activation = chosen[0]


def _discretize(target: Target, state: _State) -> None:
    target.check_known({"argmax", "threshold", "to_onehot", "rounding", "dim", "keepdim"})
    target.check_fixed({"to_onehot": (None, False), "rounding": (None,), "dim": (0,), "keepdim": (True,)})
    argmax, threshold = target.read("argmax", False), target.read("threshold")
    if state.decision or (argmax and threshold is not None):
        target.refuse("a second decision", "argmax or threshold, once")
    if argmax:
        state.decision = "argmax"
    elif threshold is not None and threshold is not False:
        _use_threshold(target, state, threshold)


def _use_threshold(target: Target, state: _State, threshold: Any) -> None:
    if isinstance(threshold, bool) or not isinstance(threshold, int | float):
        target.refuse(f"threshold={threshold!r}", "a number")
    if state.activation == "softmax":
        target.refuse("a threshold after softmax", "argmax, or a threshold after sigmoid")
    if state.activation == "sigmoid" and not 0 < threshold < 1:
        target.refuse(f"threshold={threshold!r} after sigmoid", "a number between 0 and 1")
    state.decision, state.threshold = "threshold", float(threshold)


def _invert(target: Target, state: _State) -> None:
    target.check_known({"transform", "orig_keys", "meta_keys", "orig_meta_keys", "meta_key_postfix", "nearest_interp",
                        "to_tensor", "device", "post_func"})  # fmt: skip
    target.check_fixed({"post_func": (None,)})
    if state.restored:
        target.refuse("a second Invert", "one")
    if state.decision or target.read("nearest_interp", True):
        # MONAI interpolates labels where nearest_interp is false after the decision, which gives fractions at edges;
        # and the largest of the nearest voxel's outputs is that voxel's label
        state.restored = "labels"
    else:
        state.restored = "logits" if state.activation == "none" else "probabilities"


def _keep_largest(target: Target, state: _State) -> None:
    target.check_known({"applied_labels", "is_onehot", "independent", "connectivity", "num_components"})
    target.check_fixed({"is_onehot": (None, False)})
    if state.decision != "argmax":
        target.refuse("KeepLargestConnectedComponent without argmax before it", "it after argmax")
    labels = target.read("applied_labels")
    listed = [] if labels is None else labels if isinstance(labels, list) else [labels]
    if not all(type(each) is int and each >= 0 for each in listed):
        target.refuse(f"applied_labels={labels!r}", "values of labels")
    reach, count = target.read("connectivity"), target.read("num_components", 1)
    if reach not in (None, 1, 2, 3) or type(count) is not int or count < 1:
        target.refuse(f"connectivity={reach!r}, num_components={count!r}", "1, 2, 3 or null, and 1 or more")
    together = not target.read("independent", True)
    on_scan = bool(state.restored)
    state.largest.append(Largest(labels=tuple(listed), together=together, reach=reach, count=count, on_scan=on_scan))


def _lambda(target: Target, state: _State) -> None:
    """Only the writing of regions over each other, recognised as text."""
    target.check_known({"func"})
    code = target.arguments.get("func")
    found = _NESTED.fullmatch(code) if isinstance(code, str) else None
    regions = _REGION.findall(found[1]) if found else []
    if found is None or len(found[2]) != len(regions) or state.decision != "threshold":
        target.refuse(
            f"Lambda with code ({str(code)[:60]!r})", "a transform of MONAI: code in a bundle is never run",
            "remove it: regions are written in the order of the channels",
        )  # fmt: skip
    # the outermost condition wins, so it is written last
    state.written = tuple((int(output), int(value)) for output, value in reversed(regions))


def _save(target: Target, state: _State) -> None:
    """Nothing: results are written on the scan's grid, whatever a bundle states about files."""


def _ignore(target: Target, state: _State) -> None:
    """Nothing: types and devices."""


STEPS: dict[str, Callable[[Target, _State], None]] = {
    "Activations": _activate,
    "AsDiscrete": _discretize,
    "Invert": _invert,
    "KeepLargestConnectedComponent": _keep_largest,
    "Lambda": _lambda,
    "SaveImage": _save,
    "EnsureType": _ignore,
    "ToTensor": _ignore,
    "ToDevice": _ignore,
    "CastToType": _ignore,
    "Identity": _ignore,
}


def with_order(outputs: Outputs, order: tuple[int, ...]) -> Outputs:
    """The same with the outputs written in another order."""
    return outputs if order == tuple(range(len(order))) else replace(outputs, order=order)
