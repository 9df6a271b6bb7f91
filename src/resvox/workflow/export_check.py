"""The comparison of an exported network with the original on windows of noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resvox.errors import InferenceError

if TYPE_CHECKING:
    import numpy as np

    from resvox.cards import ModelCard

LARGEST_DIFFERENCE = 1e-3  # of the largest logit
LARGEST_CHANGE = 1e-4  # share of labels: as much as two float32 programs may differ by their rounding
WINDOWS = 2


@dataclass(frozen=True, kw_only=True)
class ExportCheck:
    """Comparison of the exported network with the original on windows of noise.

    ``difference``: largest difference of an output, relative to the largest output. ``labels_changed``: fraction of
    labels that changed; None for values.
    """

    difference: float
    labels_changed: float | None

    def __str__(self) -> str:
        if self.labels_changed is None:
            return f"values differ by at most {self.difference:.1e} of the largest"
        percent = 100 * self.labels_changed
        return f"logits differ by at most {self.difference:.1e} of the largest, {percent:.3f} % of labels"


def check_export(network: Any, path: Path, kind: str, card: ModelCard) -> ExportCheck:
    """Compare an exported network with the original.

    Args:
        network: the original, in torch.
        path: the exported network, in the format ``kind``.
        card: of the model, for its window and how it makes labels.

    Raises:
        InferenceError: a network that does not run, or whose outputs differ.
    """
    import numpy as np

    from resvox.inference import TorchEngine
    from resvox.inference.engines import engine_of_file

    roi, channels, labels = card.input_size, card.network_channels, labels_of(card)

    trusted = TorchEngine(network, device="cpu", precision="float32")
    exported = engine_of_file(path, kind, roi_size=roi, in_channels=channels, device="cpu")
    rng = np.random.default_rng(0)
    differences, changes = [], []
    for _ in range(WINDOWS):
        window = rng.normal(size=(1, channels, *roi)).astype(np.float32)
        expected = trusted(window)
        try:
            found = exported(window)
        except Exception as error:  # every runtime has errors of its own
            raise InferenceError(
                f"a network that does not run ({str(error).splitlines()[0]})", expected="an answer", path=path
            ) from error
        differences.append(float(np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1e-6)))
        changes.append(float(np.mean(labels(found) != labels(expected))))
    check = ExportCheck(difference=max(differences), labels_changed=max(changes) if card.names_labels else None)
    if not check.difference <= LARGEST_DIFFERENCE or (check.labels_changed or 0.0) > LARGEST_CHANGE:
        answer = "value" if check.labels_changed is None else f"logit, {100 * check.labels_changed:.3f} % other labels"
        raise InferenceError(
            f"an exported network that answers otherwise: by {check.difference:.1e} of the largest {answer}",
            expected="the original's answer",
            fix="another --format",
            path=path,
        )
    return check


def labels_of(card: ModelCard) -> Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]:
    """How a prediction makes labels or classes of logits (batch, outputs, ...)."""
    from resvox.inference.engines.agreement import labels_of_logits, region_labels

    return labels_of_logits if card.class_order is None else region_labels(card.class_order)
