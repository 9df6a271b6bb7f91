"""Ensembles: the mean of the outputs of several networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from resvox.errors import InferenceError
from resvox.inference.engines.protocol import Engine


class EnsembleEngine:
    """The mean of the outputs of several engines: the folds of one dataset, usually.

    Raises:
        InferenceError: no engine is given; in a call: outputs with different numbers of classes.
    """

    def __init__(self, engines: Sequence[Engine]) -> None:
        if not engines:
            raise InferenceError("an ensemble of no engines", expected="at least one")
        self.engines = tuple(engines)

    def __call__(self, windows: np.ndarray, /) -> np.ndarray:
        """Compute the mean of the outputs of all engines for a batch."""
        total = np.array(self.engines[0](windows), np.float32)  # a copy: an engine may reuse its memory
        for engine in self.engines[1:]:
            output = engine(windows)
            if output.shape != total.shape:
                raise InferenceError(
                    f"logits of shape {output.shape} beside {total.shape}", expected="networks with the same classes"
                )
            total += output
        total /= len(self.engines)
        return total

    @property
    def name(self) -> str:
        """The different names of its engines, joined by " + "."""
        return _joined([engine.name for engine in self.engines])

    @property
    def device(self) -> str:
        """The different devices of its engines."""
        return _joined([str(engine.device) for engine in self.engines])

    @property
    def precision(self) -> str:
        """The different precisions of its engines."""
        return _joined([engine.precision for engine in self.engines])


def _joined(words: Sequence[str]) -> str:
    return " + ".join(dict.fromkeys(words))
