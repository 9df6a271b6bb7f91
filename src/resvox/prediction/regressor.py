"""One model, ready to turn scans into volumes of values on their own grids."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resvox.errors import InferenceError
from resvox.prediction.model_files import check_task, model_file, read_model_file

if TYPE_CHECKING:
    from resvox.volumes import Volume


@dataclass(frozen=True, kw_only=True)
class Values:
    """(*spatial), or (values, *spatial) where there are several, float32 on the scan's grid; and seconds a stage."""

    volume: Volume
    seconds: Mapping[str, float]


class Regressor:
    """A model file with everything that is needed to use it: preprocessing, window, units of the values.

    Args:
        model: a ``model.safetensors``, the folder of a training run that holds one, or an exported network.
        device: "auto", "cpu", "cuda", ...
        precision: "auto", "float32", "bfloat16" or "float16".
        mirror: average over mirrored copies (the axes that training mirrored), 2 to 8 times the work.
        overlap: of neighbouring windows; None takes the model's own.

    Raises:
        WeightsError: no model there, a damaged one, or one that is no regressor.
        InferenceError: mirroring with a model that was trained without.
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
        from resvox.prediction.file_engine import engine_for
        from resvox.preprocessing import Preprocessing

        file = read_model_file(model_file(model))
        check_task(file, "regression")
        self.path, self.metadata = file.path, file.metadata
        told = self.metadata["inference"]
        if mirror and not told["mirror_axes"]:
            raise InferenceError(
                "mirroring, with a model that was trained without it",
                expected="a model whose training mirrored some axes",
                fix="leave --mirror out",
                path=self.path,
            )
        self.preprocessing = Preprocessing.from_dict(self.metadata["preprocessing"])
        self.channels = len(self.metadata["channel_names"])
        self.roi_size = tuple(int(n) for n in told["roi_size"])
        self.engine = engine_for(file, roi_size=self.roi_size, device=device, precision=precision)
        self.overlap = float(told["overlap"] if overlap is None else overlap)
        self.mirror_axes = tuple(told["mirror_axes"]) if mirror else ()

    def predict(self, volume: Volume, *, progress: Callable[[int, int], object] | None = None) -> Values:
        """The values of a scan, (*spatial) or (channels, *spatial), on exactly the scan's grid.

        Raises:
            InferenceError: another number of dimensions or channels than the model's.
        """
        import numpy as np

        from resvox.inference import sliding_window_inference

        if volume.spatial_dims != len(self.roi_size) or volume.channels != self.channels:
            raise InferenceError(
                f"{volume.spatial_dims} dimensions and {volume.channels} channels",
                expected=f"{len(self.roi_size)} dimensions and {self.channels} channels "
                f"({', '.join(self.metadata['channel_names'])})",
            )
        moments = [time.perf_counter()]
        prepared = self.preprocessing.apply(volume)
        moments.append(time.perf_counter())
        values = sliding_window_inference(
            prepared.array,
            self.engine,
            roi_size=self.roi_size,
            overlap=self.overlap,
            mirror_axes=self.mirror_axes,
            progress=progress,
        )
        column = (-1, *[1] * volume.spatial_dims)
        values *= np.asarray(self.metadata["target_std"], np.float32).reshape(column)
        values += np.asarray(self.metadata["target_mean"], np.float32).reshape(column)
        moments.append(time.perf_counter())
        restored = prepared.restore_scores(values)
        if len(restored.array) == 1:
            restored = restored.with_array(restored.array[0])
        moments.append(time.perf_counter())
        spent = zip(("preprocess", "network", "restore"), moments, moments[1:], strict=False)
        return Values(volume=restored, seconds={stage: end - start for stage, start, end in spent})
