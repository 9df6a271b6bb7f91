"""Keras's weight files as arrays: ``.weights.h5``, the older ``.h5``, and the weights inside ``.keras``.

A tensor's name is its layer's name and Keras's name of the variable: ``conv1_bn/moving_mean``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from resvox.errors import WeightsError
from resvox.weights.formats.archives import MAX_GROWTH, check_members, open_zip, read_member
from resvox.weights.formats.flat import read_flat

Arrays = dict[str, npt.NDArray[Any]]

WEIGHTS = "model.weights.h5"
MAX_CONFIG_BYTES = 64 * 2**20
MAX_GROUPS = 100_000
TIME_LIMIT_S = 30.0
READ_BYTES_PER_S = 10e6  # the slowest disk that is waited for
REFUSED = 3
NORM = ("gamma", "beta", "moving_mean", "moving_variance")


def read_keras(path: str | os.PathLike[str]) -> tuple[Arrays, dict[str, Any]]:
    """The weights of a ``.keras`` file and its configuration; nothing in it is executed.

    Raises:
        WeightsError: not one, broken, or a zip bomb.
    """
    source = Path(path)
    try:
        with open(source, "rb") as file, open_zip(file, source) as archive:
            check_members(archive, os.fstat(file.fileno()).st_size, source)
            if not {WEIGHTS, "config.json"} <= set(archive.namelist()):
                raise WeightsError("an archive without a model", expected="a file of model.save()", path=source)
            config = json.loads(read_member(archive, "config.json", source)[:MAX_CONFIG_BYTES])
            data = read_member(archive, WEIGHTS, source)
    except OSError as error:
        reason = error.strerror or str(error)
        raise WeightsError(f"could not be read ({reason})", expected="a .keras file", path=source) from error
    except (ValueError, RecursionError) as error:
        raise WeightsError("a configuration that is not JSON", expected="a .keras file", path=source) from error
    return read_h5(source, data), config if isinstance(config, dict) else {}


def read_h5(path: str | os.PathLike[str], data: bytes | None = None) -> Arrays:
    """The variables of a Keras weight file by name, as Keras keeps their axes.

    HDF5's library can hang or crash on a broken file, so a process of its own reads it, for a limited time.

    Args:
        path: the file.
        data: its bytes, where they are read already.

    Raises:
        WeightsError: not one, broken, with links that leave the file, or with more numbers than it holds.
    """
    source = Path(path)
    need_h5py(source)
    size = len(data) if data is not None else source.stat().st_size if source.is_file() else 0
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "given.h5", Path(folder) / "found.safetensors"
        if data is not None:
            given.write_bytes(data)
        words = [
            sys.executable,
            "-m",
            "resvox.weights.formats.hdf5_process",
            os.fspath(source if data is None else given),
        ]
        paths = os.pathsep.join([os.fspath(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")])
        try:
            done = subprocess.run(
                [*words, os.fspath(found), os.fspath(source)],
                capture_output=True,
                text=True,
                timeout=TIME_LIMIT_S + size / READ_BYTES_PER_S,
                env={**os.environ, "PYTHONPATH": paths.rstrip(os.pathsep)},
            )
        except subprocess.TimeoutExpired as error:
            raise _broken(source, "reading it does not end") from error
        if done.returncode == 0:
            return read_flat(found)
        if done.returncode == REFUSED:
            got, expected, fix = json.loads(done.stdout)
            raise WeightsError(got, expected=expected, fix=fix, path=source)
        raise _broken(source, f"reading it ends with code {done.returncode}: {done.stderr[-100:]!r}")


def _broken(source: Path, why: str) -> WeightsError:
    return WeightsError(
        f"not a Keras weight file, or a broken one ({why})", expected="a file of model.save_weights()", path=source
    )


def read_here(path: Path, source: Path) -> Arrays:
    """The variables of a file, read in this process; ``source`` is what errors name.

    Raises:
        WeightsError: as of :func:`read_h5`, but for what HDF5's library does to this process.
    """
    h5py = h5py_for(source)
    try:
        size = path.stat().st_size
        with h5py.File(path, "r") as file:
            top = file["model_weights"] if "model_weights" in file and "layer_names" not in file.attrs else file
            pairs = _old(top, source) if "layer_names" in top.attrs else _new(top, source)
            found: Arrays = {}
            for name, dataset in pairs:
                if name in found:
                    raise WeightsError(f"two tensors {name!r}", expected="one of each name", path=source)
                found[name] = _array(dataset, name, size, source)
    except WeightsError:
        raise
    except Exception as error:  # HDF5 raises errors of every kind, and none has more information
        raise _broken(source, f"{type(error).__name__}: {str(error)[:100]}") from error
    if not found:
        raise WeightsError("a file without weights", expected="a file of model.save_weights()", path=source)
    return found


def h5py_for(source: Path) -> Any:
    """The library, or what to install."""
    need_h5py(source)
    import h5py

    return h5py


def need_h5py(source: Path) -> None:
    """Raise an error that names the package to install, if the library is missing.

    It is looked for and not loaded: where another HDF5 is in the process already, loading a second may end it.
    """
    if importlib.util.find_spec("h5py") is None:
        raise WeightsError(
            "a Keras weight file without h5py", expected="h5py", fix='pip install "resvox[keras]"', path=source
        )


def _new(top: Any, source: Path) -> Iterator[tuple[str, Any]]:
    """``layers/conv2d_3/vars/0``, where ``vars`` remembers that conv2d_3 is ``stack0_block0_1_conv``."""
    for path, group in _groups(top, source):
        if path[-1:] != ("vars",):
            continue
        datasets = [_member(group, str(index), source) for index in range(len(group))]
        names = _variables(datasets)
        layer = _layer_name(top, path[:-1])
        yield from ((f"{layer}/{name}", dataset) for name, dataset in zip(names, datasets, strict=True))


def _layer_name(top: Any, path: tuple[str, ...]) -> str:
    """The name a layer was given; of a layer inside of another, that one's name and its own place."""
    if path[:1] == ("layers",) and len(path) > 1:
        owner = "/".join((*path[:2], "vars"))
        given = top[owner].attrs.get("name", path[1]) if owner in top else path[1]
        return "/".join((_text(given), *path[2:]))
    return "/".join(path)


