"""One model, ready to say which class a whole image belongs to."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resvox.errors import InferenceError, WeightsError
from resvox.workflow.segmenter import model_file

if TYPE_CHECKING:
    import numpy as np

    from resvox.volumes import Volume


class Classifier:
    """A model file with everything that is needed to use it: preprocessing, size, classes.

    Args:
        model: a ``model.safetensors``, or the folder of a training run that holds one.
        device: "auto", "cpu", "cuda", ...
        precision: "auto", "float32", "bfloat16" or "float16".

    Raises:
        WeightsError: no model there, a damaged one, or one that is no classifier.
    """

    def __init__(self, model: str | os.PathLike[str], *, device: str = "auto", precision: str = "auto") -> None:
        import resvox
        from resvox.inference import TorchEngine
        from resvox.preprocessing import Preprocessing
        from resvox.weights import read_header

        self.path: Path = model_file(model)
        self.metadata = _checked(read_header(self.path).metadata, self.path)
        self.engine = TorchEngine(resvox.load_model(self.path), device=device, precision=precision)
        self.preprocessing = Preprocessing.from_dict(self.metadata["preprocessing"])
        ordered = sorted(self.metadata["labels"].items(), key=lambda item: item[1])
        self.classes: tuple[str, ...] = tuple(name for name, _ in ordered)
        self.channels = len(self.metadata["channel_names"])
        told = self.metadata["inference"]
        self.image_size = tuple(int(n) for n in told["image_size"])
        self.fit, self.batch_size = str(told["fit"]), int(told.get("batch_size", 16))

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

        made: np.ndarray[Any, Any] = probabilities_from_logits(self.engine(np.stack(images)).T).T
        return made

    def classify(self, volume: Volume) -> dict[str, float]:
        """Probability of each class for one image, (*spatial) or (channels, *spatial).

        Raises:
            InferenceError: another number of dimensions or channels than the model's.
        """
        row = self.probabilities([self.prepare(volume)])[0]
        return {name: float(chance) for name, chance in zip(self.classes, row, strict=True)}


def _checked(metadata: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    wanted = ("preprocessing", "labels", "channel_names", "inference")
    missing = [name for name in wanted if name not in metadata]
    if missing or metadata.get("task") != "classification":
        raise WeightsError(
            f"a model file without {', '.join(missing)}" if missing else f"a model for {metadata.get('task')}",
            expected="a model made by resvox train --task classification",
            fix="use resvox.load_model for the bare network",
            path=path,
        )
    return metadata
