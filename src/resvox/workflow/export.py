"""A model file becomes one that other programs run, with all that a prediction needs beside it."""

from __future__ import annotations

import importlib.metadata
import json
import os
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

if TYPE_CHECKING:
    import numpy as np

    from resvox.cards import ModelCard

LARGEST_DIFFERENCE = 1e-3  # of the largest logit
LARGEST_CHANGE = 1e-4  # share of labels: as much as two float32 programs may differ by their rounding
WINDOWS = 2


@dataclass(frozen=True, kw_only=True)
class ExportCheck:
    """Comparison of the exported network with the original on windows of noise.

    ``difference``: largest difference of an output, relative to the largest output. ``labels_changed``: fraction of
    labels that changed; None for values.
    """

    difference: float
    labels_changed: float | None

    def __str__(self) -> str:
        if self.labels_changed is None:
            return f"values differ by at most {self.difference:.1e} of the largest"
        percent = 100 * self.labels_changed
        return f"logits differ by at most {self.difference:.1e} of the largest, {percent:.3f} % of labels"


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """The exported network, its description, and how well it agrees."""

    path: Path
    description: Path
    format: str
    check: ExportCheck
    any_size: bool
    seconds: float
    smallest: int | None = None  # voxels along every axis, where sizes are open


def export(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    format: str = "onnx",
    overwrite: bool = False,
) -> ExportResult:
    """Write a model of any task as TorchScript, a torch.export program, ONNX or OpenVINO.

    Beside the file lies ``<name>.json``: preprocessing, labels or units, window, what goes in and comes out. With it,
    `resvox predict` takes the file as its MODEL, and other programs find what they need to prepare a scan. The file is
    checked against the original before it appears: one that answers otherwise is not written.

    Args:
        model: a ``model.safetensors``, or the folder of a training run.
        out: the file; by default beside the model, with the format's ending (.pt, .pt2, .onnx, .xml).
        format: "torchscript", "torch-export", "onnx" or "openvino".
        overwrite: replace a file that is there.

    Raises:
        WeightsError: no model, or one without preprocessing and labels. InferenceError: a format that is unknown, not
            installed, or that does not hold this network; a file that is there; one that answers otherwise.
    """
    start = time.perf_counter()
    formats = export_formats()
    if format not in formats:
        raise InferenceError(f"format={format!r}", expected=" or ".join(map(repr, formats)))
    file = read_model_file(model_file(model))
    if file.format != OWN_FORMAT:
        raise WeightsError(
            f"a model that is exported already ({file.format})", expected="a model.safetensors", path=file.path
        )
    target = Path(out) if out is not None else file.path.with_suffix(formats[format].ending)
    beside = new_description_path(target)
    _check_target(target, beside, formats[format].ending, overwrite)
    try:
        with replacing_all(target) as folder:
            written = folder / target.name
            check, smallest = _write_checked(file, written, format)
            description = _description(file, written, format, check, smallest)
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
    from resvox.inference.engines.exporting import write_network
    from resvox.inference.engines.open_sizes import smallest_side
    from resvox.weights import load_model

    network = load_model(file.path)
    roi, channels = file.card.input_size, file.card.in_channels
    problem: InferenceError | None = None
    for any_size in (True, False):
        try:
            write_network(network, path, kind, in_channels=channels, roi_size=roi, any_size=any_size)
            check = _check(network, path, kind, file.card)
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


def _check(network: Any, path: Path, kind: str, card: ModelCard) -> ExportCheck:
    import numpy as np

    from resvox.inference import TorchEngine
    from resvox.inference.engines import engine_of_file

    roi, channels, labels_of = card.input_size, card.in_channels, _labels_of(card)

    trusted = TorchEngine(network, device="cpu", precision="float32")
    exported = engine_of_file(path, kind, roi_size=roi, in_channels=channels, device="cpu")
    rng = np.random.default_rng(0)
    differences, changes = [], []
    for _ in range(WINDOWS):
        window = rng.normal(size=(1, channels, *roi)).astype(np.float32)
        expected = trusted(window)
        try:
            found = exported(window)
        except Exception as error:  # every runtime has errors of its own
            raise InferenceError(
                f"a network that does not run ({str(error).splitlines()[0]})", expected="an answer", path=path
            ) from error
        differences.append(float(np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1e-6)))
        changes.append(float(np.mean(labels_of(found) != labels_of(expected))))
    check = ExportCheck(difference=max(differences), labels_changed=max(changes) if card.names_labels else None)
    if not check.difference <= LARGEST_DIFFERENCE or (check.labels_changed or 0.0) > LARGEST_CHANGE:
        answer = "value" if check.labels_changed is None else f"logit, {100 * check.labels_changed:.3f} % other labels"
        raise InferenceError(
            f"an exported network that answers otherwise: by {check.difference:.1e} of the largest {answer}",
            expected="the original's answer",
            fix="another --format",
            path=path,
        )
    return check


def _labels_of(card: ModelCard) -> Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]:
    """How a prediction makes labels or classes of logits (batch, outputs, ...)."""
    from resvox.inference.engines.agreement import labels_of_logits, region_labels

    return labels_of_logits if card.class_order is None else region_labels(card.class_order)


def _description(file: ModelFile, path: Path, kind: str, check: ExportCheck, smallest: int | None) -> dict[str, Any]:
    card = file.card
    any_size = smallest is not None
    sizes: list[Any] = ["any"] * card.spatial_dims if any_size else list(card.input_size)
    return {
        "resvox_export": 1,
        "format": kind,
        "file": path.name,
        "sha256": sha256_of(path),
        "input": {
            "shape": ["any" if any_size else 1, card.in_channels, *sizes],
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
