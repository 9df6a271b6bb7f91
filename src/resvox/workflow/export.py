"""A model file becomes one that other programs run, with all that a prediction needs beside it."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resvox._version import __version__
from resvox.errors import InferenceError, WeightsError
from resvox.files import replacing_all, sha256_of, write_atomically
from resvox.inference.engines.table import export_formats
from resvox.prediction.model_files import OWN_FORMAT, ModelFile, model_file, new_description_path, read_model_file
from resvox.prediction.options import Paths, as_paths
from resvox.prediction.quantized.files import int8_path
from resvox.workflow.export_check import LARGEST_DIFFERENCE, ExportCheck, check_export

if TYPE_CHECKING:
    import torch

    from resvox.workflow.export_int8 import Int8Check, Progress

PRECISIONS = ("float32", "int8")
INT8_FORMAT = "openvino"


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """The exported network, its description, and how well it agrees."""

    path: Path
    description: Path
    format: str
    check: ExportCheck | Int8Check
    any_size: bool
    seconds: float
    smallest: int | None = None  # voxels along every axis, where sizes are open


def export(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    format: str = "onnx",
    precision: str = "float32",
    calibrate: Paths = (),
    overwrite: bool = False,
    on_progress: Progress | None = None,
    on_note: Callable[[str], object] | None = None,
) -> ExportResult:
    """Write a model of any task as TorchScript, a torch.export program, ONNX or OpenVINO.

    Beside the file lies ``<name>.json``: preprocessing, labels or units, window, what goes in and comes out. With it,
    `resvox predict` takes the file as its MODEL, and other programs find what they need to prepare a scan. The file is
    checked against the original before it appears: one that answers otherwise is not written.

    Args:
        model: a ``model.safetensors``, or the folder of a training run.
        out: the file; by default beside the model, with the format's ending: .pt, .pt2, .onnx, .xml, or .int8.xml.
        format: "torchscript", "torch-export", "onnx" or "openvino".
        precision: "float32", or "int8" for OpenVINO: convolutions are quantized after the training, and the network is
            compared with the original on windows of scans. At most 1 % of the labels may differ, with a Dice of at
            least 0.97 for each label; values may differ by at most 5 % of their standard deviation.
        calibrate: for "int8": files or folders of scans of the kind that the model was trained on; by default those
            that the training run of the model has kept.
        overwrite: replace a file that is there.
        on_progress: called as ``on_progress(what, done, total)`` while scans are prepared and windows computed.
        on_note: called with a line of text about a scan that cannot be used.

    Raises:
        WeightsError: no model, or one without preprocessing and labels. InferenceError: a format that is unknown, not
            installed, or that does not hold this network; a file that is there; one that answers otherwise.
    """
    start = time.perf_counter()
    formats = export_formats()
    if format not in formats:
        raise InferenceError(f"format={format!r}", expected=" or ".join(map(repr, formats)))
    _check_precision(precision, format, calibrate)
    file = read_model_file(model_file(model))
    if file.format != OWN_FORMAT:
        raise WeightsError(
            f"a model that is exported already ({file.format})", expected="a model.safetensors", path=file.path
        )
    beside_model = int8_path(file.path) if precision == "int8" else file.path.with_suffix(formats[format].ending)
    target = Path(out) if out is not None else beside_model
    beside = new_description_path(target)
    _check_target(target, beside, formats[format].ending, overwrite)
    try:
        with replacing_all(target) as folder:
            written = folder / target.name
            check: ExportCheck | Int8Check
            if precision == "int8":
                check, smallest = _write_int8(file, written, calibrate, on_progress, on_note)
            else:
                check, smallest = _write_checked(file, written, format)
            description = _description(file, written, format, precision, check, smallest)
            write_atomically(folder / beside.name, json.dumps(description, indent=2) + "\n")
    except OSError as error:
        raise InferenceError(
            f"could not be written ({error.strerror or error})",
            expected="a folder that can be written to and free space on its disk",
            path=target,
        ) from error
    seconds = time.perf_counter() - start
    return ExportResult(
        path=target,
        description=beside,
        format=format,
        check=check,
        any_size=smallest is not None,
        smallest=smallest,
        seconds=seconds,
    )


def _check_precision(precision: str, format: str, calibrate: Paths) -> None:
    if precision not in PRECISIONS:
        raise InferenceError(f"precision={precision!r}", expected=" or ".join(map(repr, PRECISIONS)))
    if precision == "int8" and format != INT8_FORMAT:
        raise InferenceError(
            f"precision='int8' with format={format!r}", expected=f"{INT8_FORMAT!r}", fix=f"--format {INT8_FORMAT}"
        )
    if precision != "int8" and as_paths(calibrate):
        raise InferenceError("scans to calibrate on, with precision='float32'", expected="none", fix="--precision int8")


def _check_target(target: Path, description: Path, ending: str, overwrite: bool) -> None:
    if target.suffix.lower() != ending:
        raise InferenceError(
            f"a file named {target.name!r}", expected=f"a name ending in {ending}", fix=f"-o {target.stem}{ending}"
        )
    there = [path for path in (target, description) if path.exists()]
    if there and not overwrite:
        raise InferenceError(
            "a file of this name exists", expected="a new file", fix="another -o, or --overwrite", path=there[0]
        )


def _write_checked(file: ModelFile, path: Path, kind: str) -> tuple[ExportCheck, int | None]:
    """Write with open sizes if the outputs then agree with the original's, otherwise with the window's size.

    Returns the check, and the smallest number of voxels per axis, or None for a fixed size.
    """
    from resvox.weights import load_model

    return _write_network(load_model(file.path), file, path, kind)


def _write_int8(
    file: ModelFile,
    path: Path,
    calibrate: Paths,
    on_progress: Progress | None,
    on_note: Callable[[str], object] | None,
) -> tuple[Int8Check, int | None]:
    """Write the network in float32 as a prediction computes it, then quantize it; returns as `_write_checked`.

    Batch norms are folded, and where the strides divide the window, upsampling is merged with the convolution after it.
    Such a network takes windows alone; that of an export in float32 has open sizes.
    """
    from resvox.inference.engines.devices import warn
    from resvox.inference.engines.folding import MergedDecoderBlock, folded
    from resvox.inference.engines.quantization.nncf_quantization import check_installed
    from resvox.weights import load_model
    from resvox.workflow.export_int8 import quantize_checked

    check_installed()
    network = folded(load_model(file.path), roi_size=file.card.input_size)
    is_open = not any(isinstance(part, MergedDecoderBlock) for part in network.modules())
    # On Windows a file that OpenVINO has mapped cannot be removed.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        original = Path(folder) / "float32.xml"
        _, smallest = _write_network(network, file, original, INT8_FORMAT, sizes=(True, False) if is_open else (False,))
        check = quantize_checked(
            file,
            original,
            path,
            calibrate=calibrate,
            notify=on_note or warn,
            progress=on_progress or (lambda what, done, total: None),
        )
    return check, smallest


def _write_network(
    network: torch.nn.Module, file: ModelFile, path: Path, kind: str, *, sizes: tuple[bool, ...] = (True, False)
) -> tuple[ExportCheck, int | None]:
    """Write a network with the first of these sizes, open (True) or fixed, with which it answers as in torch."""
    from resvox.inference.engines.exporting import write_network
    from resvox.inference.engines.open_sizes import smallest_side

    roi, channels = file.card.input_size, file.card.network_channels
    problem: InferenceError | None = None
    for any_size in sizes:
        try:
            write_network(network, path, kind, in_channels=channels, roi_size=roi, any_size=any_size)
            check = check_export(network, path, kind, file.card)
            if not any_size:
                return check, None
            side = smallest_side(
                network, path, kind, channels=channels, dims=len(roi), largest_difference=LARGEST_DIFFERENCE
            )
            if side is not None:
                return check, side
        except InferenceError as error:
            problem = problem or error
    assert problem is not None
    raise problem


def _description(
    file: ModelFile, path: Path, kind: str, precision: str, check: ExportCheck | Int8Check, smallest: int | None
) -> dict[str, Any]:
    import importlib.metadata

    card = file.card
    weights = path.with_suffix(".bin")  # of OpenVINO
    any_size = smallest is not None
    sizes: list[Any] = ["any"] * card.spatial_dims if any_size else list(card.input_size)
    return {
        "resvox_export": 1,
        "format": kind,
        "precision": precision,
        "file": path.name,
        "sha256": sha256_of(path),
        **({"weights_sha256": sha256_of(weights)} if weights.exists() else {}),
        "input": {
            "shape": ["any" if any_size else 1, card.network_channels, *sizes],
            **({"smallest": [smallest] * card.spatial_dims} if any_size else {}),  # where sizes are "any"
            "type": "float32",
        },
        "output": {"meaning": card.output_meaning, "shape": card.output_axes(sizes), "type": "float32"},
        "checked": asdict(check),
        "source": {"name": file.path.name, "sha256": sha256_of(file.path)},
        "resvox": __version__,
        "torch": importlib.metadata.version("torch"),
        "metadata": dict(file.metadata),
    }
