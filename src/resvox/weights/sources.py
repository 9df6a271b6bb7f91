"""A source of weights, whatever it is: a file of any kind, a state dict, a folder, an address on a hub."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from resvox.blueprint import Blueprint
from resvox.errors import BlueprintError, WeightsError
from resvox.hub import HubAddress, fetched, is_address, local_path
from resvox.weights.formats.archives import read_npz
from resvox.weights.formats.flat import read_flat
from resvox.weights.formats.hdf5 import read_h5, read_keras
from resvox.weights.formats.pickled import read_pickled
from resvox.weights.formats.safetensors import raw_header, read_header

Arrays = dict[str, npt.NDArray[Any]]

ENDINGS = (".pth", ".pt", ".bin", ".ckpt", ".tar", ".safetensors", ".keras", ".h5", ".hdf5", ".npz")
# where training scripts put a state dict in what they save
CONTAINERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "network_weights", "weights",
              "params", "state_dict_ema", "model_ema", "ema_state_dict", "model_ema_state_dict", "ema_model", "ema",
              "params_ema", "module")  # fmt: skip
WRAPPERS = ("module.", "_orig_mod.", "_forward_module.", "model.", "net.", "network.", "_model.", "backbone.",
            "encoder.", "model_ema.", "ema_model.", "ema.", "averaged_model.", "swa_model.")  # fmt: skip
# what compilers and checkpointing put in the middle of names
SEGMENTS = ("_orig_mod.", "_checkpoint_wrapped_module.", "_fsdp_wrapped_module.")
# tensors beside a network in what training scripts save, by the first part of their names, and what they are
COPY = "another copy of the network"
BESIDE = (
    (r"(\w+_)?(n_averaged|num_updates|decay|global_step|step|epoch)", "a counter of the training"),
    (r"(\w+_)?(criterion|criteria|loss|losses|loss_fn|loss_func|loss_function)(_\w+)?", "a weight of the loss"),
    (r"(\w+_)?(metric|metrics|accuracy|acc|auroc|auc|f1|dice|iou|jaccard|confmat|confusion_matrix)(_\w+)?",
     "the state of a metric"),
    (r"(optimizer|scheduler|scaler)s?", "the state of an optimizer"),
    (r"(model_ema|ema_model|ema|averaged_model|swa_model|teacher|momentum_encoder)", COPY),
)  # fmt: skip
COUNTER = "num_batches_tracked"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Tensors by the name they have where they come from.

    Attributes:
        tensors: numpy arrays, axes as stored.
        where: the file, or "a state dict": what errors name.
        wrappers: prefixes and containers that were taken off.
        beside: names of tensors that belong to no network, each with what it is.
        blueprint: of a resvox file; None for others.
        kind: "keras" where names end with kernel, gamma and the like and axes are Keras's; else "torch".
    """

    tensors: Arrays
    where: str
    wrappers: tuple[str, ...] = ()
    beside: dict[str, str] = field(default_factory=dict)
    blueprint: Blueprint | None = None
    kind: str = "torch"
    metadata: dict[str, Any] = field(default_factory=dict)


def read_source(source: Any) -> Source:
    """The tensors of a file, a folder or a state dict, without the wrappers around their names.

    Raises:
        WeightsError: nothing there, of an unknown kind, broken or unsafe.
    """
    if isinstance(source, Source):
        return source
    if isinstance(source, Mapping):
        return _unwrapped(_of_mapping(dict(source), "a state dict"))
    if not isinstance(source, (str, os.PathLike)):
        raise WeightsError(
            f"a {type(source).__name__} as a source of weights",
            expected="a path or a state dict",
            fix="give model.state_dict() of a torch model, or save a Keras model's weights to a .weights.h5 file",
        )
    if is_address(source):
        address = HubAddress.parse(source)
        path, commit = fetched(address)
        return replace(_unwrapped(_read_file(_only_file(path))), where=str(replace(address, revision=commit)))
    return _unwrapped(_read_file(_only_file(Path(source))))


def file_of(source: str | os.PathLike[str]) -> Path:
    """The file of weights that a source means: itself, the one in a folder, or that of an address on a hub.

    Raises:
        WeightsError: a folder with none or several, an address that cannot be used.
    """
    return _only_file(Path(local_path(source)))


def _only_file(path: Path) -> Path:
    return _file_in(path) if path.is_dir() else path


def _read_file(path: Path) -> Source:
    ending = "".join(path.suffixes[-1:]).lower()
    where = os.fspath(path)
    if not path.is_file():
        raise WeightsError("no such file", expected="a file of weights", path=path)
    if ending == ".safetensors":
        words = raw_header(path).get("__metadata__")
        ours = isinstance(words, dict) and "blueprint" in words
        header = read_header(path) if ours else None
        return Source(
            tensors=read_flat(path),
            where=where,
            blueprint=header.blueprint if header else None,
            metadata=header.metadata if header else {},
        )
    if ending == ".npz":
        tensors = read_npz(path)
        return Source(tensors=tensors, where=where, kind=_kind(tensors))
    if ending == ".keras":
        tensors, config = read_keras(path)
        return Source(tensors=tensors, where=where, kind="keras", blueprint=_blueprint_in(config, path))
    if ending in (".h5", ".hdf5"):
        return Source(tensors=read_h5(path), where=where, kind="keras")
    if ending in ENDINGS:
        return _of_mapping(read_pickled(path), where)
    raise WeightsError(
        f"a file that ends with {ending!r}", expected="one of " + ", ".join(ENDINGS), fix="rename it", path=path
    )


