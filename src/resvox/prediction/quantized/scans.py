"""The prepared scans that a quantized network is calibrated on: of files, or those that a training run has kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from resvox.errors import InferenceError, ResvoxError
from resvox.prediction.log import RunLog
from resvox.prediction.options import Paths, PredictOptions
from resvox.prediction.outcomes import one_line
from resvox.prediction.quantized.windows import SEED, scans_wanted
from resvox.prediction.tasks import row_of
from resvox.preprocessing import Prepared

if TYPE_CHECKING:
    from resvox.prediction.cases import Case
    from resvox.prediction.model_files import ModelFile
    from resvox.prediction.predictor import Predictor

Array = np.ndarray[Any, Any]
UNUSED = Path(os.sep, "resvox", "writes", "nothing", "here")  # the folder of results


class Scans(Protocol):
    """Prepared scans, at most `scans_wanted` of them, in a fixed random order."""

    @property
    def total(self) -> int:
        """How many there are, if all can be read."""

    def __iter__(self) -> Iterator[Array]:
        """Each (channels, *spatial) float32, as the network sees it."""


@dataclass(kw_only=True)
class ScanFiles:
    """Scans from files and folders, read and prepared as a prediction with the model does.

    Args:
        file: the model.
        inputs: as of `PredictOptions`.
        notify: called with a line of text about a scan that cannot be used; another one is taken instead.

    Raises:
        InferenceError: files or folders that cannot be read; when iterated over, no scan that can be used.
    """

    file: ModelFile
    inputs: Paths
    notify: Callable[[str], object]

    def __post_init__(self) -> None:
        # Plain torch is made in no time, and nothing is computed with it.
        options = PredictOptions(
            model=self.file.path, inputs=self.inputs, out=UNUSED, engine="torch-plain", device="cpu"
        )
        self._options = options
        self._class = row_of(self.file.card.task).predictor_class(self.file.format)
        try:
            found = self._class.find(options, self.file.card, RunLog(options.out)).cases
        except OSError as error:
            raise InferenceError(
                f"scans to calibrate on that cannot be read ({error.strerror or error})",
                expected="files or folders of scans",
                path=error.filename,
            ) from error
        order = np.random.default_rng(SEED).permutation(len(found))
        self._cases: list[Case] = [found[place] for place in order]
        self.total = min(len(self._cases), scans_wanted(self.file.card))

    def __iter__(self) -> Iterator[Array]:
        predictor: Predictor[Any, Any] = self._class(self._options, notify=self.notify)
        used, problem = 0, "no scan was found"
        for case in self._cases:
            try:
                ready = predictor.prepare(predictor.read(case))
            except (ResvoxError, OSError) as error:
                problem = one_line(error, case.inputs[0])
                self.notify(f"not calibrated on {problem}")
                continue
            yield ready.array if isinstance(ready, Prepared) else ready
            used += 1
            if used == self.total:
                return
        if not used:
            raise InferenceError(
                f"no scan to calibrate on ({problem})", expected="scans of the kind that the model was trained on"
            )


@dataclass(kw_only=True)
class KeptScans:
    """The scans that the training run of a model has kept, prepared.

    Args:
        file: the model, in the folder of its run.

    Raises:
        InferenceError: no scan is kept there.
    """

    file: ModelFile

    def __post_init__(self) -> None:
        from resvox.training.prepared import images_prepared_by
        from resvox.training.run_folder import RunFolder

        run = RunFolder(self.file.path.parent)
        card = self.file.card
        found = images_prepared_by(card.preprocessing, run.cache) if run.plan.exists() else []
        if not found:
            raise InferenceError(
                "precision='int8' without scans",
                expected="scans to calibrate the network on; the training run of the model keeps none",
                fix="--calibrate SCANS: files or folders of scans, as of the training",
                path=self.file.path,
            )
        order = np.random.default_rng(SEED).permutation(len(found))
        self._images = [found[place] for place in order[: scans_wanted(card)]]
        self.total = len(self._images)

    def __iter__(self) -> Iterator[Array]:
        for path in self._images:
            yield np.load(path, mmap_mode="r")
