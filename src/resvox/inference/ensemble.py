"""Ensembles: the mean of the outputs of several networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from resvox.errors import InferenceError
from resvox.inference.engines.protocol import Engine, LoadsAhead, OnDevice

if TYPE_CHECKING:
    import torch


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
            self._check(output.shape, total.shape)
            total += output
        total /= len(self.engines)
        return total

    def finish_loading(self) -> None:
        """Wait until the networks of all engines are there, see `LoadsAhead`."""
        for engine in self.engines:
            if isinstance(engine, LoadsAhead):
                engine.finish_loading()

    def on_device(self, windows: torch.Tensor, /) -> torch.Tensor:
        """Compute the mean on the device of the engines, see `OnDevice`."""
        from resvox.inference.engines.torch_engine import through_numpy

        def of(engine: Engine) -> torch.Tensor:
            return engine.on_device(windows) if isinstance(engine, OnDevice) else through_numpy(engine, windows)

        total = of(self.engines[0]).float().clone()
        for engine in self.engines[1:]:
            output = of(engine)
            self._check(tuple(output.shape), tuple(total.shape))
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

    @staticmethod
    def _check(shape: tuple[int, ...], first: tuple[int, ...]) -> None:
        if shape != first:
            raise InferenceError(f"logits of shape {shape} beside {first}", expected="networks with the same classes")


def _joined(words: Sequence[str]) -> str:
    return " + ".join(dict.fromkeys(words))
