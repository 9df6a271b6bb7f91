"""One model, ready to turn scans into label maps on their own grids."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resvox.errors import InferenceError, WeightsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from resvox.volumes import Volume

Progress = Callable[[int, int], object]


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """A label map on the grid of its scan, probabilities if they were asked for, and seconds a stage."""

    label_map: Volume
    probabilities: Volume | None
    seconds: Mapping[str, float]


class Segmenter:
    """A model file with everything that is needed to use it: preprocessing, window, labels.

    Args:
        model: a ``model.safetensors``, or the folder of a training run that holds one.
        device: "auto", "cpu", "cuda", ...
        precision: "auto", "float32", "bfloat16" or "float16".
        mirror: average over mirrored copies (the axes that training mirrored), 2 to 8 times the work.
        overlap: of neighbouring windows; None takes the model's own.

    Raises:
        WeightsError: no model there, a damaged one, or one without preprocessing and labels.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        device: str = "auto",
        precision: str = "auto",
        mirror: bool = False,
        overlap: float | None = None,
    ) -> None:
        import resvox
        from resvox.inference import TorchEngine
        from resvox.preprocessing import Preprocessing
        from resvox.weights import read_header

        self.path = model_file(model)
        self.metadata = _checked_metadata(read_header(self.path).metadata, self.path)
        network = resvox.load_model(self.path)
        self.engine = TorchEngine(network, device=device, precision=precision)
        self.preprocessing = Preprocessing.from_dict(self.metadata["preprocessing"])
        self.labels: dict[str, int] = dict(sorted(self.metadata["labels"].items(), key=lambda item: item[1]))
        self.channels = len(self.metadata["channel_names"])
        self.roi_size = tuple(int(n) for n in self.metadata["inference"]["roi_size"])
        self.overlap = float(self.metadata["inference"].get("overlap", 0.5) if overlap is None else overlap)
        self.mirror_axes = self._mirror_axes() if mirror else ()

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
        from resvox.inference import probabilities_from_logits, sliding_window_inference

        self._check(volume)
        seconds: dict[str, float] = {}
        with _timed(seconds, "preprocess"):
            prepared = self.preprocessing.apply(volume)
        with _timed(seconds, "network"):
            logits = sliding_window_inference(
                prepared.array,
                self.engine,
                roi_size=self.roi_size,
                overlap=self.overlap,
                mirror_axes=self.mirror_axes,
                progress=progress,
            )
        with _timed(seconds, "restore"):
            scores = prepared.restore_scores(probabilities_from_logits(logits)) if probabilities else None
            label_map = prepared.restore_labels(self._label_values(logits))
        return Segmentation(label_map=label_map, probabilities=scores, seconds=seconds)

    def _label_values(self, logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        import numpy as np

        from resvox.inference import labels_from_logits

        indices = labels_from_logits(logits)
        values = list(self.labels.values())
        if values == list(range(len(values))):
            return indices
        return np.asarray(values, dtype=np.min_scalar_type(max(values)))[indices]

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


def model_file(model: str | os.PathLike[str]) -> Path:
    """The model file that a path means: itself, or ``model.safetensors`` in the folder of a run."""
    path = Path(model)
    if not path.is_dir():
        if not path.exists():
            raise WeightsError(
                "no such model", expected="a model.safetensors or the folder of a training run", path=path
            )
        return path
    inside = path / "model.safetensors"
    if not inside.is_file():
        raise WeightsError(
            "no model.safetensors in this folder",
            expected="the folder of a finished training run",
            fix="finish the training with resvox train ... --resume, or name the model file",
            path=path,
        )
    return inside


def _checked_metadata(metadata: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    missing = [name for name in ("preprocessing", "labels", "channel_names", "inference") if name not in metadata]
    if missing:
        raise WeightsError(
            f"a model file without {', '.join(missing)}",
            expected="a model made by resvox train, which knows how its scans were prepared",
            fix="use resvox.load_model for the bare network",
            path=path,
        )
    return metadata


def _article(dims: int) -> str:
    return f"a {dims}D"


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] = round(time.perf_counter() - start, 4)