def _variables(datasets: list[Any]) -> list[str]:
    if datasets and len(datasets[0].shape) > 1:
        names = ["kernel", "bias"]
    else:
        names = list(NORM if len(datasets) in (2, 4) else ())
    return [names[i] if i < len(names) else str(i) for i in range(len(datasets))]


def _old(top: Any, source: Path) -> Iterator[tuple[str, Any]]:
    """The format before Keras 3: a group a layer, that lists its variables as ``conv1_conv/kernel:0``."""
    for layer in top.attrs["layer_names"]:
        group = _member(top, _text(layer), source)
        for name in group.attrs["weight_names"]:
            last = _text(name).split("/")[-1].removesuffix(":0")
            place: Any = group
            for part in _text(name).split("/"):
                place = _member(place, part, source)
            yield f"{_text(layer)}/{last}", place


def _groups(top: Any, source: Path) -> Iterator[tuple[tuple[str, ...], Any]]:
    h5py = h5py_for(source)
    waiting: list[tuple[tuple[str, ...], Any]] = [((), top)]
    seen = 0
    while waiting:
        path, group = waiting.pop(0)
        seen += 1
        if seen > MAX_GROUPS or len(path) > 20:
            raise WeightsError("groups without end", expected="a file of model.save_weights()", path=source)
        yield path, group
        if path[-1:] == ("vars",):
            continue
        for name in group:
            child = _member(group, name, source)
            if isinstance(child, h5py.Group):
                waiting.append(((*path, name), child))


def _member(group: Any, name: str, source: Path) -> Any:
    h5py = h5py_for(source)
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise WeightsError(f"a link {name[:80]!r} that leads elsewhere", expected="weights in the file", path=source)
    return group[name]


def _array(dataset: Any, name: str, file_bytes: int, source: Path) -> npt.NDArray[Any]:
    wanted = math.prod(dataset.shape) * dataset.dtype.itemsize
    stored = dataset.id.get_storage_size()
    growth = 1 if dataset.compression is None else MAX_GROWTH
    if dataset.external or dataset.is_virtual or dataset.dtype.kind not in "fiub" or stored > file_bytes:
        raise WeightsError(f"{name[:80]!r} is no array in the file", expected="numbers", path=source)
    if wanted > growth * stored:
        raise WeightsError(
            f"{name[:80]!r} claims {wanted} bytes in {stored}", expected="as many as it needs", path=source
        )
    return np.asarray(dataset[()])


def _text(value: Any) -> str:
    with contextlib.suppress(AttributeError):
        return str(value.decode("utf-8"))
    return str(value)
