"""The accuracy guard: the fastest engine whose labels are those of float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from resvox.errors import InferenceError
from resvox.inference.engines.protocol import Engine

TOLERANCE = 1e-3  # share of a window's voxels that may get another label
Making = Callable[[], Engine]


@runtime_checkable
class LabelsAlone(Protocol):
    """An engine that can tell labels without handing out logits."""

    def labels(self, windows: np.ndarray, /) -> np.ndarray: ...


@dataclass(frozen=True)
class Verdict:
    """What the comparison came to: the engine's place among the candidates, and the share of labels it changed."""

    index: int
    changed: float


class GuardedEngine:
    """Tries candidates from the fastest on, and compares with a reference on the first window that holds foreground.

    A candidate that changes more than `TOLERANCE` of that window's labels is not used: the next one answers the same
    window. Until such a window is met, the first candidate answers, and every answer so far was background alone.

    Args:
        candidates: (words for it, what makes it), fastest first. One that cannot be made is passed over, and said.
        reference: makes the engine that is trusted, plain float32 torch; it is also the last resort.
        verdict: of an earlier comparison of the same network on this machine; then nothing is compared.
        labels_of: the classes (batch, *roi) of an answer; by default of its largest logits.
        on_verdict: called with what the comparison came to.
        notify: called with a line of text where a candidate is given up.
    """

    def __init__(
        self,
        candidates: Sequence[tuple[str, Making]],
        reference: Making,
        *,
        labels_of: Callable[[np.ndarray], np.ndarray] | None = None,
        verdict: Verdict | None = None,
        on_verdict: Callable[[Verdict], object] | None = None,
        notify: Callable[[str], object],
    ) -> None:
        self._candidates = [*candidates, ("plain torch in float32", reference)]
        self._reference = reference
        self._own_labels = labels_of
        self._on_verdict = on_verdict or (lambda verdict: None)
        self._notify = notify
        self._index = verdict.index if verdict else 0
        self.changed = verdict.changed if verdict else None
        self._made: Engine | None = self._next()
        if verdict:
            self._forget()

    @property
    def name(self) -> str:
        """Of the engine in use."""
        return str(getattr(self._made, "name", type(self._made).__name__))

    @property
    def device(self) -> str:
        """Of the engine in use."""
        return str(getattr(self._made, "device", "cpu"))

    @property
    def precision(self) -> str:
        """Of the engine in use."""
        return str(getattr(self._made, "precision", "float32"))

    def __call__(self, windows: np.ndarray, /) -> np.ndarray:
        expected: np.ndarray | None = None
        while True:
            if self._made is None:  # given up, here or in a call in which the next one found no memory
                self._made = self._next()
            answer = self._made(windows)
            if self.changed is not None:
                return answer
            labels = self._labels(answer)
            if expected is None and not labels.any():
                return answer
            if self._index == len(self._candidates) - 1:
                return self._settled(answer, 0.0)
            if expected is None:  # labels alone: with many classes two answers are gigabytes
                expected = self._trusted_labels(windows)
            changed = float(np.mean(labels != expected))
            if changed <= TOLERANCE:
                return self._settled(answer, changed)
            words = self._candidates[self._index][0]
            self._notify(f"{words} would change {100 * changed:.2f} % of the labels of a window; not used")
            self._index += 1
            # Its memory is for the next one, and an answer may be a part of it.
            del answer, labels
            self._made = None

    def _labels(self, answer: np.ndarray) -> np.ndarray:
        return _labels(answer) if self._own_labels is None else self._own_labels(answer)

    def _trusted_labels(self, windows: np.ndarray) -> np.ndarray:
        engine = self._reference()
        if self._own_labels is None and isinstance(engine, LabelsAlone):
            return engine.labels(windows)
        return self._labels(engine(windows))

    def _settled(self, answer: np.ndarray, changed: float) -> np.ndarray:
        self.changed = changed
        self._on_verdict(Verdict(self._index, changed))
        self._forget()
        return answer

    def _forget(self) -> None:
        """Let go of what is not needed once it is settled: the closures hold a whole network."""
        made = self._made
        assert made is not None
        self._candidates, self._reference = [], lambda: made

    def _next(self) -> Engine:
        while self._index < len(self._candidates) - 1:
            words, make = self._candidates[self._index]
            try:
                return make()
            except (InferenceError, ImportError) as error:
                self._notify(f"no {words}: {error}")
                self._index += 1
        return self._candidates[-1][1]()


def _labels(logits: np.ndarray) -> np.ndarray:
    """(batch, *roi): the class of each voxel, as `labels_from_logits` decides."""
    if logits.shape[1] == 1:
        positive: np.ndarray = logits[:, 0] > 0
        return positive
    return logits.argmax(axis=1)
