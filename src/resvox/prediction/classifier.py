"""One model, ready to say which class a whole image belongs to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from resvox.errors import InferenceError
from resvox.prediction.model_files import check_task, model_file, read_model_file

if TYPE_CHECKING:
    import numpy as np

    from resvox.volumes import Volume


class Classifier:
    """A model file with everything that is needed to use it: preprocessing, size, classes.

    Args:
        model: a ``model.safetensors``, the folder of a training run that holds one, or an exported network.
        device: "auto", "cpu", "cuda", ...
        precision: "auto", "float32", "bfloat16" or "float16".

    Raises:
        WeightsError: no model there, a damaged one, or one that is no classifier.
    """

    def __init__(self, model: str | os.PathLike[str], *, device: str = "auto", precision: str = "auto") -> None:
        from resvox.prediction.file_engine import engine_for
        from resvox.preprocessing import Preprocessing

        file = read_model_file(model_file(model))
        check_task(file, "classification")
        self.path, self.metadata = file.path, file.metadata
        self.preprocessing = Preprocessing.from_dict(self.metadata["preprocessing"])
        ordered = sorted(self.metadata["labels"].items(), key=lambda item: item[1])
        self.classes: tuple[str, ...] = tuple(name for name, _ in ordered)
        self.channels = len(self.metadata["channel_names"])
        told = self.metadata["inference"]
        self.image_size = tuple(int(n) for n in told["image_size"])
        # An exported network may hold a batch of one alone.
        self.batch_size = int(told.get("batch_size", 16)) if file.format == "resvox" else 1
        self.fit = str(told["fit"])
        self.engine = engine_for(file, roi_size=self.image_size, device=device, precision=precision)

    def prepare(self, volume: Volume) -> np.ndarray[Any, Any]:
        """What the network sees of an image: (channels, *image_size) float32.

        Raises:
            InferenceError: another number of dimensions or channels than the model's.
        """
        from resvox.preprocessing import prepare_whole

        dims = len(self.image_size)
        if volume.spatial_dims != dims or volume.channels != self.channels:
            raise InferenceError(
                f"{volume.spatial_dims} dimensions and {volume.channels} channels",
                expected=f"{dims} dimensions and {self.channels} channels, "
                f"which are {', '.join(self.metadata['channel_names'])}",
            )
        return prepare_whole(volume, self.preprocessing, self.image_size, self.fit)

    def probabilities(self, images: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        """(images, classes) float32 of prepared images."""
        import numpy as np

        from resvox.inference import probabilities_from_logits

        batches = range(0, len(images), self.batch_size)
        # A copy, for an engine may write its next answer into the same place.
        logits = [self.engine(np.stack(images[first : first + self.batch_size])).copy() for first in batches]
        made: np.ndarray[Any, Any] = probabilities_from_logits(np.concatenate(logits).T).T
        return made

    def classify(self, volume: Volume) -> dict[str, float]:
        """Probability of each class for one image, (*spatial) or (channels, *spatial).

        Raises:
            InferenceError: another number of dimensions or channels than the model's.
        """
        row = self.probabilities([self.prepare(volume)])[0]
        return {name: float(chance) for name, chance in zip(self.classes, row, strict=True)}
