"""The model file: one ``.safetensors`` that holds tensors, the blueprint and what the workflow needs to know."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from resvox._version import __version__
from resvox.errors import BlueprintError, WeightsError
from resvox.files import write_atomically

if TYPE_CHECKING:
    from resvox.blueprint import Blueprint

FORMAT = "1"
MAX_HEADER_BYTES = 64 * 2**20
Tensors = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Header:
    """The contents of a model file without its tensors.

    Attributes:
        blueprint: the network.
        metadata: a JSON object of the workflow: ``preprocessing``, ``labels``, ``colours``, ``inference``...
        version: the version of resvox that wrote it.
    """

    blueprint: Blueprint
    metadata: dict[str, Any] = field(default_factory=dict)
    version: str = __version__


def write_file(
    path: str | os.PathLike[str],
    tensors: Tensors,
    blueprint: Blueprint,
    metadata: Mapping[str, Any] | None = None,
) -> Path:
    """Write a model file atomically: whole, or not at all.

    Raises:
        WeightsError: tensors that are not the blueprint's, metadata that is not JSON, or no space.
    """
    from safetensors.numpy import save

    target = Path(path)
    check_tensors(tensors, blueprint, source=target)
    try:
        words = json.dumps(dict(metadata or {}))
    except (TypeError, ValueError) as error:
        raise WeightsError(
            f"metadata that is not JSON ({error})",
            expected="plain dicts, lists, numbers, strings",
            path=target,
        ) from error
    header = {
        "resvox_format": FORMAT,
        "resvox_version": __version__,
        "blueprint": blueprint.to_json(),
        "metadata": words,
    }
    data = save({name: np.ascontiguousarray(value) for name, value in tensors.items()}, metadata=header)
    replace_file(target, data)
    return target


def replace_file(target: Path, data: bytes) -> None:
    """Write ``data`` to ``target``, whole or not at all.

    Raises:
        WeightsError: the folder cannot be written to, or the disk is full.
    """
    try:
        write_atomically(target, data)
    except OSError as error:
        raise WeightsError(
            f"could not be written ({error.strerror or error})",
            expected="a folder with write permission and free space",
            path=target,
        ) from error


def read_header(path: str | os.PathLike[str]) -> Header:
    """The blueprint and metadata of a model file; no tensor is read.

    Raises:
        WeightsError: missing, truncated, not a safetensors file, or one without a blueprint.
    """
    from resvox.blueprint import Blueprint

    source = Path(path)
    words = _words(source)
    try:
        blueprint = Blueprint.from_json(words["blueprint"])
    except (ValueError, BlueprintError) as error:
        raise _broken(error, source) from error
    version = str(words.get("resvox_version", ""))
    return Header(blueprint=blueprint, metadata=_metadata(words, source), version=version)


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The metadata of a model file; its blueprint is not read, which takes longer.

    Raises:
        WeightsError: as `read_header`, but for the contents of the blueprint.
    """
    source = Path(path)
    return _metadata(_words(source), source)


def _words(source: Path) -> dict[str, Any]:
    """The texts in a model file's header."""
    words = raw_header(source).get("__metadata__")
    if not isinstance(words, dict) or "blueprint" not in words:
        raise WeightsError(
            "a safetensors file without a blueprint",
            expected="a model file written by resvox.save_model",
            fix="build the model with resvox.create_model and load the tensors into it",
            path=source,
        )
    if words.get("resvox_format") != FORMAT:
        raise WeightsError(
            f"model file format {words.get('resvox_format')!r}", expected=f"format {FORMAT!r}", path=source
        )
    return words


def _metadata(words: Mapping[str, Any], source: Path) -> dict[str, Any]:
    try:
        metadata = json.loads(words.get("metadata", "{}"))
    except ValueError as error:
        raise _broken(error, source) from error
    if not isinstance(metadata, dict):
        raise WeightsError("metadata that is not an object", expected="a JSON object", path=source)
    return metadata


def _broken(error: Exception, source: Path) -> WeightsError:
    return WeightsError(f"a broken header ({error})", expected="a model file", path=source)


def raw_header(source: Path) -> dict[str, Any]:
    """The JSON at the start of the file, bounded before anything is allocated for it."""
    try:
        size = source.stat().st_size
        with open(source, "rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
                raise WeightsError("not a safetensors file, or a truncated one", expected="a model file", path=source)
            header = json.loads(file.read(length))
    except OSError as error:
        reason = error.strerror or str(error)
        raise WeightsError(f"could not be read ({reason})", expected="a model file", path=source) from error
    except (ValueError, RecursionError) as error:
        raise WeightsError("not a safetensors file", expected="a model file", path=source) from error
    if not isinstance(header, dict):
        raise WeightsError("not a safetensors file", expected="a model file", path=source)
    return header


def read_tensors(path: str | os.PathLike[str], blueprint: Blueprint) -> dict[str, npt.NDArray[Any]]:
    """The tensors of a model file, checked against the blueprint by name and shape.

    Raises:
        WeightsError: truncated, or tensors that are not the blueprint's.
    """
    from safetensors import SafetensorError, safe_open

    source = Path(path)
    try:
        with safe_open(source, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise WeightsError(f"broken tensors ({error})", expected="a whole model file", path=source) from error
    check_tensors(tensors, blueprint, source=source)
    return tensors


def check_tensors(tensors: Tensors, blueprint: Blueprint, *, source: str | os.PathLike[str]) -> None:
    """Names and shapes must be the blueprint's, all of them and no others.

    Raises:
        WeightsError: listing what is missing, unknown or misshapen.
    """
    wanted = blueprint.tensors()
    problems = Problems()
    problems.add("missing", [name for name in wanted if name not in tensors])
    problems.add("unknown", [name for name in tensors if name not in wanted])
    problems.add(
        "misshapen",
        [
            f"{name} {tuple(value.shape)} for {wanted[name].shape}"
            for name, value in tensors.items()
            if name in wanted and tuple(value.shape) != wanted[name].shape
        ],
    )
    if problems:
        raise WeightsError(
            f"tensors of another network; {problems}",
            expected=f"the {len(wanted)} tensors of {blueprint.name!r}",
            path=source,
        )


class Problems:
    """What is wrong with tensors, kind by kind; its text names the first few of each."""

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = {}

    def add(self, kind: str, names: Iterable[str]) -> None:
        """Names of one kind of problem; each is listed once."""
        for name in names:
            if name not in self._names.setdefault(kind, []):
                self._names[kind].append(name)

    def __bool__(self) -> bool:
        return any(self._names.values())

    def __str__(self) -> str:
        return "; ".join(
            f"{kind}: {', '.join(names[:8])}" + (f" and {len(names) - 8} more" if len(names) > 8 else "")
            for kind, names in self._names.items()
            if names
        )
