"""A torch module as an engine: numpy in, numpy out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import torch

from resvox.errors import InferenceError
from resvox.inference.engines.cuda_graph import CudaGraph, is_out_of_memory
from resvox.inference.engines.devices import choose_device, warn
from resvox.inference.engines.protocol import Engine, NetworkRequest
from resvox.inference.engines.table import FLOAT_PRECISIONS

# By number of axes, both of (batch, channels, *roi) and of the weights (out, in, *kernel).
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
# Where upsampling is merged with the convolution after it. On a CPU that is 1.7 times as fast in float32, and a little
# slower in bfloat16, where oneDNN has no fast transposed convolution. On an H200 a U-Net is 1.5 times as fast with it
# in half precision, and takes 8 times as long in float32.
MERGED = {("cpu", "float32"), ("cuda", "bfloat16"), ("cuda", "float16")}


class TorchEngine:
    """Computes windows with a ``torch.nn.Module``: NumPy ``(batch, channels, *roi)`` to ``(batch, classes, *roi)``.

    The module is not copied: each call puts it into eval mode and then restores the mode of every sub-module, so
    that a training loop can validate with its own model. It stays on the device to which it was moved. The weights
    of a module in eval mode are also converted to channels-last, which is faster; those of a module in training mode
    are not, so that a validation does not change the rounding of the training after it.

    With ``roi_size`` the engine uses a copy made for that window: batch norms folded, upsampling merged with the
    convolution after it (`resvox.inference.engines.folding`), weights in the precision, and on CUDA the whole forward
    pass recorded as one graph, so that hundreds of small kernels are launched at once.

    Args:
        module: the network, 2D or 3D. Of several outputs (deep supervision) the first one is used.
        device: ``"auto"`` is the accelerator that the module is on, else CUDA, else the CPU. Apple's ``"mps"`` is
            used only by name: it lacks some 3D operations.
        precision: ``"auto"`` is bfloat16 autocast on GPUs that compute in it, else float32; or
            ``"float32"`` (true float32: no TF32 either), ``"bfloat16"``, ``"float16"``. The output is always
            float32.
        roi_size: the window of all calls; the module itself is then not changed.
        channels_last: the layout of windows and weights, which is faster; its results differ from those of PyTorch's
            own layout in the last bits.
        notify: called with a line of text when the engine continues with smaller batches because memory ran
            out; a ``RuntimeWarning`` by default.

    Raises:
        InferenceError: unknown device or precision; in a call: not enough memory for a single window,
            or a module that does not return a tensor.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        *,
        device: str | torch.device = "auto",
        precision: str = "auto",
        roi_size: Sequence[int] | None = None,
        channels_last: bool = True,
        notify: Callable[[str], object] | None = None,
    ) -> None:
        self.device = choose_device(device, module)
        self.precision = _choose_precision(precision, self.device)
        self.channels_last = channels_last
        self.batch_limit: int | None = None  # windows per forward pass, known only after memory has run out
        self._notify = notify or warn
        self._cast: torch.dtype | None = None  # of the windows, if the weights have it too
        self._graph: CudaGraph | None = None
        if roi_size is None:
            self.module = module.to(self.device)
        else:
            self.module = self._made_for(module, tuple(roi_size))
        if channels_last and not module.training:
            _lay_channels_last(self.module)

    @property
    def name(self) -> str:
        """Its name in reports."""
        return "torch"

    def _made_for(self, module: torch.nn.Module, roi: tuple[int, ...]) -> torch.nn.Module:
        # Imported late: validation in training uses this engine without folding.
        from resvox.inference.engines.direct_convolution import with_direct_convolutions
        from resvox.inference.engines.few_channels import with_blocks
        from resvox.inference.engines.folding import folded, in_precision

        made = folded(module, roi_size=roi if (self.device.type, self.precision) in MERGED else None)
        if self.precision != "float32":
            self._cast = getattr(torch, self.precision)
            made = in_precision(made, self._cast)
            if (self.device.type, self.precision) == ("cuda", "bfloat16"):  # float16 was no faster with blocks
                made = with_blocks(made)
        elif self.device.type == "cpu":
            made = with_direct_convolutions(made)
        if self.device.type == "cuda":
            self._graph = CudaGraph(notify=self._notify)
        return made.to(self.device)

    def __call__(self, windows: np.ndarray, /) -> np.ndarray:
        """Compute the outputs of a batch, see `resvox.inference.engines.protocol.Engine`."""
        batch = torch.from_numpy(np.ascontiguousarray(windows, np.float32))
        outputs: list[np.ndarray] = []
        done = 0
        with self._inference():
            while done < len(batch):
                part = batch[done : done + (self.batch_limit or len(batch))]
                output = self._try(part)
                if output is None:
                    self._shrink(len(part), tuple(windows.shape[2:]))
                    continue
                outputs.append(output)
                done += len(part)
        return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)

    def on_device(self, windows: torch.Tensor, /) -> torch.Tensor:
        """Compute the outputs of a batch without leaving the device, see `OnDevice`."""
        with self._inference():
            return self._output(windows)

    def labels(self, windows: np.ndarray, /) -> np.ndarray:
        """(batch, *roi): the class of each voxel, of a single class whether its logit is above 0.

        One window after the other; the logits stay on the device.
        """
        found: list[np.ndarray] = []
        with self._inference():
            for window in torch.from_numpy(np.ascontiguousarray(windows, np.float32)):
                moved = window[None].to(self.device, self._cast)
                logits = _first_output(self.module(moved.contiguous(memory_format=CHANNELS_LAST[moved.ndim])))
                labels = logits.argmax(1) if logits.shape[1] > 1 else logits[:, 0] > 0
                found.append(labels.cpu().numpy())
        return np.concatenate(found)

    @contextmanager
    def _inference(self) -> Iterator[None]:
        """Eval mode, no gradients, the chosen precision, and deterministic algorithms."""
        with ExitStack() as stack:
            stack.enter_context(_eval_mode(self.module))
            stack.enter_context(torch.inference_mode())
            if self.device.type == "cuda":
                # Benchmarking selects other algorithms from run to run; TF32 has fewer digits than float32
                # only.
                stack.enter_context(
                    torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
                )
            enabled = self.precision != "float32" and self._cast is None
            dtype = getattr(torch, self.precision) if enabled else None
            # Entered when off too, so that an autocast of the caller has no effect here.
            stack.enter_context(torch.autocast(self.device.type, dtype=dtype, enabled=enabled))
            yield

    def _try(self, batch: torch.Tensor) -> np.ndarray | None:
        """The output for one batch, or None if the device is out of memory."""
        try:
            logits = self._output(batch)
            return np.ascontiguousarray(logits.to(device="cpu", dtype=torch.float32).numpy())
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # Outside the except block, where the traceback would keep all activations alive.
        return None

    def _output(self, batch: torch.Tensor) -> torch.Tensor:
        moved = batch.to(self.device, self._cast)
        layout = CHANNELS_LAST.get(batch.ndim)
        if layout is not None and self.channels_last:
            moved = moved.contiguous(memory_format=layout)
        if not self.channels_last:
            moved = moved.clone()  # aligned as PyTorch allocates: results of matrix products depend on it
        return _first_output(self._graph(self.module, moved) if self._graph else self.module(moved))

    def _shrink(self, size: int, roi: tuple[int, ...]) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if size == 1:
            raise InferenceError(
                f"out of memory on {self.device} for one window of {roi} voxels in {self.precision}",
                expected="memory for one window",
                fix="a smaller roi_size, device='cpu', or another program closed on that device",
            )
        self.batch_limit = max(size // 2, 1)
        self._notify(
            f"out of memory on {self.device} for {size} windows of {roi} voxels; "
            f"continuing with {self.batch_limit} at a time"
        )


def through_numpy(engine: Engine, windows: torch.Tensor) -> torch.Tensor:
    """The outputs of an engine for windows on a device, on that device."""
    outputs = np.array(engine(windows.cpu().numpy()), np.float32)  # a copy: an engine may reuse its memory
    return torch.from_numpy(outputs).to(windows.device)


def engine_of_network(request: NetworkRequest) -> Engine:
    """An engine made for one window: folded, its weights in the precision, on CUDA recorded as a graph."""
    return TorchEngine(
        request.module(),
        device=request.device,
        precision=request.precision,
        roi_size=request.roi_size,
        notify=request.notify,
    )


def reference_engine(request: NetworkRequest) -> Engine:
    """The module as it is."""
    return TorchEngine(request.module(), device=request.device, precision=request.precision, notify=request.notify)


def _lay_channels_last(module: torch.nn.Module) -> None:
    for weight in module.parameters():
        layout = CHANNELS_LAST.get(weight.ndim)
        if layout is not None:
            weight.data = weight.data.contiguous(memory_format=layout)


@contextmanager
def _eval_mode(module: torch.nn.Module) -> Iterator[None]:
    # Each sub-module by itself: a frozen batch norm in a model in training stays frozen.
    was_training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in was_training:
            part.training = True


def _first_output(output: object) -> torch.Tensor:
    if isinstance(output, (list, tuple)) and output:
        output = output[0]
    if not isinstance(output, torch.Tensor):
        raise InferenceError(
            f"a module that returned {type(output).__name__}",
            expected="a tensor of logits, or a list or tuple that begins with one",
        )
    return output


def _choose_precision(precision: str, device: torch.device) -> str:
    if precision not in FLOAT_PRECISIONS:
        raise InferenceError(f"precision={precision!r}", expected=" or ".join(map(repr, FLOAT_PRECISIONS)))
    if precision != "auto":
        return precision
    if device.type != "cuda":
        return "float32"
    # Older GPUs only emulate bfloat16, slower than float32.
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
