"""The engines, each with the export formats that come with it: one row per engine.

A new engine is a row here and a module that the row names. Importing this table imports no framework.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

AUTO = "auto"
FLOAT_PRECISIONS = (AUTO, "float32", "bfloat16", "float16")
PRECISIONS = (*FLOAT_PRECISIONS, "int8")
HERE = "resvox.inference.engines"


@dataclass(frozen=True, kw_only=True)
class ExportFormat:
    """A file format of exported networks.

    Args:
        name: as in ``resvox export --format``.
        ending: of its files.
        writer: ``module:function`` that writes it, see `resvox.inference.engines.exporting.write_network`.
        runner: ``module:function`` that gives a function of the file and the format's name that computes outputs of
            inputs of any size, as other programs do; see `resvox.inference.engines.open_sizes`.
        packages: what the writer needs besides torch.
    """

    name: str
    ending: str
    writer: str
    runner: str
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class EngineRow:
    """A row of the table: an engine, which computes the outputs of a network.

    Args:
        name: as in ``resvox predict --engine``.
        package: what must be installed.
        network: ``module:function`` that makes the engine from a `NetworkRequest`; "" if it runs files only.
        file: ``module:function`` that makes the engine from a `FileRequest`; "" if it runs no files.
        bfloat16: ``module:function``: whether a type of device ("cpu", "cuda") has bfloat16 units.
        int8: ``module:function``: whether a type of device has int8 units; "" if the engine runs no quantized networks.
        devices: types of devices that it supports; empty for all devices of torch.
        is_automatic: tried by ``engine="auto"``, in the order of the table.
        is_reference: the reference of the accuracy guard; it is never compared itself.
        formats: the export formats that come with it; it is the first choice to run them.
        reads: names of formats of other engines that it runs too.
    """

    name: str
    package: str
    network: str = ""
    file: str = ""
    bfloat16: str = ""
    int8: str = ""
    devices: tuple[str, ...] = ()
    is_automatic: bool = False
    is_reference: bool = False
    formats: tuple[ExportFormat, ...] = ()
    reads: tuple[str, ...] = ()

    def computes_on(self, place: str) -> bool:
        """Whether it supports a type of device, such as "cpu"; "auto" is one of those that it supports."""
        return place == AUTO or not self.devices or place in self.devices


ENGINES = (
    EngineRow(
        name="openvino",
        package="openvino",
        network=f"{HERE}.openvino_engine:engine_of_network",
        file=f"{HERE}.openvino_engine:engine_of_file",
        bfloat16=f"{HERE}.openvino_engine:has_bfloat16",
        int8=f"{HERE}.devices:has_int8",
        devices=("cpu",),
        is_automatic=True,
        formats=(
            ExportFormat(
                name="openvino",
                ending=".xml",
                writer=f"{HERE}.openvino_engine:write_openvino",
                runner=f"{HERE}.openvino_engine:run_any_size",
                packages=("openvino",),
            ),
        ),
        reads=("onnx",),
    ),
    EngineRow(
        name="torch",
        package="torch",
        network=f"{HERE}.torch_engine:engine_of_network",
        file=f"{HERE}.torch_formats:engine_of_file",
        bfloat16=f"{HERE}.devices:has_bfloat16",
        is_automatic=True,
        formats=(
            ExportFormat(
                name="torchscript",
                ending=".pt",
                writer=f"{HERE}.torch_formats:write_torchscript",
                runner=f"{HERE}.torch_formats:run_any_size",
            ),
            ExportFormat(
                name="torch-export",
                ending=".pt2",
                writer=f"{HERE}.torch_formats:write_torch_export",
                runner=f"{HERE}.torch_formats:run_any_size",
            ),
        ),
    ),
    EngineRow(
        name="torch-plain",
        package="torch",
        network=f"{HERE}.torch_engine:reference_engine",
        bfloat16=f"{HERE}.devices:has_bfloat16",
        is_reference=True,
    ),
    EngineRow(
        name="onnxruntime",
        package="onnxruntime",
        file=f"{HERE}.onnx_engine:engine_of_file",
        formats=(
            ExportFormat(
                name="onnx",
                ending=".onnx",
                writer=f"{HERE}.onnx_engine:write_onnx",
                runner=f"{HERE}.onnx_engine:run_any_size",
                packages=("onnx", "onnxscript"),
            ),
        ),
    ),
)


def engine_names() -> tuple[str, ...]:
    """All values of ``engine=``."""
    return (AUTO, *(row.name for row in ENGINES))


def network_engines() -> dict[str, EngineRow]:
    """The engines that run networks in torch, by name."""
    return {row.name: row for row in ENGINES if row.network}


def export_formats() -> dict[str, ExportFormat]:
    """The export formats by name."""
    return {each.name: each for row in ENGINES for each in row.formats}


def format_of_ending(ending: str) -> str | None:
    """The export format of a file's ending, or None."""
    return next((each.name for each in export_formats().values() if each.ending == ending.lower()), None)


def runners_of(format: str) -> tuple[EngineRow, ...]:
    """The engines that run an export format: the one that lists it, then the others."""
    own = [row for row in ENGINES if format in (each.name for each in row.formats)]
    return (*own, *(row for row in ENGINES if format in row.reads and row not in own))


def is_installed(package: str) -> bool:
    """Whether a package can be imported."""
    return importlib.util.find_spec(package) is not None


def resolve(function: str) -> Callable[..., Any]:
    """The function that ``module:function`` names."""
    module, _, name = function.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found
