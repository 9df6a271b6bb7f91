"""One model, ready to turn scans into label maps on their own grids."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from resvox.errors import InferenceError
from resvox.prediction.late_head import late_head
from resvox.prediction.model_files import ModelFile, Paths, model_file, model_files

if TYPE_CHECKING:
    from resvox.inference import Engine, FinishedSlice
    from resvox.preprocessing import Prepared
    from resvox.volumes import Volume

__all__ = ["Segmentation", "Segmenter", "model_file"]
Progress = Callable[[int, int], object]
RESAMPLING = ("logits", "labels")
EMPTY = 0.02  # of a scan's range of values above its lowest: air with its noise, for --skip-empty
CUDA_BATCH = 4  # windows in one pass on a card, which one window does not fill


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """A label map on the grid of its scan, probabilities if they were asked for, and seconds a stage.

    ``windows``: how many there were; ``skipped``: how many of these were passed over as empty.
    """

    label_map: Volume
    probabilities: Volume | None
    seconds: Mapping[str, float]
    windows: int = 0
    skipped: int = 0


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How a scan is to be segmented.

    ``resample``: "logits" brings what the network says to the scan's grid before the largest is taken, the accurate
    way; "labels" brings its label map there, a little faster. ``skip_empty``: pass over windows of air.
    ``memory_gb``: that unfinished slices may take; beyond it a scan is done in tiles.
    """

    mirror: bool = False
    overlap: float | None = None
    resample: str = "logits"
    skip_empty: bool = False
    memory_gb: float = 2.5

    def __post_init__(self) -> None:
        if self.resample not in RESAMPLING:
            raise InferenceError(f"resample={self.resample!r}", expected=" or ".join(map(repr, RESAMPLING)))
        if not self.memory_gb > 0:
            raise InferenceError(f"memory_gb={self.memory_gb}", expected="a number above 0, e.g. 2.5")


