"""Several networks answer as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from resvox.errors import InferenceError
from resvox.inference.engines.protocol import Engine


class EnsembleEngine:
    """The mean of the logits of several engines: the folds of one dataset, usually.

    Raises:
        InferenceError: no engine; in a call: engines that answer with another number of classes.
    """

    def __init__(self, engines: Sequence[Engine]) -> None:
        if not engines:
            raise InferenceError("an ensemble of no engines", expected="at least one")
        self.engines = tuple(engines)

    def __call__(self, windows: np.ndarray, /) -> np.ndarray:
        total = np.array(self.engines[0](windows), np.float32)  # a copy: an engine may reuse its memory
        for engine in self.engines[1:]:
            answer = engine(windows)
            if answer.shape != total.shape:
                raise InferenceError(
                    f"logits of shape {answer.shape} beside {total.shape}", expected="networks with the same classes"
                )
            total += answer
        total /= len(self.engines)
        return total

    @property
    def name(self) -> str:
        """Of its engines."""
        return _words(self.engines, "name", "function")

    @property
    def device(self) -> str:
        """Of its engines."""
        return _words(self.engines, "device", "cpu")

    @property
    def precision(self) -> str:
        """Of its engines."""
        return _words(self.engines, "precision", "float32")


def _words(engines: Sequence[Engine], name: str, default: str) -> str:
    return " + ".join(dict.fromkeys(str(getattr(engine, name, default)) for engine in engines))
