"""Weights of a head and of input channels matched by name: classes and channels of a checkpoint keep what they learned.

A network for more, fewer or reordered classes takes the rows of the classes that both know. Rows of new classes are
that of the background (or the mean of all known ones) with a bias that is lower by `BEHIND`: their logit is always
below that of a class that is known, so they win nowhere before they are trained. A region without its row gets zeros
and the bias ``-BEHIND``: it is nowhere. New input channels get zeros, so that outputs do not depend on them at first.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from resvox.blueprint.leaves import Conv
from resvox.errors import WeightsError
from resvox.hub import local_path
from resvox.weights.formats.safetensors import read_header
from resvox.weights.models import network_in, tensor_adapter
from resvox.weights.naming import name_source
from resvox.weights.sources import file_of, read_source

BEHIND = 4.0  # in logits: a probability of at most 1.8 %
HEADS = ("head", "supervision", "fc")
Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Names:
    """What the outputs and input channels of a network stand for.

    Args:
        outputs: one name per output, in order.
        channels: one name per input channel.
        has_background: whether the first output is the background, whatever its name.
        independent: whether each output is decided by itself (regions).
    """

    outputs: tuple[str, ...]
    channels: tuple[str, ...]
    has_background: bool = True
    independent: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """The outputs, of which the background has a name that no other has."""
        return ("", *self.outputs[1:]) if self.has_background else self.outputs


def names_of(source: str | os.PathLike[str]) -> Names | None:
    """What a source of weights names: the card of a resvox file, or the dataset.json of nnU-Net above it.

    Args:
        source: a file, a folder with one file of weights, or an address on a hub, as `read_source` takes them.

    Returns:
        None where nothing is named.
    """
    given = Path(local_path(source))
    try:
        path = file_of(given)
    except WeightsError:  # a folder with several files, such as a model of nnU-Net with several folds
        path = given
    if path.suffix.lower() == ".safetensors" and path.is_file():
        try:
            return _of_card(read_header(path).metadata)
        except WeightsError:  # a peer's file, without this library's header
            return None
    folders = (given, *given.parents[:2], *path.parents[:2]) if path.exists() else ()
    for folder in folders:
        if (folder / "dataset.json").is_file() and (folder / "plans.json").is_file():
            return _of_nnunet(json.loads((folder / "dataset.json").read_text(encoding="utf-8-sig")))
    return None


def _of_card(metadata: Mapping[str, Any]) -> Names | None:
    channels = tuple(str(name) for name in metadata.get("channel_names") or ())
    regions, labels = metadata.get("regions"), metadata.get("labels")
    if regions:
        return Names(outputs=tuple(regions), channels=channels, has_background=False, independent=True)
    if not isinstance(labels, Mapping) or not labels:
        return None
    ordered = sorted(labels, key=lambda name: labels[name])
    # labels of whole images are classes, of which none is a background
    is_class = "image_size" in (metadata.get("inference") or {})
    has_background = not is_class and 0 in labels.values()
    return Names(
        outputs=tuple(ordered),
        channels=channels,
        has_background=has_background,
        independent=not is_class and not has_background,
    )


def _of_nnunet(described: Mapping[str, Any]) -> Names | None:
    channels = described.get("channel_names") or described.get("modality") or {}
    labels = {str(name): value for name, value in described["labels"].items() if str(name).lower() != "ignore"}
    named = tuple(str(channels[key]) for key in sorted(channels, key=int))
    if any(isinstance(value, list) for value in labels.values()):
        regions = tuple(name for name, value in labels.items() if value not in (0, [0]))
        return Names(outputs=regions, channels=named, has_background=False, independent=True)
    return Names(outputs=tuple(sorted(labels, key=lambda name: int(labels[name]))), channels=named)


def keep_by_name(
    model: Any, source: str | os.PathLike[str], new: Names, *, peer: str | None = None, old: Names | None = None
) -> list[str]:
    """Fill head and first convolution of a model from a source, by names; all else must have been loaded before.

    Args:
        model: a torch or Keras model that resvox built, for ``new``.
        source: as of `resvox.weights.load_weights`.
        new: of the model.
        old: of the source; None reads them from it.

    Returns:
        What was kept, one line for the head and one for the channels; empty where source and model have no name in
        common.
    """
    old = old or names_of(source)
    if old is None:
        return []
    model = network_in(model)
    adapter, _ = tensor_adapter(model)
    blueprint = adapter.blueprint_to_fill(model)
    theirs = name_source(read_source(source), peer, blueprint).tensors
    own = adapter.tensors_of(model)
    changed, lines = _kept_rows(theirs, own, old, new)
    first, words = _kept_channels(blueprint, theirs, own, old, new)
    adapter.update(model, {**changed, **first})
    return [*lines, *words]


def _kept_rows(
    theirs: Mapping[str, Array], own: Mapping[str, Array], old: Names, new: Names
) -> tuple[dict[str, Array], list[str]]:
    common = [name for name in new.keys if name in old.keys]
    if not [name for name in common if name] or old.independent != new.independent:
        return {}, []
    changed = {}
    for name, value in own.items():
        known = theirs.get(name)
        if name.split(".")[0] not in HEADS or known is None or not _are_rows(known, value, old, new):
            continue
        changed[name] = _rows(known, old, new, is_bias=value.ndim == 1)
    if not changed:
        return {}, []
    added = [name for name in new.keys if name not in common]
    kept = ", ".join(name or "background" for name in common)
    return changed, [f"head: rows of {kept} kept" + (f"; {', '.join(added)} begin behind them" if added else "")]


def _are_rows(known: Array, value: Array, old: Names, new: Names) -> bool:
    """Whether a tensor has one row per output in both networks."""
    sizes = len(old.outputs), len(new.outputs)
    return (len(known), len(value)) == sizes and known.shape[1:] == value.shape[1:]


def _rows(known: Array, old: Names, new: Names, *, is_bias: bool) -> Array:
    place = {name: at for at, name in enumerate(old.keys)}
    if new.independent:
        behind = np.full(known.shape[1:], -BEHIND if is_bias else 0.0, known.dtype)
    else:
        behind = known[0] if old.has_background else known.mean(axis=0, dtype=np.float64).astype(known.dtype)
        behind = behind - BEHIND if is_bias else behind
    rows = [known[place[name]] if name in place else behind for name in new.keys]
    return np.ascontiguousarray(np.stack(rows)).astype(known.dtype)


def _kept_channels(
    blueprint: Any, theirs: Mapping[str, Array], own: Mapping[str, Array], old: Names, new: Names
) -> tuple[dict[str, Array], list[str]]:
    common = [name for name in new.channels if name in old.channels]
    path = next((path for path, leaf in blueprint.network.leaves() if isinstance(leaf, Conv)), "")
    name = f"{path}.weight"
    known, value = theirs.get(name), own.get(name)
    if not common or old.channels == new.channels or known is None or value is None:
        return {}, []
    sizes = known.shape[1] == len(old.channels) and value.shape[1] == len(new.channels)
    if not sizes or known.shape[2:] != value.shape[2:]:
        return {}, []
    kernel = np.zeros(value.shape, known.dtype)
    for at, each in enumerate(new.channels):
        if each in old.channels:
            kernel[:, at] = known[:, old.channels.index(each)]
    added = [each for each in new.channels if each not in common]
    line = f"channels: {', '.join(common)} kept" + (f"; {', '.join(added)} begin at zero" if added else "")
    return {name: kernel}, [line]
