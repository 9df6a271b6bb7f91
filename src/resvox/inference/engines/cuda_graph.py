"""A forward pass recorded once as a CUDA graph and replayed."""

from __future__ import annotations

from collections.abc import Callable

import torch


class CudaGraph:
    """A forward pass recorded once per shape and replayed, with inputs and outputs at fixed addresses on the device.

    Where recording fails (an operation that synchronizes, memory) the network runs without a graph, with a remark.
    """

    def __init__(self, *, notify: Callable[[str], object]) -> None:
        self._notify = notify
        self._shape: torch.Size | None = None
        self._off = False

    def __call__(self, module: torch.nn.Module, windows: torch.Tensor) -> object:
        """Compute the output of a batch, by a recorded graph where there is one for its shape."""
        if self._off:
            return module(windows)
        # Streams and graphs are those of the current GPU, which may be another one than that of the network.
        with torch.cuda.device(windows.device):
            return self._by_graph(module, windows)

    def _by_graph(self, module: torch.nn.Module, windows: torch.Tensor) -> object:
        if windows.shape != self._shape:
            if (
                self._shape is not None
            ):  # the last, smaller batch of a scan is not recorded: that would take longer than it saves
                return module(windows)
            try:
                self._record(module, windows)
            except RuntimeError as error:
                self._shape = None
                if is_out_of_memory(error):
                    raise  # the engine continues with smaller batches, which may be recorded
                self._off = True
                self._notify(f"no CUDA graph ({str(error).splitlines()[0]}); continuing without one")
                return module(windows)
        self._input.copy_(windows)
        self._recorded.replay()
        return self._output

    def _record(self, module: torch.nn.Module, windows: torch.Tensor) -> None:
        # Other threads, which read scans and write results, may allocate memory meanwhile; by default that ends it.
        mode = "thread_local"
        self._input = windows.clone(memory_format=torch.preserve_format)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # warm-up: libraries select their algorithms before recording
            for _ in range(3):
                module(self._input)
        torch.cuda.current_stream().wait_stream(side)
        self._recorded = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._recorded, capture_error_mode=mode):
            self._output = module(self._input)
        self._shape = windows.shape


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of torch means that the device is out of memory."""
    # The CPU's allocator, cuDNN and Apple's backend raise a bare RuntimeError; recognised by their text.
    text = str(error).lower()
    words = ("out of memory", "not enough memory", "can't allocate memory", "cudnn_status_alloc_failed")
    return isinstance(error, torch.OutOfMemoryError) or any(word in text for word in words)
