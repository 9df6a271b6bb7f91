"""The engine of ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from resvox.errors import InferenceError
from resvox.inference.engines.protocol import Engine, FileRequest
from resvox.inference.engines.table import is_installed
from resvox.machine import usable_threads

if TYPE_CHECKING:
    import torch

STACK_TRACE = "pkg.torch.onnx.stack_trace"  # what torch's exporter calls its note on a node


class OnnxEngine:
    """Computes windows with an ``.onnx`` file in float32.

    Args:
        path: the file; its first input takes (batch, channels, *roi), its first output are logits.
        device: ``"auto"`` is CUDA where ONNX Runtime was built with it, else the CPU.

    Raises:
        InferenceError: a file that ONNX Runtime does not read, or a device that it does not have.
    """

    name = "onnxruntime"
    precision = "float32"

    def __init__(self, path: str | os.PathLike[str], *, device: str = "auto") -> None:
        import onnxruntime

        there = onnxruntime.get_available_providers()
        has_cuda = "CUDAExecutionProvider" in there
        if device not in ("auto", "cpu") and not (str(device).startswith("cuda") and has_cuda):
            raise InferenceError(
                f"device={str(device)!r} with ONNX Runtime, which has {', '.join(there)}",
                expected="'auto' or 'cpu'" + (" or 'cuda'" if has_cuda else ""),
                fix="pip install onnxruntime-gpu" if str(device).startswith("cuda") else "",
            )
        self.device = "cuda" if has_cuda and device != "cpu" else "cpu"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = usable_threads()
        providers = (
            ["CUDAExecutionProvider", "CPUExecutionProvider"] if self.device == "cuda" else ["CPUExecutionProvider"]
        )
        try:
            self._session = onnxruntime.InferenceSession(os.fspath(path), options, providers=providers)
        except Exception as error:  # its exceptions have no common base class
            raise InferenceError(
                f"not read by ONNX Runtime ({str(error).splitlines()[0]})", expected="an ONNX network", path=path
            ) from error
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name

    def __call__(self, windows: np.ndarray, /) -> np.ndarray:
        """Compute the outputs of a batch, see `resvox.inference.engines.protocol.Engine`."""
        windows = np.ascontiguousarray(windows, np.float32)
        output: np.ndarray = self._session.run([self._output], {self._input: windows})[0]
        return output


def engine_of_file(request: FileRequest) -> Engine:
    """The exported network as an engine.

    Raises:
        InferenceError: another precision than float32.
    """
    if request.precision not in ("auto", "float32"):
        raise InferenceError(
            f"precision={request.precision!r} with ONNX Runtime",
            expected="'float32', as it was exported",
            fix="engine='openvino'",
        )
    return OnnxEngine(request.path, device=request.device)


def run_any_size(path: Path, format: str) -> Callable[[np.ndarray], np.ndarray]:
    """A function that computes the outputs of the file's network; by OpenVINO where ONNX Runtime is not installed."""
    if not is_installed("onnxruntime"):
        from resvox.inference.engines.openvino_engine import run_any_size as run_by_openvino

        return run_by_openvino(path, format)
    return OnnxEngine(path, device="cpu")


def write_onnx(module: torch.nn.Module, path: Path, example: torch.Tensor, sizes: object) -> None:
    """Write an ONNX program, with its weights inside."""
    import torch

    program = torch.onnx.export(
        module,
        (example,),
        dynamo=True,
        dynamic_shapes=sizes,  # type: ignore[arg-type]
        input_names=["image"],
        output_names=["logits"],
        verbose=False,
    )
    assert program is not None
    # The exporter notes for each operation the lines of source that made it, with the folders of this machine.
    for node in program.model.graph.all_nodes():
        node.metadata_props.pop(STACK_TRACE, None)
    program.save(str(path), external_data=False)
