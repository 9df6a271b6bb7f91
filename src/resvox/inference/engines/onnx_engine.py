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

CUDA = "CUDAExecutionProvider"
STACK_TRACE = "pkg.torch.onnx.stack_trace"  # what torch's exporter calls its note on a node


class OnnxEngine:
    """Computes windows with an ``.onnx`` file in float32.

    Args:
        path: the file; its first input takes (batch, channels, *roi), its first output are logits.
        device: ``"auto"`` is CUDA where ONNX Runtime can use it, else the CPU; ``"cuda:1"`` is the second GPU.

    Attributes:
        device: where the network is computed: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.

    Raises:
        InferenceError: a file that ONNX Runtime does not read, or a device that it does not have.
    """

    name = "onnxruntime"
    precision = "float32"

    def __init__(self, path: str | os.PathLike[str], *, device: str = "auto") -> None:
        import onnxruntime

        there = onnxruntime.get_available_providers()
        has_cuda = CUDA in there
        if device not in ("auto", "cpu") and not (str(device).startswith("cuda") and has_cuda):
            raise InferenceError(
                f"device={str(device)!r} with ONNX Runtime, which has {', '.join(there)}",
                expected="'auto' or 'cpu'" + (" or 'cuda'" if has_cuda else ""),
                fix="pip install onnxruntime-gpu" if str(device).startswith("cuda") else "",
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = usable_threads()
        providers: list[object] = ["CPUExecutionProvider"]
        if has_cuda and device != "cpu":
            number = str(device).partition(":")[2]
            providers.insert(0, (CUDA, {"device_id": int(number)} if number.isdigit() else {}))
        try:
            self._session = onnxruntime.InferenceSession(os.fspath(path), options, providers=providers)
        except Exception as error:  # its exceptions have no common base class
            raise InferenceError(
                f"not read by ONNX Runtime ({str(error).splitlines()[0]})", expected="an ONNX network", path=path
            ) from error
        # ONNX Runtime goes on with the processor where it cannot use the GPU: a driver or a library may be missing.
        on_gpu = CUDA in self._session.get_providers()
        if str(device).startswith("cuda") and not on_gpu:
            raise InferenceError(
                f"device={str(device)!r}, which ONNX Runtime cannot use",
                expected="a GPU with the versions of CUDA and cuDNN that it was built for",
                fix="device='cpu'",
                path=path,
            )
        self.device = ("cuda" if device == "auto" else str(device)) if on_gpu else "cpu"
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
