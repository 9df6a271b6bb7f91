"""The engine of a model for another task than segmentation: our network in torch, or an exported one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resvox.prediction.model_files import ModelFile


def engine_for(
    file: ModelFile,
    *,
    roi_size: Sequence[int],
    device: str,
    precision: str,
) -> Any:
    """What answers windows of one size, and says on which device and in which precision.

    Raises:
        InferenceError: a device or precision that cannot be.
    """
    from resvox.inference import TorchEngine
    from resvox.inference.engines import engine_of_file
    from resvox.weights import load_model

    if file.format == "resvox":
        return TorchEngine(load_model(file.path), device=device, precision=precision)
    return engine_of_file(
        file.path,
        file.format,
        roi_size=roi_size,
        in_channels=len(file.metadata["channel_names"]),
        device=device,
        precision=precision,
    )
