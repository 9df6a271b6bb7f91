"""The devices of this machine."""

from __future__ import annotations

import torch


def gpu_count() -> int:
    """CUDA devices that this process may use."""
    return torch.cuda.device_count()
