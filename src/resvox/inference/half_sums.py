"""Sliding window with sums in float16, as nnU-Net: for results with its bits.

Products are made in float32 and rounded when they are added, window after window, and each network's logits are
finished before those of the next one are added. `stream_sliding_window` is as accurate as float32, in less memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from resvox.errors import InferenceError
from resvox.inference.mirroring import Predictor
from resvox.inference.sliding_window import WindowedScan


def half_sliding_window(
    array: np.ndarray,
    predictors: Sequence[Predictor],
    *,
    roi_size: Sequence[int],
    overlap: float = 0.5,
    mirror_axes: Sequence[int] = (),
    progress: Callable[[int, int], object] | None = None,
) -> np.ndarray:
    """The mean of the logits of several networks: (classes, *spatial) float16, all of them in memory.

    Args:
        array: (channels, *spatial) float32.
        predictors: the networks, each as in `resvox.inference.sliding_window_inference`.
        roi_size: the window in voxels.
        overlap: fraction of a window that is shared with its neighbour at least.
        mirror_axes: spatial axes of test-time mirroring.
        progress: called as ``progress(done, total)`` in windows.

    Raises:
        InferenceError: as in `sliding_window_inference`; a sum that float16 cannot hold.
    """
    report = progress or (lambda done, total: None)
    total: np.ndarray | None = None
    for number, predictor in enumerate(predictors):
        scan = WindowedScan(
            array,
            predictor,
            roi_size=roi_size,
            overlap=overlap,
            mode="half-gaussian",
            sigma_scale=0.125,
            sw_batch_size=1,
            padding_mode="constant",
            cval=0.0,
            mirror_axes=mirror_axes,
            placement="even",
        )
        every = len(scan.starts) * len(predictors)
        before = number * len(scan.starts)
        logits = _mean(scan, lambda done, before=before, every=every: report(before + done, every))  # type: ignore[misc]
        total = logits if total is None else total + logits
    assert total is not None
    return total / np.float16(len(predictors)) if len(predictors) > 1 else total


def _mean(scan: WindowedScan, report: Callable[[int], object]) -> np.ndarray:
    sums: np.ndarray | None = None
    weights = np.zeros(scan.padded.shape[1:], np.float16)
    report(0)
    for done, (batch, outputs) in enumerate(scan.outputs(scan.starts), start=1):
        if sums is None:
            sums = np.zeros((outputs.shape[1], *weights.shape), np.float16)
        box = tuple(slice(start, start + size) for start, size in zip(batch[0], scan.roi, strict=True))
        place = (slice(None), *box)
        sums[place] = sums[place].astype(np.float32) + outputs[0] * scan.weights
        weights[box] += scan.weights.astype(np.float16)
        report(done)
    assert sums is not None
    with np.errstate(all="ignore"):
        sums /= weights
    if np.isinf(sums).any():
        raise InferenceError(
            "logits too large for sums in float16", expected="at most 6550", fix="leave --exact out: float32 holds them"
        )
    inner = [slice(pad[0], size - pad[1]) for pad, size in zip(scan.pads, scan.padded.shape[1:], strict=True)]
    return np.ascontiguousarray(sums[(slice(None), *inner)])
