"""The engine of OpenVINO on the CPU: compiled once for one window size; the compiled network is cached on disk."""

from __future__ import annotations

import copy
import gc
import os
import warnings
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from resvox.digests import digest_of
from resvox.errors import InferenceError
from resvox.inference.engines.cache import is_cached, key_of
from resvox.inference.engines.openvino_cache import import_if_cached, keep
from resvox.inference.engines.protocol import Engine, FileRequest, NetworkRequest
from resvox.inference.engines.quantization.networks import is_quantized, without_last_layer
from resvox.inference.engines.table import AUTO, is_installed
from resvox.inference.engines.telemetry import openvino_module
from resvox.machine import return_freed_memory, usable_threads

if TYPE_CHECKING:
    import torch

# The precision of layers that are not quantized: of a network in int8 these are few.
PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}
SMALL = 32  # voxels: side of the example for tracing
_MAKING_CORE = Lock()


class OpenVinoEngine:
    """Computes windows of one size on the CPU.

    Args:
        make: returns the OpenVINO model (`from_torch`, `from_file`); called only without a compiled one in the cache.
        roi_size: the window.
        in_channels: of the window.
        precision: ``"float32"`` or ``"bfloat16"``; ``"int8"`` of a network that is quantized.
        fingerprint: identifies the network for the cache of compiled networks; None does not cache.

    The output of a call is valid until the next call. A compiled network in the cache is imported in a thread, and the
    first call waits for it.

    Raises:
        InferenceError: a precision that this processor lacks, or a network that OpenVINO does not support.
    """

    name = "openvino"
    device = "cpu"

    def __init__(
        self,
        make: Callable[[], Any],
        *,
        roi_size: Sequence[int],
        in_channels: int,
        precision: str = "float32",
        fingerprint: str | None = None,
    ) -> None:
        openvino = openvino_module()
        core = shared_core()
        if precision not in PRECISIONS or (precision == "bfloat16" and not computes_in_bfloat16()):
            raise InferenceError(
                f"precision={precision!r} with OpenVINO on this processor",
                expected="'float32'" + (" or 'bfloat16'" if computes_in_bfloat16() else ""),
            )
        self.precision = precision
        self.shape = (1, in_channels, *roi_size)
        options = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": usable_threads(),
        }
        name = ""
        if fingerprint is not None:
            name = key_of("openvino", openvino.__version__, fingerprint, self.shape, sorted(options.items())) + ".ov"
        self._tensor = openvino.Tensor
        self._compiled: Any = None
        self._request: Any = None
        self._kept: object = None

        def compile_anew() -> Any:
            compiled = _compiled(core, make, self.shape, options)
            if name:
                keep(compiled, name)
            gc.collect()  # the traced network, which holds all weights, refers to itself
            return_freed_memory()
            return compiled

        self._compile = compile_anew
        self._start_import = partial(import_if_cached, core, name, options)
        self._is_cached = partial(is_cached, name) if name else lambda: False
        self._import = self._start_import()
        if self._import is None:
            self.finish_loading()

    def __call__(self, windows: np.ndarray, /) -> np.ndarray:
        """Compute the outputs of a batch, see `resvox.inference.engines.protocol.Engine`."""
        windows = np.ascontiguousarray(windows, np.float32)
        if windows.shape[1:] != self.shape[1:]:
            raise InferenceError(
                f"windows of shape {windows.shape} for a network compiled for {self.shape}",
                expected="the window that the engine was made for",
            )
        self.finish_loading()
        if len(windows) == 1:
            return self._one(windows)
        # One at a time: a window uses all cores, and a batch only needs more memory.
        return np.concatenate([self._one(windows[index : index + 1]).copy() for index in range(len(windows))])

    def finish_loading(self) -> None:
        """Wait for the network that is imported, or compile it; nothing where that is done."""
        if self._request is not None:
            return
        started = self._import or self._start_import()
        found = started.result() if started is not None else None
        self._import = None
        self._compiled, self._kept = found or (self._compile(), None)
        self._request = self._compiled.create_infer_request()

    def release_memory(self) -> None:
        """Free the memory of the network, see `ReleasesMemory`; where it is not cached, of intermediate maps alone.

        OpenVINO before 2025 keeps these.
        """
        self.finish_loading()
        if self._is_cached():
            self._request = self._compiled = self._kept = None  # in this order; imported again by the next call
            return_freed_memory()
        elif hasattr(self._compiled, "release_memory"):
            self._request = None  # memory in use is not released
            try:
                self._compiled.release_memory()
            finally:
                self._request = self._compiled.create_infer_request()

    def _one(self, window: np.ndarray) -> np.ndarray:
        self._request.set_input_tensor(0, self._tensor(window, shared_memory=True))
        self._request.infer()
        output: np.ndarray = self._request.get_output_tensor(0).data
        return output


def shared_core() -> Any:
    """The one ``openvino.Core`` of the process.

    A core sets an alternate signal stack (``sigaltstack``) in the thread that first computes with it, and frees it when
    the core is destroyed. With several cores that end in another order or thread, the active signal stack is unmapped
    memory, and the next signal (Ctrl-C, the exit of a child) corrupts whatever is mapped there then.
    """
    with _MAKING_CORE:
        return _core()


@cache
def _core() -> Any:
    return openvino_module().Core()


