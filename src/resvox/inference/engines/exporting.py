"""Export of a network to a file for other programs: TorchScript, torch.export, ONNX, OpenVINO."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from resvox.errors import InferenceError
from resvox.inference.engines.table import ExportFormat, export_formats, is_installed, resolve

# Larger than 32 voxels and odd: torch.export specializes an axis that has a single voxel at the deepest level.
EXAMPLE = (37, 46, 41)


def write_network(
    module: torch.nn.Module, path: Path, kind: str, *, in_channels: int, roi_size: Sequence[int], any_size: bool = True
) -> None:
    """Write a network in eval mode; batch and spatial sizes stay open.

    Args:
        module: (batch, in_channels, *spatial) to (batch, classes, *spatial).
        path: the file; OpenVINO writes its weights beside it, into ``.bin``.
        kind: "torchscript", "torch-export", "onnx" or "openvino".
        roi_size: the window of predictions; its length is the number of dimensions.
        any_size: False fixes the window of torch.export and ONNX, for networks that cannot be exported otherwise.

    Raises:
        InferenceError: an unknown kind, a package that is not installed, or a network that cannot be exported.
    """
    formats = export_formats()
    if kind not in formats:
        raise InferenceError(f"format={kind!r}", expected=" or ".join(map(repr, formats)))
    _check_packages(formats[kind])
    dims = len(roi_size)
    sides = EXAMPLE[:dims] if any_size else tuple(roi_size)
    # two samples where sizes are open: torch.export specializes a batch of one
    example = torch.zeros(2 if any_size else 1, in_channels, *sides)
    sizes = ({axis: torch.export.Dim.DYNAMIC for axis in range(dims + 2) if axis != 1},) if any_size else None
    with _quiet(), torch.no_grad():
        try:
            resolve(formats[kind].writer)(module.cpu().eval(), path, example, sizes)
        except Exception as error:  # exporters raise exceptions of many types
            text = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise InferenceError(
                f"a network that does not export to {kind} ({text.strip()})",
                expected="one made of operations that the format knows",
                fix="another --format",
            ) from error


def _check_packages(format: ExportFormat) -> None:
    missing = [name for name in format.packages if not is_installed(name)]
    if missing:
        raise InferenceError(
            f"format={format.name!r} without {' and '.join(missing)}",
            expected="these packages, which write it",
            fix=f"pip install {' '.join(missing)}",
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence exporters, which print much, and the deprecation of TorchScript; results are checked afterwards."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
