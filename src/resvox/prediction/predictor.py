"""What a task brings to the batch loop: a predictor finds inputs, reads, prepares, computes and writes.

And what predictors share: the check of a scan, and windows for the tasks that predict voxel by voxel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from resvox.errors import InferenceError

if TYPE_CHECKING:
    from resvox.cards import ModelCard, Windows
    from resvox.inference import Engine, FinishedSlice, TwoPasses, WindowCount
    from resvox.locks import Claims
    from resvox.prediction.cases import Case, Found
    from resvox.prediction.log import RunLog
    from resvox.prediction.options import PredictOptions
    from resvox.prediction.results import Results
    from resvox.preprocessing import Prepared
    from resvox.volumes import Volume

EMPTY = 0.02  # of a scan's range of values above its lowest: air with its noise, for --skip-empty
SPARSE_OVERLAP = 0.25  # of windows at equal distances, for --speed fast
CUDA_BATCH = 4  # windows in one pass on a GPU, which a single window does not keep busy
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
    # networks for 2-D images that see a volume slice by slice
    sliced = card.preprocessing.get("kind") == "nnunet" or card.preprocessing.get("slice_axis") is not None
    by_slice = sliced and card.spatial_dims == 2
    if volume.spatial_dims != card.spatial_dims and not by_slice:
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


def stream(
    prepared: Prepared,
    engine: Engine,
    windows: Windows,
    options: PredictOptions,
    *,
    count: WindowCount,
    progress: Progress | None,
    batches: bool = True,
    independent: bool = False,
    passes: TwoPasses | None = None,
    sparse: bool = False,
) -> Iterator[FinishedSlice]:
    """Blended outputs slice by slice; never those of the whole scan at once. ``count`` is filled.

    Args:
        batches: the network takes several windows in one pass, see `resvox.prediction.model_engine.takes_batches`.
        independent: outputs are decided one by one, so that a voxel that is passed over as empty has none of them.
        passes: compute windows in two passes.
        sparse: compute only as many windows as overlap by a quarter at least.
    """
    from resvox.inference import stream_sliding_window
    from resvox.machine import usable_threads

    on_gpu = "cuda" in str(engine.device)
    roi_size, mirror_axes = windows.roi_size, mirror_axes_of(windows, options)
    predict: Callable[[np.ndarray], np.ndarray] = engine
    if len(roi_size) < prepared.grid.spatial_dims:
        roi_size, mirror_axes, predict = by_slices(roi_size, mirror_axes, engine)
    return stream_sliding_window(
        prepared.array,
        predict,
        **window_arguments(windows, options, sparse=sparse),
        roi_size=roi_size,
        mirror_axes=mirror_axes,
        sw_batch_size=CUDA_BATCH if on_gpu and batches else 1,
        ahead=on_gpu,
        constant_once=True,
        passes=passes,
        memory_gb=options.memory_gb,
        threads=usable_threads(),
        independent=independent,
        progress=progress,
        count=count,
    )


def window_arguments(windows: Windows, options: PredictOptions, *, sparse: bool = False) -> dict[str, Any]:
    """How windows are placed, weighted and padded, and whether empty ones are skipped, as keyword arguments."""
    overlap = overlap_of(windows, options)
    return {
        "overlap": min(SPARSE_OVERLAP, overlap) if sparse else overlap,
        "mode": windows.blend if windows.style == "monai" else "half-gaussian",
        "sigma_scale": windows.sigma_scale,
        "padding_mode": windows.padding,
        "cval": windows.padding_value,
        "placement": "stepped" if windows.style == "monai" and not sparse else "even",
        "skip_empty": EMPTY if options.skip_empty else None,
    }


def by_slices(
    roi_size: tuple[int, ...], mirror_axes: tuple[int, ...], engine: Engine
) -> tuple[tuple[int, ...], tuple[int, ...], Callable[[np.ndarray], np.ndarray]]:
    """Window, mirrored axes and predictor with which a network of 2-D images sees a volume slice by slice."""

    def predict(windows: np.ndarray) -> np.ndarray:
        return engine(windows[:, :, 0])[:, :, np.newaxis]

    return (1, *roi_size), tuple(axis + 1 for axis in mirror_axes), predict


def mirror_axes_of(windows: Windows, options: PredictOptions) -> tuple[int, ...]:
    """The axes that are mirrored: those of the model, where the call or the model's default is to mirror."""
    mirror = windows.mirror if options.mirror is None else options.mirror
    return windows.mirror_axes if mirror else ()


def overlap_of(windows: Windows, options: PredictOptions) -> float:
    """The overlap that was asked for, or the model's own."""
    return windows.overlap if options.overlap is None else options.overlap


def check_mirroring(windows: Windows, options: PredictOptions, path: Path) -> None:
    """Refuse to mirror with a model that was trained without.

    Raises:
        InferenceError: naming the model.
    """
    if options.mirror and not windows.mirror_axes:
        raise InferenceError(
            "mirroring, with a model that was trained without it",
            expected="a model whose training mirrored some axes",
            fix="leave --mirror out",
            path=path,
        )
