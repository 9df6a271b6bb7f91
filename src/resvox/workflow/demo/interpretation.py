"""What the demo's scores mean, and a yardstick to hold them against."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resvox.workflow.demo.data import DemoData

SEEN = (
    "Scored on the scan on which it was trained. This shows that the whole pipeline works: a scan and its label map "
    "are read, a network is trained, its prediction is on the scan's own grid, and the metrics are computed.",
    "It does not show that the network generalises: it was trained on this patient. For the lungs it does not even "
    "show that learning was needed, because a plain threshold finds air as well. For the spine the best threshold, "
    "{hu:.0f} HU, reaches a Dice of {dice:.2f}.",
)
UNSEEN = (
    "Scored on a scan that was not used in training: another patient, another scanner, 1.5 mm slices instead of 10 mm, "
    "and vertebrae annotated by other people with other rules (without discs).",
    "The threshold that fits the training scan best, {hu:.0f} HU, reaches a Dice of {dice:.2f} on this one; what the "
    "network has above that, it has learned.",
    "One training scan is not a training set. The score shows what a network learns from a single coarse scan, "
    "not what a model trained on a real collection reaches.",
)


def explain(data: DemoData) -> tuple[str, ...]:
    """What the scores mean, with the spine's score of a plain threshold to hold them against."""
    import numpy as np

    from resvox.volumes import read_volume

    (train_image,) = (data.dataset / "imagesTr").glob("*.nii.gz")
    value = data.labels["spine"]
    scans = [read_volume(path).array for path in (train_image, data.image)]
    train_label = data.dataset / "labelsTr" / train_image.name.replace("_0000", "")
    masks = [read_volume(path).array == value for path in (train_label, data.reference)]

    def dice(number: int, hu: float) -> float:
        found = scans[number] > hu
        return 2 * float(np.count_nonzero(found & masks[number])) / float(found.sum() + masks[number].sum())

    best = max(np.arange(0.0, 500.0, 25.0), key=lambda hu: dice(0, hu))
    return tuple(text.format(hu=best, dice=dice(1, best)) for text in (UNSEEN if data.unseen else SEEN))