def from_torch(module: torch.nn.Module, roi_size: Sequence[int], in_channels: int) -> Any:
    """A torch module as an OpenVINO model, folded and merged for a window (`resvox.inference.engines.folding`)."""
    import torch

    from resvox.inference.engines.folding import folded

    # A small window with the same divisibility: tracing records operations, not sizes.
    sides = (side if side % SMALL else SMALL for side in roi_size)
    return converted(folded(module.cpu(), roi_size=roi_size), torch.zeros(1, in_channels, *sides))


def converted(module: torch.nn.Module, example: torch.Tensor) -> Any:
    """A torch module in eval mode as an OpenVINO model with dynamic sizes.

    It uses OpenVINO's TorchScript frontend directly: `convert_model` traces twice, optimizes what compiling optimizes
    again (10 times slower, measured), and sends telemetry over the network.
    """
    import torch

    openvino_module()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of the tracer about constant sizes, and of torch about TorchScript
        traced = torch.jit.trace(module, example, check_trace=False)
        reader = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchScriptPythonDecoder(traced, example_input=example)  # must stay alive until it has been converted
        return reader.convert(reader.load(decoder))


def from_file(path: str | os.PathLike[str]) -> Any:
    """A network of an ``.xml`` (OpenVINO) or ``.onnx`` file."""
    return shared_core().read_model(Path(path))


def engine_of_network(request: NetworkRequest) -> Engine:
    """The engine for a network in torch."""
    return OpenVinoEngine(
        lambda: from_torch(request.module(), request.roi_size, request.in_channels),
        roi_size=request.roi_size,
        in_channels=request.in_channels,
        precision=request.precision,
        fingerprint=request.fingerprint,
    )


def engine_of_file(request: FileRequest) -> Engine:
    """The engine for an ``.xml`` or ``.onnx`` file.

    Raises:
        InferenceError: a precision in which the file does not compute.
    """

    def make() -> Any:
        network = from_file(request.path)
        return without_last_layer(network) if request.features else network

    return OpenVinoEngine(
        make,
        roi_size=request.roi_size,
        in_channels=request.in_channels,
        precision=_precision_of(request),
        fingerprint=fingerprint_of_model(request.path) + (" without head" if request.features else ""),
    )


def _precision_of(request: FileRequest) -> str:
    """The precision in which a file computes: int8 of a quantized network, else the one that was asked for."""
    if not is_quantized(request.path):
        if request.precision == "int8":
            raise InferenceError(
                "precision='int8' with a network in float32",
                expected="a quantized one",
                fix="resvox export MODEL --format openvino --precision int8 --calibrate SCANS",
                path=request.path,
            )
        return "float32" if request.precision == AUTO else request.precision
    if request.precision not in (AUTO, "int8"):
        raise InferenceError(
            f"precision={request.precision!r} with a network in int8",
            expected="'auto' or 'int8'",
            fix="predict with the model that it was exported from",
            path=request.path,
        )
    return "int8"


def fingerprint_of_model(path: str | os.PathLike[str]) -> str:
    """A digest of a network in one file, or in two: OpenVINO's ``.xml`` describes it, its weights are in ``.bin``."""
    weights = Path(path).with_suffix(".bin")
    return digest_of(path) + (digest_of(weights) if weights.exists() else "")


def write_openvino(module: torch.nn.Module, path: Path, example: torch.Tensor, sizes: object) -> None:
    """Write an ``.xml`` with its weights beside it, in ``.bin``."""
    from resvox.torch.layers import AveragePool

    opened = copy.deepcopy(module)
    for part in opened.modules():
        if isinstance(part, AveragePool):
            part.open_sizes = True  # a trace would keep the window of the example
    save(converted(opened, example), path)


def save(network: Any, path: Path) -> None:
    """Write a network of OpenVINO as ``.xml`` and ``.bin``, its weights as they are."""
    openvino_module().save_model(network, path, compress_to_fp16=False)


def run_any_size(path: Path, format: str) -> Callable[[np.ndarray], np.ndarray]:
    """A function that computes the outputs of the file's network, compiled once for all sizes.

    Raises:
        InferenceError: OpenVINO is not installed.
    """
    if not is_installed("openvino"):
        raise InferenceError("openvino is not installed", expected="it, to test the file", fix="pip install openvino")
    network = from_file(path)
    compiled = shared_core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32", **needs(network)})
    return lambda image: np.array(compiled(image)[0])


def has_bfloat16(device: str) -> bool:
    """Whether a type of device has bfloat16 units, according to OpenVINO."""
    return device == "cpu" and computes_in_bfloat16()


def computes_in_bfloat16() -> bool:
    """Whether the processor has bfloat16 units, according to OpenVINO."""
    return "BF16" in shared_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _compiled(core: Any, make: Callable[[], Any], shape: tuple[int, ...], options: dict[str, Any]) -> Any:
    try:
        network = make()
        network.reshape(list(shape))
        return core.compile_model(network, "CPU", {**options, **needs(network)})
    except Exception as error:  # exceptions of OpenVINO have no common base class
        raise InferenceError(
            f"OpenVINO does not take this network ({_first_line(error)})",
            expected="one made of operations that it knows",
            fix="engine='torch'",
        ) from error


def needs(network: Any) -> dict[str, Any]:
    """Compile networks with instance or group norm without generated kernels ("snippets").

    With snippets, OpenVINO 2026.4 crashes (segmentation fault) on two consecutive residual blocks with such a norm.
    """
    norms = any(operation.get_type_name() == "GroupNormalization" for operation in network.get_ops())
    return {"SNIPPETS_MODE": "DISABLE"} if norms else {}


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
