"""One model, ready to turn scans into volumes of values on their own grids."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from resvox.cards import RegressionCard
from resvox.prediction.model_engine import describe, engine_of, takes_batches
from resvox.prediction.model_files import check_task, chosen_files, own_preprocessing
from resvox.prediction.options import Choices, Paths, PredictOptions, options_of
from resvox.prediction.pipeline import timed_call
from resvox.prediction.predictor import (
    Progress,
    Written,
    check_mirroring,
    check_scan,
    mirror_axes_of,
    overlap_of,
    stream,
)
from resvox.prediction.tasks import refuse_unused

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from resvox.cards import ModelCard
    from resvox.locks import Claims
    from resvox.prediction.cases import Case, Found
    from resvox.prediction.log import RunLog
    from resvox.prediction.results import Results
    from resvox.preprocessing import Prepared
    from resvox.volumes import Volume

__all__ = ["Regressor", "Values"]


@dataclass(frozen=True, kw_only=True)
class Values:
    """(*spatial), or (values, *spatial) where there are several, float32 on the scan's grid; and seconds per stage."""

    volume: Volume
    seconds: Mapping[str, float]
    windows: int = 0
    skipped: int = 0


class Regressor:
    """A model for dense regression: preprocessing, windows, units of the values; a `Predictor`.

    Args:
        model: a ``model.safetensors``, the folder of a training run that holds one, an exported network, or several
            of these (a sequence, or a folder of runs), whose values are averaged; or all options at once.
        notify: called with a line of text where an engine is given up or memory runs out.
        choices: mirror, overlap, engine, device, precision, memory_gb: see
            :class:`resvox.prediction.options.PredictOptions`. ``precision="auto"`` is float32, and an engine is
            used if its values differ from those of plain torch by at most 0.1 % of their standard deviation in
            training, see `resvox.inference.engines.agreement`.

    Raises:
        WeightsError: no model there, a damaged one, or one that is no regressor.
        InferenceError: an engine, device or option that cannot be; mirroring with a model that was trained without.
    """

    batch_size = 1

    def __init__(
        self,
        model: Paths | PredictOptions,
        *,
        notify: Callable[[str], object] | None = None,
        **choices: Unpack[Choices],
    ) -> None:
        from resvox.inference.engines.agreement import ValueAgreement

        self.options = options_of(model, **choices)
        files = chosen_files(self.options)
        check_task(files[0], "regression")
        refuse_unused(self.options, "regression")
        self.card = cast(RegressionCard, files[0].card)
        self.paths = tuple(each.path for each in files)
        self.path, self.metadata = files[0].path, files[0].metadata
        check_mirroring(self.card.inference, self.options, self.path)
        self.preprocessing = own_preprocessing(files[0])
        self._batches = takes_batches(files)
        self.engine = engine_of(files, self.options, agreement=ValueAgreement(), notify=notify)

    @property
    def channels(self) -> int:
        """How many channels a scan has."""
        return self.card.in_channels

    @property
    def engine_words(self) -> str:
        """The engine in use, such as ``openvino, bfloat16, cpu``."""
        return describe(self.engine)

    def predict(self, volume: Volume, *, progress: Progress | None = None) -> Values:
        """The values of a scan, (*spatial) or (channels, *spatial), on exactly the scan's grid.

        Raises:
            InferenceError: another number of dimensions or channels than the model's.
        """
        seconds: dict[str, float] = {}
        prepared = timed_call(seconds, "preprocess", self.prepare, volume)
        (made,) = self.compute([prepared], progress=progress)
        return replace(made, seconds={**seconds, **made.seconds})

    def prepare(self, volume: Volume) -> Prepared:
        """What the network sees of a scan.

        Raises:
            InferenceError: another number of dimensions or channels than the model's.
        """
        check_scan(volume, self.card)
        return self.preprocessing.apply(volume)

    def _predict_prepared(self, prepared: Prepared, progress: Progress | None) -> Values:
        """Network and the way back, slice by slice; never all outputs of the network's grid at once."""
        from resvox.inference import ValueRestorer, WindowCount
        from resvox.machine import usable_threads

        count, start = WindowCount(), time.perf_counter()
        slices = stream(
            prepared,
            self.engine,
            self.card.inference,
            self.options,
            count=count,
            progress=progress,
            batches=self._batches,
        )
        restorer = ValueRestorer(
            prepared, std=self.card.target_std, mean=self.card.target_mean, threads=usable_threads()
        )
        restored = restorer.restore(slices)
        if len(restored.array) == 1:
            restored = restored.with_array(restored.array[0])
        whole = time.perf_counter() - start
        seconds = {"network": round(whole - restorer.seconds, 4), "restore": round(restorer.seconds, 4)}
        return Values(volume=restored, seconds=seconds, windows=count.windows)

    # ------------------------------------------------------------------------------------------ in a batch

    @staticmethod
    def find(options: PredictOptions, card: ModelCard, log: RunLog) -> Found:
        """Find the scans of inputs."""
        from resvox.prediction.inputs import find_scans

        return find_scans(options, card, log)

    def settings(self) -> dict[str, Any]:
        """What changes the values."""
        mirror_axes = mirror_axes_of(self.card.inference, self.options)
        return {"mirror_axes": list(mirror_axes), "overlap": overlap_of(self.card.inference, self.options)}

    def results(self, log: RunLog, locks: Claims, cases: Sequence[Case], *, since: float) -> Results:
        """Result files in the output folder."""
        from resvox.prediction.results import FileResults

        return FileResults(log, locks, cases, self.files_of, since=since, what="volume of values")

    def files_of(self, case: Case) -> tuple[str, ...]:
        """The name of a case's file: TIFF where the input is a picture, for PNG holds no fractions."""
        is_picture = case.is_picture and self.card.spatial_dims == 2
        return (f"{case.id}{self.options.suffix}{'.tif' if is_picture else '.nii.gz'}",)

    def read(self, case: Case) -> Volume:
        """Read the scan of a case."""
        from resvox.prediction.inputs import read_scan

        return read_scan(case)

    def compute(self, ready: Sequence[Prepared], *, progress: Progress | None = None) -> list[Values]:
        """Volumes of values."""
        return [self._predict_prepared(each, progress) for each in ready]

    def write(self, case: Case, made: Values) -> Written:
        """Write the volume of values of a case."""
        from resvox.volumes import write_volume

        (name,) = self.files_of(case)
        write_volume(made.volume, self.options.out / name)
        return Written(path=self.options.out / name)
