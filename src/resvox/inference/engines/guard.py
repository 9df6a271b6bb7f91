"""The accuracy guard: the fastest engine that agrees with plain torch in float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from resvox.errors import InferenceError
from resvox.inference.engines.agreement import Agreement, LabelAgreement
from resvox.inference.engines.protocol import Engine, LoadsAhead, OnDevice, ReleasesMemory
from resvox.machine import return_freed_memory

if TYPE_CHECKING:
    import torch

Making = Callable[[], Engine]


@dataclass(frozen=True)
class Verdict:
    """The result of a comparison: the index of the engine among the candidates, and its distance from the reference."""

    index: int
    changed: float


class GuardedEngine:
    """Tries candidates, fastest first, and compares each with a reference on the first informative windows.

    A candidate whose difference is larger than the tolerance is not used: the next one computes the same windows.
    Which windows are informative and what the difference is depends on the kind of output, see
    `resvox.inference.engines.agreement`. Until there are such windows, the first candidate is used.

    Args:
        candidates: (description, factory), fastest first. A candidate that cannot be made is skipped with a remark.
        reference: factory of the reference engine, plain float32 torch; it is also the last choice.
        agreement: the measure; by default that of label maps.
        verdict: the result of an earlier comparison of the same network on this machine; it is not repeated.
        on_verdict: called with the result of the comparison.
        notify: called with a line of text where a candidate is rejected.
    """

    def __init__(
        self,
        candidates: Sequence[tuple[str, Making]],
        reference: Making,
        *,
        agreement: Agreement | None = None,
        verdict: Verdict | None = None,
        on_verdict: Callable[[Verdict], object] | None = None,
        notify: Callable[[str], object],
    ) -> None:
        self._candidates = [*candidates, ("plain torch in float32", reference)]
        self._reference = reference
        self._agreement = agreement or LabelAgreement()
        self._on_verdict = on_verdict or (lambda verdict: None)
        self._notify = notify
        self._index = verdict.index if verdict else 0
        self.changed = verdict.changed if verdict else None
        self._made: Engine | None = self._next()
        if verdict and self._index != verdict.index:
            self.changed = None  # the verdict was on an engine that can no longer be made
        self._is_loaded = False  # a network that loads ahead can still turn out not to be usable

    @property
    def name(self) -> str:
        """The name of the engine in use; empty before the first one is made."""
        return self._made.name if self._made is not None else ""

    @property
    def device(self) -> object:
        """The device of the engine in use."""
        return self._made.device if self._made is not None else ""

    @property
    def precision(self) -> str:
        """The precision of the engine in use."""
        return self._made.precision if self._made is not None else ""

    def __call__(self, windows: np.ndarray, /) -> np.ndarray:
        """Compute the outputs of a batch, see `resvox.inference.engines.protocol.Engine`."""
        expected: np.ndarray | None = None
        while True:
            if self._made is None:  # rejected here, or in a call in which the next engine ran out of memory
                self._made, self._is_loaded = self._next(), False
            self.finish_loading()
            output = self._made(windows)
            if self.changed is not None:
                return output
            if expected is None and not self._agreement.can_tell(windows, output):
                return output
            if self._index == len(self._candidates) - 1:
                return self._settled(output, 0.0)
            if expected is None:
                if isinstance(self._made, ReleasesMemory):  # not both networks' maps at once
                    output = output.copy()
                    self._made.release_memory()
                expected = self._agreement.expected(self._reference(), windows)
            changed = self._agreement.difference(output, expected)
            if changed <= self._agreement.tolerance:
                return self._settled(output, changed)
            words = self._candidates[self._index][0]
            self._notify(f"{words} {self._agreement.describe(changed)}; not used")
            self._index += 1
            # Frees its memory for the next engine; an output may share that memory.
            del output
            self._made = None

    def finish_loading(self) -> None:
        """Wait until the network of the engine in use is there, see `LoadsAhead`; the next engine if it cannot be."""
        while not self._is_loaded and self._made is not None:
            try:
                if isinstance(self._made, LoadsAhead):
                    self._made.finish_loading()
            except (InferenceError, ImportError) as error:
                if self._index == len(self._candidates) - 1:
                    raise
                self._skip(error)
                self._made = self.changed = None  # an earlier verdict was on the engine that failed
                self._made = self._next()
            else:
                self._is_loaded = True
        if self.changed is not None:
            self._forget()

    def on_device(self, windows: torch.Tensor, /) -> torch.Tensor:
        """Compute the outputs of a batch on the device, see `OnDevice`; through NumPy until there is a verdict."""
        self.finish_loading()
        if self.changed is not None and isinstance(self._made, OnDevice):
            return self._made.on_device(windows)
        from resvox.inference.engines.torch_engine import through_numpy

        return through_numpy(self, windows)

    def _settled(self, output: np.ndarray, changed: float) -> np.ndarray:
        self.changed = changed
        self._on_verdict(Verdict(self._index, changed))
        self._forget()
        return output

    def _forget(self) -> None:
        """Release what is not needed after the decision, and memory that was freed."""
        made = self._made
        if self._candidates and made is not None:
            self._candidates, self._reference = [], lambda: made
            return_freed_memory()

    def _next(self) -> Engine:
        while self._index < len(self._candidates) - 1:
            try:
                return self._candidates[self._index][1]()
            except (InferenceError, ImportError) as error:
                self._skip(error)
        return self._candidates[-1][1]()

    def _skip(self, error: Exception) -> None:
        """Go on to the next candidate, with a remark."""
        self._notify(f"no {self._candidates[self._index][0]}: {error}")
        self._index += 1