class Segmenter:
    """A model file with everything that is needed to use it: preprocessing, window, labels.

    Args:
        model: a ``model.safetensors``, the folder of a training run that holds one, an exported network, or several
            of these (a sequence, or a folder of runs), whose logits are averaged.
        engine: "auto" takes the fastest one whose labels are those of float32, see
            :func:`resvox.inference.make_engine`; or "openvino", "torch", "torch-plain", "onnxruntime".
        device: "auto", "cpu", "cuda", ...
        precision: "auto", "float32", "bfloat16" or "float16".
        mirror: average over mirrored copies (the axes that training mirrored), 2 to 8 times the work.
        overlap: of neighbouring windows; None takes the model's own.
        resample, skip_empty, memory_gb: see `Asked`.
        notify: called with a line of text where an engine is given up or memory runs out.

    Raises:
        WeightsError: no model there, a damaged one, or one without preprocessing and labels.
        InferenceError: an engine, device or option that cannot be.
    """

    def __init__(
        self,
        model: Paths,
        *,
        engine: str = "auto",
        device: str = "auto",
        precision: str = "auto",
        mirror: bool = False,
        overlap: float | None = None,
        resample: str = "logits",
        skip_empty: bool = False,
        memory_gb: float = 2.5,
        notify: Callable[[str], object] | None = None,
    ) -> None:
        from resvox.inference import EnsembleEngine
        from resvox.preprocessing import Preprocessing

        self.asked = Asked(
            mirror=mirror, overlap=overlap, resample=resample, skip_empty=skip_empty, memory_gb=memory_gb
        )
        files = model_files(model)
        self.paths = tuple(each.path for each in files)
        self.path, self.metadata = files[0].path, files[0].metadata
        self.preprocessing = Preprocessing.from_dict(self.metadata["preprocessing"])
        self.labels: dict[str, int] = dict(sorted(self.metadata["labels"].items(), key=lambda item: item[1]))
        self.channels = len(self.metadata["channel_names"])
        self.roi_size = tuple(int(n) for n in self.metadata["inference"]["roi_size"])
        self.overlap = float(self.metadata["inference"].get("overlap", 0.5) if overlap is None else overlap)
        self.mirror_axes = self._mirror_axes() if mirror else ()
        # Folds have a head each, and of a window that is passed over no features are known.
        self._head = late_head(files[0]) if len(files) == 1 and not skip_empty else None
        engines = [self._engine(each, engine, device, precision, notify) for each in files]
        self.engine: Any = engines[0] if len(engines) == 1 else EnsembleEngine(engines)

    def _engine(
        self, file: ModelFile, engine: str, device: str, precision: str, notify: Callable[[str], object] | None
    ) -> Engine:
        from resvox.files import sha256_of
        from resvox.inference.engines import engine_of_file, make_engine
        from resvox.weights import load_model

        if file.format == "resvox":
            return make_engine(
                lambda: load_model(file.path),
                roi_size=self.roi_size,
                in_channels=self.channels,
                engine=engine,
                device=device,
                precision=precision,
                fingerprint=sha256_of(file.path),
                head=self._head,
                notify=notify,
            )
        return engine_of_file(
            file.path,
            file.format,
            roi_size=self.roi_size,
            in_channels=self.channels,
            engine=engine,
            device=device,
            precision=precision,
            notify=notify,
        )

    @property
    def engine_words(self) -> str:
        """The engine in use, such as ``openvino, bfloat16, cpu``."""
        return ", ".join(str(getattr(self.engine, name, "")) for name in ("name", "precision", "device"))

    @property
    def colours(self) -> dict[str, str]:
        """A colour for every label; the model's own, or the default palette."""
        from resvox.viewer import label_colours

        return {**label_colours(self.labels), **self.metadata.get("colours", {})}

    def segment(self, volume: Volume, *, probabilities: bool = False, progress: Progress | None = None) -> Segmentation:
        """The label map of a scan, (*spatial) with the model's label values, on exactly the scan's grid.

        Args:
            volume: (*spatial) or (channels, *spatial), of the model's number of dimensions and channels.
            probabilities: also return (classes, *spatial) float32.
            progress: called as ``progress(windows done, windows)``.

        Raises:
            InferenceError: another number of dimensions or channels than the model's.
        """
        seconds: dict[str, float] = {}
        with timed(seconds, "preprocess"):
            prepared = self.prepare(volume)
        made = self.segment_prepared(prepared, probabilities=probabilities, progress=progress)
        return Segmentation(
            label_map=made.label_map,
            probabilities=made.probabilities,
            seconds={**seconds, **made.seconds},
            windows=made.windows,
            skipped=made.skipped,
        )

    def prepare(self, volume: Volume) -> Prepared:
        """What the network sees of a scan.

        Raises:
            InferenceError: another number of dimensions or channels than the model's.
        """
        self._check(volume)
        return self.preprocessing.apply(volume)

    def segment_prepared(
        self, prepared: Prepared, *, probabilities: bool = False, progress: Progress | None = None
    ) -> Segmentation:
        """The rest of `segment`: network and the way back, slice by slice; never all logits at once."""
        from resvox.inference import Restorer, WindowCount, stream_sliding_window
        from resvox.machine import usable_threads

        count, start = WindowCount(), time.perf_counter()
        on_card = "cuda" in str(getattr(self.engine, "device", ""))
        slices = stream_sliding_window(
            prepared.array,
            self.engine,
            roi_size=self.roi_size,
            overlap=self.overlap,
            mirror_axes=self.mirror_axes,
            sw_batch_size=CUDA_BATCH if on_card else 1,
            ahead=on_card,
            skip_empty=EMPTY if self.asked.skip_empty else None,
            memory_gb=self.asked.memory_gb,
            threads=usable_threads(),
            progress=progress,
            count=count,
        )
        if self.asked.resample == "labels" and not probabilities:
            watch = _Watch()
            label_map: Volume = self._labels_first(prepared, watch.passed_on(slices))
            likely = None
            network = watch.seconds
        else:
            restorer = Restorer(
                prepared,
                values=self._values(),
                head=self._head,
                probabilities=probabilities,
                threads=usable_threads(),
            )
            label_map, likely = restorer.restore(slices)
            network = time.perf_counter() - start - restorer.seconds
        seconds = {"network": round(network, 4), "restore": round(time.perf_counter() - start - network, 4)}
        return Segmentation(
            label_map=label_map, probabilities=likely, seconds=seconds, windows=count.windows, skipped=count.empty
        )

    def _labels_first(self, prepared: Prepared, slices: Iterator[FinishedSlice]) -> Volume:
        """Labels on the network's grid, and those brought to the scan's."""
        import numpy as np

        from resvox.inference import labels_from_logits

        values = np.asarray(list(self._values().values()))
        labels = np.zeros(prepared.grid.shape, np.min_scalar_type(int(values.max())))
        for each in slices:
            logits = each.logits if self._head is None else self._head(each.logits)
            labels[each.index, each.start : each.start + logits.shape[1]] = values[labels_from_logits(logits)]
        return prepared.restore_labels(labels)

    def _values(self) -> dict[int, int]:
        """The label value of every class; of a single class, of its absence and its presence."""
        values = list(self.labels.values())
        return dict(enumerate(values if len(values) > 1 else [0, *values]))

    def _check(self, volume: Volume) -> None:
        dims = len(self.roi_size)
        if volume.spatial_dims != dims:
            raise InferenceError(
                f"{_article(volume.spatial_dims)} image",
                expected=f"{_article(dims)} image, which is what the model was trained on",
            )
        if volume.channels != self.channels:
            names = ", ".join(self.metadata["channel_names"])
            raise InferenceError(
                f"{volume.channels} channel{'s' if volume.channels != 1 else ''}",
                expected=f"{self.channels} ({names})",
                fix="give one file a channel: case_0000, case_0001, ..." if self.channels > 1 else "",
            )

    def _mirror_axes(self) -> tuple[int, ...]:
        axes = self.metadata["inference"].get("mirror_axes")
        if not axes:
            raise InferenceError(
                "mirroring, with a model that was trained without it",
                expected="a model whose training mirrored some axes",
                fix="leave --mirror out",
                path=self.path,
            )
        return tuple(int(axis) for axis in axes)


@dataclass
class _Watch:
    """Seconds that an iterator took to give its items."""

    seconds: float = field(default=0.0)

    def passed_on(self, items: Iterator[FinishedSlice]) -> Iterator[FinishedSlice]:
        while True:
            start = time.perf_counter()
            item = next(items, None)
            self.seconds += time.perf_counter() - start
            if item is None:
                return
            yield item


def _article(dims: int) -> str:
    return f"a {dims}D"


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Put the seconds of a stage into a dictionary."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] = round(time.perf_counter() - start, 4)
