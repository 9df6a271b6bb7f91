"""The predictor of classification: the class of a whole image."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from resvox.cards import ClassificationCard
from resvox.errors import InferenceError
from resvox.prediction.model_engine import describe, engine_of, takes_batches
from resvox.prediction.model_files import check_task, chosen_files, own_preprocessing
from resvox.prediction.options import Choices, Paths, PredictOptions, options_of
from resvox.prediction.predictor import Progress, Written, check_scan
from resvox.prediction.tasks import refuse_unused

if TYPE_CHECKING:
    import numpy as np
    from typing_extensions import Unpack

    from resvox.cards import ModelCard
    from resvox.locks import Claims
    from resvox.prediction.cases import Case, Found
    from resvox.prediction.log import RunLog
    from resvox.prediction.results import Results
    from resvox.volumes import Volume

__all__ = ["ClassChances", "Classifier"]
TABLE = "predictions.csv"


@dataclass(frozen=True, kw_only=True)
class ClassChances:
    """The probability of each class of one image, in the order of the network's outputs; and seconds per stage.

    ``not_finite``: how many of its logits are NaN or infinite; the probabilities mean nothing where there are any.
    """

    probabilities: Mapping[str, float]
    seconds: Mapping[str, float]
    not_finite: int = 0
    windows: int = 0
    skipped: int = 0

    @property
    def best(self) -> str:
        """The most probable class; the first of equals."""
        return max(self.probabilities, key=lambda name: self.probabilities[name])


class Classifier:
    """A model for classification: preprocessing, image size, classes; a `Predictor`.

    Args:
        model: a ``model.safetensors``, the folder of a training run that holds one, an exported network, or several
            of these (a sequence, or a folder of runs), whose logits are averaged; or all options at once.
        notify: called with a line of text where an engine is given up or memory runs out.
        choices: engine, device, precision: see :class:`resvox.prediction.options.PredictOptions`. With
            ``precision="auto"`` an engine is used if it gives every image of the first batch the class that float32
            gives and moves no probability by more than 0.01, see `resvox.inference.engines.agreement`.

    Raises:
        WeightsError: no model there, a damaged one, or one that is no classifier.
        InferenceError: an engine, device or option that cannot be.
    """

    def __init__(
        self,
        model: Paths | PredictOptions,
        *,
        notify: Callable[[str], object] | None = None,
        **choices: Unpack[Choices],
    ) -> None:
        from resvox.inference.engines.agreement import ClassAgreement

        self.options = options_of(model, **choices)
        files = chosen_files(self.options)
        check_task(files[0], "classification")
        refuse_unused(self.options, "classification")
        self.card = cast(ClassificationCard, files[0].card)
        self.paths = tuple(each.path for each in files)
        self.path, self.metadata = files[0].path, files[0].metadata
        self.preprocessing = own_preprocessing(files[0])
        self.batch_size = self.card.inference.batch_size if takes_batches(files) else 1
        self.engine = engine_of(files, self.options, agreement=ClassAgreement(), notify=notify)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes in the order of the network's outputs."""
        return self.card.classes

    @property
    def channels(self) -> int:
        """How many channels an image has."""
        return self.card.in_channels

    @property
    def image_size(self) -> tuple[int, ...]:
        """The size in voxels of what the network sees."""
        return self.card.input_size

    @property
    def engine_words(self) -> str:
        """The engine in use, such as ``openvino, bfloat16, cpu``."""
        return describe(self.engine)

    def prepare(self, volume: Volume) -> np.ndarray[Any, Any]:
        """What the network sees of an image: (channels, *image_size) float32.

        Raises:
            InferenceError: another number of dimensions or channels than the model's.
        """
        from resvox.preprocessing import prepare_whole

        check_scan(volume, self.card)
        return prepare_whole(volume, self.preprocessing, self.image_size, self.card.inference.fit)

    def probabilities(self, images: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        """(images, classes) float32 of prepared images.

        Raises:
            InferenceError: logits that are NaN or infinite.
        """
        table, not_finite = self._table(images)
        _check_finite(int(not_finite.sum()))
        return table

    def _table(self, images: Sequence[np.ndarray[Any, Any]]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """(images, classes) float32, and for each image how many of its logits are NaN or infinite."""
        import numpy as np

        from resvox.inference import probabilities_from_logits

        batches = range(0, len(images), self.batch_size)
        # A copy, for an engine may write its next output into the same memory.
        logits = [self.engine(np.stack(images[first : first + self.batch_size])).copy() for first in batches]
        both = np.concatenate(logits)
        with np.errstate(invalid="ignore"):  # of logits that are NaN or infinite, which are counted
            made: np.ndarray[Any, Any] = probabilities_from_logits(both.T).T
        return made, (~np.isfinite(both)).sum(axis=1)

    def classify(self, volume: Volume) -> dict[str, float]:
        """Probability of each class for one image, (*spatial) or (channels, *spatial).

        Raises:
            InferenceError: another number of dimensions or channels than the model's; logits that are NaN or infinite.
        """
        (made,) = self.compute([self.prepare(volume)])
        _check_finite(made.not_finite)
        return dict(made.probabilities)

    # ------------------------------------------------------------------------------------------ in a batch

    @staticmethod
    def find(options: PredictOptions, card: ModelCard, log: RunLog) -> Found:
        """Images: files, and the rows of manifests and ``.npz`` files."""
        from resvox.prediction.inputs import find_images

        return find_images(options, card, log)

    def settings(self) -> dict[str, Any]:
        """Nothing but the model changes a classification."""
        return {}

    def results(self, log: RunLog, locks: Claims, cases: Sequence[Case], *, since: float) -> Results:
        """The lines of a table."""
        from resvox.prediction.results import TableResults

        return TableResults(
            log, locks, cases, table=TABLE, columns=["predicted", *(f"p_{name}" for name in self.classes)],
            row_of=self._row, since=since,
        )  # fmt: skip

    def _row(self, line: Mapping[str, Any]) -> list[str]:
        return [line["predicted"], *(f"{line['probabilities'][name]:.6f}" for name in self.classes)]

    def read(self, case: Case) -> Volume:
        """Read the image of a case."""
        from resvox.prediction.inputs import read_labelled_image

        return read_labelled_image(case, self.channels)

    def compute(self, ready: Sequence[np.ndarray[Any, Any]], *, progress: Progress | None = None) -> list[ClassChances]:
        """The probabilities of prepared images.

        An image whose logits are NaN or infinite is refused when it is written, so that the others of its batch are
        not lost with it.
        """
        start = time.perf_counter()
        table, not_finite = self._table(ready)
        share = (time.perf_counter() - start) / len(ready)
        return [
            ClassChances(
                probabilities={name: float(chance) for name, chance in zip(self.classes, row, strict=True)},
                seconds={"network": share},
                not_finite=int(bad),
            )
            for row, bad in zip(table, not_finite, strict=True)
        ]

    def write(self, case: Case, made: ClassChances) -> Written:
        """Nothing: the line of the log is the result, and the table is made of the lines.

        Raises:
            InferenceError: logits that are NaN or infinite.
        """
        _check_finite(made.not_finite)
        return Written(
            path=self.options.out / TABLE,
            fields={"predicted": made.best, "probabilities": dict(made.probabilities)},
            answer=f"{case.id}: {made.best} ({made.probabilities[made.best]:.3f})",
        )


def _check_finite(bad: int) -> None:
    if bad:
        raise InferenceError(
            f"{bad} logits that are NaN or infinite",
            expected="finite logits",
            fix="look for NaN among the weights, or predict in float32",
        )
