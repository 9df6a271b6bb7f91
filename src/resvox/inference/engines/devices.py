"""The devices of this machine. torch, which takes seconds to import, is asked only where there may be a GPU."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Union

from resvox.errors import InferenceError

if TYPE_CHECKING:
    import torch

# A device of torch; the processor also by its name, where torch is not needed.
Place = Union["torch.device", str]
# What the drivers of GPUs make that torch computes on: NVIDIA's, AMD's, and that of Windows' subsystem for Linux.
DRIVERS = ("/dev/nvidiactl", "/dev/nvidia0", "/proc/driver/nvidia", "/dev/kfd", "/dev/dxg", "/dev/nvhost-gpu")


def may_have_gpu() -> bool:
    """Whether torch could find a GPU that it takes by itself; False only where there is surely none."""
    if "torch" in sys.modules:
        return True  # it is asked: that costs nothing now
    if sys.platform == "darwin":
        return False  # Apple's GPUs are used by name alone
    if sys.platform != "linux":
        return True
    return any(os.path.exists(each) for each in DRIVERS)


def place_of(device: str) -> Place:
    """The device that a name means; "auto" is CUDA where there is a GPU, else the processor.

    Raises:
        InferenceError: a device that this machine does not have.
    """
    if device == "cpu" or (device == "auto" and not may_have_gpu()):
        return "cpu"
    return choose_device(device)


def choose_device(device: str | torch.device, module: torch.nn.Module | None = None) -> torch.device:
    """The device of torch that a name means; ``"auto"`` is where the module is already, else CUDA, else the CPU.

    Raises:
        InferenceError: a device that this machine does not have.
    """
    import torch

    if str(device) == "auto":
        weights = module.parameters() if module is not None else iter(())
        found = next((p.device for p in weights), torch.device("cpu"))
        if found.type != "cpu":
            return found
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)  # raises here, not at the first window, if this machine lacks the device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InferenceError(
            f"device={str(device)!r} ({str(error).splitlines()[0]})",
            expected="'auto', 'cpu', 'cuda', 'cuda:1', ... or 'mps', as far as this machine has them",
            fix="device='auto' selects the best one",
        ) from error
    return chosen


def type_of(place: Place) -> str:
    """The type of a device: "cpu", "cuda" and so on."""
    return place if isinstance(place, str) else place.type


def gpu_count() -> int:
    """CUDA devices that this process may use."""
    if not may_have_gpu():
        return 0
    import torch

    return torch.cuda.device_count()


def has_bfloat16(device: str) -> bool:
    """Whether a type of device ("cpu", "cuda") has bfloat16 units; older GPUs emulate it slowly."""
    if device == "cuda":
        import torch

        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and bool(_processor_features() & {"avx512_bf16", "amx_bf16", "bf16"})


def has_int8(device: str) -> bool:
    """Whether a type of device has units that multiply int8 numbers: VNNI or AMX; known on Linux only.

    OpenVINO states INT8 among its ``OPTIMIZATION_CAPABILITIES`` also on processors with AVX2 alone, which have no such
    units. Therefore the processor's own list of features decides.
    """
    return device == "cpu" and bool(_processor_features() & {"avx512_vnni", "avx_vnni", "amx_int8"})


def _processor_features() -> set[str]:
    """The features that Linux lists for the processor; empty on other systems."""
    try:
        return set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return set()


def warn(line: str) -> None:
    """The default notify: emit a ``RuntimeWarning``."""
    warnings.warn(line, RuntimeWarning, stacklevel=2)
