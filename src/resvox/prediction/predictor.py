"""What a task brings to the batch loop: a predictor finds inputs, reads, prepares, computes and writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from resvox.errors import InferenceError

if TYPE_CHECKING:
    from resvox.cards import ModelCard
    from resvox.inference import Engine
    from resvox.locks import Claims
    from resvox.prediction.inputs import Case, Found
    from resvox.prediction.log import RunLog
    from resvox.prediction.options import PredictOptions
    from resvox.prediction.results import Results
    from resvox.volumes import Volume

Progress = Callable[[int, int], object]  # windows done, windows in all
Ready = TypeVar("Ready")


class Measured(Protocol):
    """What a predictor computed for one case, with what it took."""

    @property
    def seconds(self) -> Mapping[str, float]:
        """Seconds per stage."""

    @property
    def windows(self) -> int:
        """Windows in all."""

    @property
    def skipped(self) -> int:
        """Windows that were passed over as empty."""


Made = TypeVar("Made", bound=Measured)


@dataclass(frozen=True, kw_only=True)
class Written:
    """What was written for a case.

    Args:
        path: the file that holds the result.
        fields: what the case's line in predict.jsonl has beside the usual fields.
        answer: the result in words, where it is short enough to be shown.
    """

    path: Path
    fields: Mapping[str, Any] = field(default_factory=dict)
    answer: str = ""


class Predictor(Protocol[Ready, Made]):
    """One model with all that is needed to use it.

    Each method may run in a thread of its own, beside the others and for other cases. ``batch_size`` cases go
    through `compute` together; ``paths`` are the model files, the first of which names the model in the log.
    """

    options: PredictOptions
    paths: tuple[Path, ...]
    card: ModelCard
    engine: Engine
    batch_size: int

    def __init__(self, model: PredictOptions, *, notify: Callable[[str], object] | None = None) -> None: ...

    @staticmethod
    def find(options: PredictOptions, card: ModelCard, log: RunLog) -> Found:
        """The cases of the inputs; a bad input is a case with its problem. Needs no engine."""

    def settings(self) -> dict[str, Any]:
        """The options that change results, as they are kept in the log to be compared with a later run's."""

    def results(self, log: RunLog, locks: Claims, cases: Sequence[Case], *, since: float) -> Results:
        """Where results are kept and what "done" means: files, or the lines of a table."""

    def read(self, case: Case) -> Volume:
        """The scan or image of a case."""

    def prepare(self, volume: Volume) -> Ready:
        """What the network sees of it."""

    def compute(self, ready: Sequence[Ready], *, progress: Progress | None = None) -> list[Made]:
        """The results of prepared cases, on the grids of their scans."""

    def write(self, case: Case, made: Made) -> Written:
        """Write a result into ``options.out``, the file whose presence means "done" as the last one."""


def check_scan(volume: Volume, card: ModelCard) -> None:
    """Refuse a scan of other dimensions or channels than the model's.

    Raises:
        InferenceError: naming what was expected.
    """
    if volume.spatial_dims != card.spatial_dims:
        raise InferenceError(
            f"a {volume.spatial_dims}D image",
            expected=f"a {card.spatial_dims}D image, which is what the model was trained on",
        )
    if volume.channels != card.in_channels:
        raise InferenceError(
            f"{volume.channels} channel{'s' if volume.channels != 1 else ''}",
            expected=f"{card.in_channels} ({', '.join(card.channel_names)})",
            fix="give one file per channel: case_0000, case_0001, ..." if card.in_channels > 1 else "",
        )
