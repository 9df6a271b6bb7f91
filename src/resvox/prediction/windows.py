"""A prepared scan through the windows of a network, for the tasks that predict voxel by voxel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from resvox.errors import InferenceError

if TYPE_CHECKING:
    from pathlib import Path

    from resvox.cards import Windows
    from resvox.inference import Engine, FinishedSlice, WindowCount
    from resvox.prediction.options import PredictOptions
    from resvox.prediction.predictor import Progress
    from resvox.preprocessing import Prepared

EMPTY = 0.02  # of a scan's range of values above its lowest: air with its noise, for --skip-empty
CUDA_BATCH = 4  # windows in one pass on a card, which one window does not fill


def stream(
    prepared: Prepared,
    engine: Engine,
    windows: Windows,
    options: PredictOptions,
    *,
    count: WindowCount,
    progress: Progress | None,
) -> Iterator[FinishedSlice]:
    """Blended outputs slice by slice; never those of the whole scan at once. ``count`` is filled."""
    from resvox.inference import stream_sliding_window
    from resvox.machine import usable_threads

    on_card = "cuda" in str(engine.device)
    return stream_sliding_window(
        prepared.array,
        engine,
        roi_size=windows.roi_size,
        overlap=overlap_of(windows, options),
        mirror_axes=windows.mirror_axes if options.mirror else (),
        sw_batch_size=CUDA_BATCH if on_card else 1,
        ahead=on_card,
        skip_empty=EMPTY if options.skip_empty else None,
        memory_gb=options.memory_gb,
        threads=usable_threads(),
        progress=progress,
        count=count,
    )


def overlap_of(windows: Windows, options: PredictOptions) -> float:
    """The overlap that was asked for, or the model's own."""
    return windows.overlap if options.overlap is None else options.overlap


def check_mirroring(windows: Windows, options: PredictOptions, path: Path) -> None:
    """Refuse to mirror with a model that was trained without.

    Raises:
        InferenceError: naming the model.
    """
    if options.mirror and not windows.mirror_axes:
        raise InferenceError(
            "mirroring, with a model that was trained without it",
            expected="a model whose training mirrored some axes",
            fix="leave --mirror out",
            path=path,
        )
