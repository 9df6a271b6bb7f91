"""Windows that need not be computed, because an equal one was."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from resvox.inference.mirroring import Predictor

LARGEST_BYTES = 128_000_000  # of an output that is kept


def constant_windows_once(predictor: Predictor, on_repeat: Callable[[], object]) -> Predictor:
    """A predictor that computes a window without contrast (air, padding) once for each value.

    The output is that of the first such window, so it is the same to the bit. Of the outputs the last one is kept.
    Batches of several windows are passed on as they are.

    Args:
        predictor: ``(batch, channels, *roi)`` to ``(batch, classes, *roi)``.
        on_repeat: called for each window that is not computed.
    """
    known: dict[bytes, np.ndarray] = {}

    def predict(windows: np.ndarray) -> np.ndarray:
        values = _constant(windows[0]) if len(windows) == 1 else None
        if values is None:
            return predictor(windows)
        if values in known:
            on_repeat()
            return known[values]
        output = predictor(windows)
        known.clear()
        if output.nbytes <= LARGEST_BYTES:
            known[values] = output.copy()  # an engine may reuse its memory
        return output

    return predict


def _constant(window: np.ndarray) -> bytes | None:
    """The value of each channel of a window without contrast, as a key; None of all others."""
    flat = window.reshape(len(window), -1)
    if (flat[:, 0] != flat[:, -1]).any():  # nearly all windows with contrast show it here
        return None
    values: np.ndarray = flat[:, 0]
    return values.tobytes() if (flat == values[:, None]).all() else None
