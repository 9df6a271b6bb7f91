"""Networks that torch itself exports and runs: TorchScript and torch.export."""

from __future__ import annotations

import io
import os
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from resvox.errors import InferenceError
from resvox.inference.engines.protocol import Engine, FileRequest
from resvox.inference.engines.torch_engine import TorchEngine


class ExportedModule(torch.nn.Module):
    """A network of `torch.export.load`, whose own `eval` raises an error: it was exported for prediction."""

    def __init__(self, exported: torch.nn.Module) -> None:
        super().__init__()
        self._call = [exported]  # in a list, so that it is not a sub-module: its mode cannot be set

    def forward(self, windows: torch.Tensor) -> object:
        """The outputs of the exported network."""
        return self._call[0](windows)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> ExportedModule:
        self._call[0]._apply(fn, recurse)  # follows this module to its device
        return self


def engine_of_file(request: FileRequest) -> Engine:
    """The exported network as an engine."""
    module = load_exported(request.path, request.format)
    precision = "float32" if request.precision == "auto" else request.precision  # the file was checked in float32
    return TorchEngine(module, device=request.device, precision=precision, notify=request.notify)


def load_exported(path: str | os.PathLike[str], kind: str) -> torch.nn.Module:
    """The network of a TorchScript (``.pt``) or ``torch.export`` (``.pt2``) file, in eval mode.

    Raises:
        InferenceError: a file that torch does not read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about the deprecation of TorchScript at every load
            if kind == "torchscript":
                module: torch.nn.Module = torch.jit.load(os.fspath(path), map_location="cpu").eval()
                return module
            return ExportedModule(torch.export.load(os.fspath(path)).module()).eval()
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        raise InferenceError(
            f"not read as {kind} ({str(error).splitlines()[0]})",
            expected="a network that resvox export wrote",
            fix="export it again with the torch of this machine",
            path=path,
        ) from error


def run_any_size(path: Path, format: str) -> Callable[[np.ndarray], np.ndarray]:
    """A function that computes the outputs of the file's network."""
    module = load_exported(path, format)

    def run(image: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            found: np.ndarray = module(torch.from_numpy(image)).numpy()
        return found

    return run


def write_torchscript(module: torch.nn.Module, path: Path, example: torch.Tensor, sizes: object) -> None:
    """Write a scripted module, without the positions of its source lines, which hold the folders of this machine."""
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(module), buffer)
    with zipfile.ZipFile(buffer) as scripted, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as written:
        for item in scripted.infolist():
            if not item.filename.endswith(".debug_pkl"):
                written.writestr(item.filename, scripted.read(item))


def write_torch_export(module: torch.nn.Module, path: Path, example: torch.Tensor, sizes: object) -> None:
    """Write an exported program."""
    program = torch.export.export(module, (example,), dynamic_shapes=sizes)  # type: ignore[arg-type]
    for node in program.graph.nodes:  # the lines of source that made it, with the folders of this machine
        node.meta.pop("stack_trace", None)
    torch.export.save(program, str(path))
