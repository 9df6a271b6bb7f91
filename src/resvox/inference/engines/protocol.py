"""The interface of an engine, and the requests from which engines are made."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    import torch

    from resvox.inference.engines.devices import Place


@runtime_checkable
class Engine(Protocol):
    """Computes the outputs of a network for a batch of windows or images.

    ``(batch, channels, *roi)`` float32 in; ``(batch, classes, *roi)`` float32 out, or ``(batch, classes)`` of a
    classifier; both NumPy. An output may be overwritten by the next call.
    """

    @property
    def name(self) -> str:
        """Its name in the table of engines, such as "openvino"."""

    @property
    def device(self) -> object:
        """The device that it uses; as text, such as "cpu" or "cuda:0"."""

    @property
    def precision(self) -> str:
        """One of "float32", "bfloat16", "float16", "int8"."""

    def __call__(self, windows: np.ndarray, /) -> np.ndarray:
        """Compute the outputs of a batch."""
        ...


@runtime_checkable
class OnDevice(Protocol):
    """An engine of torch, whose windows and outputs need not leave its device."""

    @property
    def device(self) -> object:
        """The device of windows and outputs."""

    def on_device(self, windows: torch.Tensor, /) -> torch.Tensor:
        """Outputs (batch, classes, *roi) of windows (batch, channels, *roi) float32, in any type of numbers.

        An output may be overwritten by the next call. Where memory runs out, torch's own error is raised.
        """
        ...


@runtime_checkable
class ReleasesMemory(Protocol):
    """An engine that keeps memory between calls and can do without it until the next one."""

    def release_memory(self) -> None:
        """Free the memory of intermediate maps, or of the whole network where it can be loaded again.

        The next call allocates or loads it again. Outputs become invalid.
        """
        ...


@runtime_checkable
class LoadsAhead(Protocol):
    """An engine that loads its network in a thread, beside other work; its first call waits until it is there."""

    def finish_loading(self) -> None:
        """Wait until the network is there, so that it does not count as time of computing.

        Raises:
            InferenceError: it cannot be used.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class NetworkRequest:
    """A request for an engine that runs a network in torch.

    Args:
        module: loads the network; called only where nothing compiled is in the cache.
        roi_size: the spatial size that every call will have.
        in_channels: channels of a window.
        device: where to compute.
        precision: "float32", "bfloat16" or "float16"; also "auto" for the reference engine.
        fingerprint: identifies the network, so that its compiled form can be cached; None does not cache.
        notify: called with a line of text where the engine continues in another way, such as with smaller batches.
    """

    module: Callable[[], torch.nn.Module]
    roi_size: tuple[int, ...]
    in_channels: int
    device: Place
    precision: str
    fingerprint: str | None
    notify: Callable[[str], object]


@dataclass(frozen=True, kw_only=True)
class FileRequest:
    """A request for an engine that runs an exported network; other fields as in `NetworkRequest`.

    Args:
        path: the exported network.
        format: its export format, as in the table of engines.
        device: "auto", or the name of a device.
        precision: "auto" is that of the file: float32, or int8 of a quantized network.
        features: leave out the last layer, which the caller applies; OpenVINO alone.
    """

    path: str | os.PathLike[str]
    format: str
    roi_size: tuple[int, ...]
    in_channels: int
    device: str
    precision: str
    notify: Callable[[str], object] | None
    features: bool = False