def _kind(tensors: Arrays) -> str:
    return "keras" if any(name.endswith("/kernel") for name in tensors) else "torch"


def _blueprint_in(config: dict[str, Any], path: Path) -> Blueprint | None:
    """The blueprint in the configuration of a resvox Keras model."""
    inner = config.get("config")
    text = inner.get("blueprint") if isinstance(inner, dict) else None
    if not isinstance(text, str):
        return None
    try:
        return Blueprint.from_json(text)
    except BlueprintError as error:
        raise WeightsError(f"a broken blueprint ({error})", expected="a resvox model", path=path) from error


def _of_mapping(content: Any, where: str) -> Source:
    """A state dict, or the one in a training script's checkpoint."""
    wrappers: list[str] = []
    beside: dict[str, str] = {}
    while isinstance(content, dict) and len(wrappers) <= 3:
        found = [name for name in CONTAINERS if isinstance(content.get(name), Mapping) and content[name]]
        if not found:
            break
        inner, *others = found
        beside.update(dict.fromkeys(others, f"another part of the checkpoint than {inner!r}"))
        wrappers.append(inner)
        content = dict(content[inner])
    if not isinstance(content, dict) or not _has_tensors(content):
        raise WeightsError(
            "no state dict",
            expected="tensors by name, or a checkpoint with them under one of " + ", ".join(CONTAINERS),
            path=where,
        )
    numbers = [
        name for name, value in content.items() if isinstance(name, str) and not _is_tensor(value) and _beside(name)
    ]
    beside.update({name: _beside(name) for name in numbers})
    content = {name: value for name, value in content.items() if name not in numbers}
    odd = [str(name) for name, value in content.items() if not isinstance(name, str) or not _is_tensor(value)]
    if odd:
        raise WeightsError(
            f"entries that are not tensors: {', '.join(odd[:8])}",
            expected="tensors by name",
            fix="hand over the state dict in it",
            path=where,
        )
    tensors = {name: _array(value) for name, value in content.items()}
    return Source(tensors=tensors, where=where, wrappers=tuple(wrappers), beside=beside, kind=_kind(tensors))


def _has_tensors(content: Mapping[Any, Any]) -> bool:
    return any(_is_tensor(value) for value in content.values())


def _is_tensor(value: Any) -> bool:
    return isinstance(value, np.ndarray) or type(value).__module__.split(".")[0] == "torch"


def _array(value: Any) -> npt.NDArray[Any]:
    if isinstance(value, np.ndarray):
        return value
    from resvox.torch.tensors import array_of

    array: npt.NDArray[Any] = array_of(value)
    return array


def _unwrapped(source: Source) -> Source:
    """Names without what wrappers put before or into them; tensors that belong to no network are set aside."""
    if source.kind == "keras" or source.blueprint is not None:
        return source
    tensors, wrappers, beside = source.tensors, list(source.wrappers), dict(source.beside)
    for segment in SEGMENTS:
        tensors = {name.replace(f".{segment}", "."): value for name, value in tensors.items()}
    while True:
        others = {name: what for name, what in ((name, _beside(name)) for name in tensors) if what}
        if len(others) == len(tensors):  # then the copy of the network is the network
            others = {name: what for name, what in others.items() if what != COPY}
        if len(others) < len(tensors):
            beside.update(others)
            tensors = {name: value for name, value in tensors.items() if name not in others}
        prefix = next((word for word in WRAPPERS if all(name.startswith(word) for name in tensors)), None)
        if prefix is None:
            return replace(source, tensors=tensors, wrappers=tuple(wrappers), beside=beside)
        wrappers.append(prefix)
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}


def _beside(name: str) -> str:
    """What a tensor is that belongs to no network, by the first part of its name; "" for one of a network."""
    first = name.split(".")[0]
    return next((what for pattern, what in BESIDE if re.fullmatch(pattern, first)), "")


def _file_in(folder: Path) -> Path:
    """The one weights file of a folder, or of the newest snapshot in a Hugging Face cache folder."""
    inside = folder
    if (folder / "snapshots").is_dir():
        main = folder / "refs" / "main"
        revisions = sorted(each.name for each in (folder / "snapshots").iterdir() if each.is_dir())
        wanted = main.read_text(encoding="utf-8").strip() if main.is_file() else ""
        if wanted not in revisions and len(revisions) == 1:
            wanted = revisions[0]
        if wanted not in revisions:
            raise WeightsError(
                f"snapshots {', '.join(revisions) or 'none'}",
                expected="the one that refs/main names",
                fix="give the folder of a snapshot, or the file itself",
                path=folder,
            )
        inside = folder / "snapshots" / wanted
    files = [each for each in sorted(inside.rglob("*")) if each.suffix.lower() in ENDINGS and each.is_file()]
    # of the same weights in two formats, the one that cannot run anything
    chosen = [each for each in files if each.suffix == ".safetensors"] or files
    if len(chosen) != 1:
        raise WeightsError(
            f"{len(chosen)} files of weights" + (f": {', '.join(each.name for each in chosen[:8])}" if chosen else ""),
            expected="one",
            fix="give the file itself",
            path=inside,
        )
    return chosen[0]
