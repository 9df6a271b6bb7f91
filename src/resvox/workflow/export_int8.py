"""The int8 form of an exported network: quantized on windows of scans, and compared with the original on others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resvox.errors import InferenceError
from resvox.inference import Allowance
from resvox.inference.comparison import Difference, LabelComparison
from resvox.inference.engines.agreement import LEAST_VOXELS
from resvox.prediction.options import Paths, as_paths
from resvox.workflow.export_check import labels_of

if TYPE_CHECKING:
    from resvox.cards import ModelCard
    from resvox.prediction.model_files import ModelFile
    from resvox.prediction.quantized.windows import WindowSets

Array = np.ndarray[Any, Any]
Progress = Callable[[str, int, int], object]  # what is done, how much of it is, and how much there is
LABELS = Allowance(share=0.01, least_dice=0.97)  # as much as `--speed fast` may change
VOXELS = LEAST_VOXELS  # of a label in float32, from which on its Dice counts: of a few voxels it is chance
VALUES = 0.05  # root mean square, in standard deviations of the training values


@dataclass(frozen=True, kw_only=True)
class Int8Check:
    """Comparison of a network in int8 with the original in float32 on windows of scans.

    Args:
        labels_changed: fraction of the voxels (of images, of a classifier) with another label; None for values.
        least_dice: the smallest Dice, between the two, of the labels of which float32 finds at least 1000 voxels; 1
            where it finds no such label; None for values.
        rms: root mean square difference of values, in standard deviations of the training values; None for labels.
        windows: how many were compared.
        compared_on: which ones.
        calibration_windows, calibration_scans: what activations were measured on.
    """

    labels_changed: float | None
    least_dice: float | None
    rms: float | None
    windows: int
    compared_on: str
    calibration_windows: int
    calibration_scans: int

    @property
    def difference(self) -> str:
        """The difference in words."""
        if self.labels_changed is None or self.least_dice is None:
            return f"values differ by {100 * (self.rms or 0.0):.2f} % of their standard deviation (root mean square)"
        return f"{100 * self.labels_changed:.3f} % of labels differ from float32, least Dice {self.least_dice:.4f}"

    @property
    def is_allowed(self) -> bool:
        """Whether a network that differs so much is written."""
        if self.labels_changed is None or self.least_dice is None:
            return self.rms is not None and self.rms <= VALUES
        return LABELS.allows(Difference(share=self.labels_changed, least_dice=self.least_dice))

    def __str__(self) -> str:
        return f"{self.difference} ({self.windows} windows of {self.compared_on})"


def quantize_checked(
    file: ModelFile,
    original: Path,
    target: Path,
    *,
    calibrate: Paths,
    notify: Callable[[str], object],
    progress: Progress,
) -> Int8Check:
    """Write a quantized network, and compare it with the original.

    Args:
        file: the model.
        original: its network in float32, as an ``.xml`` of OpenVINO.
        target: the ``.xml`` to write.
        calibrate: scans; if empty, those that the training run of the model has kept.
        notify: called with a line of text about a scan that cannot be used.

    Raises:
        InferenceError: NNCF is not installed, no scan can be used, or labels or values differ by more than the limit.
    """
    from resvox.inference.engines.openvino_engine import from_file, save
    from resvox.inference.engines.quantization.nncf_quantization import quantized

    sets = _window_sets(file, calibrate, notify, progress)
    network = quantized(
        from_file(original), sets.calibration, progress=lambda done, total: progress("calibrating", done, total)
    )
    save(network, target)
    check = _compare(file, target, sets, progress)
    if not check.is_allowed:
        limit = f"at most {100 * LABELS.share:g} % of labels, with a Dice of at least {LABELS.least_dice:g} for each"
        raise InferenceError(
            f"int8 changes too much: {check}",
            expected=limit if check.rms is None else f"at most {100 * VALUES:g} %",
            fix="more scans, or scans that are more like those of the training, for --calibrate; "
            "otherwise --precision float32",
            path=file.path,
        )
    return check


def _window_sets(file: ModelFile, calibrate: Paths, notify: Callable[[str], object], progress: Progress) -> WindowSets:
    from resvox.prediction.quantized.scans import KeptScans, ScanFiles, Scans
    from resvox.prediction.quantized.windows import cut

    is_given = bool(as_paths(calibrate))
    scans: Scans = ScanFiles(file=file, inputs=calibrate, notify=notify) if is_given else KeptScans(file=file)

    def counted() -> Iterator[Array]:
        for done, scan in enumerate(scans, start=1):
            progress("preparing scans", done, scans.total)
            yield scan

    return cut(counted(), file.card, total=scans.total)


def _compare(file: ModelFile, path: Path, sets: WindowSets, progress: Progress) -> Int8Check:
    """Run both networks on the windows for the comparison.

    Raises:
        InferenceError: windows in which the original finds nothing but background, which show no difference.
    """
    from resvox.inference import TorchEngine
    from resvox.inference.engines import engine_of_file
    from resvox.weights import load_model

    card = file.card
    trusted = TorchEngine(load_model(file.path), device="cpu", precision="float32")
    engine = engine_of_file(
        path, "openvino", roi_size=card.input_size, in_channels=card.network_channels, device="cpu", precision="int8"
    )
    labels, values = _Labels(card), _Values()
    for done, window in enumerate(sets.check, start=1):
        (labels if card.names_labels else values).add(engine(window), trusted(window))
        progress("comparing", done, len(sets.check))
    if card.names_labels and card.windows is not None and not labels.has_foreground:
        raise InferenceError(
            f"no label in the {len(sets.check)} windows of {_compared_on(sets)} that were compared",
            expected="scans in which the model finds something",
            fix="other or more scans for --calibrate",
            path=file.path,
        )
    return Int8Check(
        labels_changed=labels.share if card.names_labels else None,
        least_dice=labels.least_dice if card.names_labels else None,
        rms=None if card.names_labels else values.rms,
        windows=len(sets.check),
        compared_on=_compared_on(sets),
        calibration_windows=len(sets.calibration),
        calibration_scans=sets.scans,
    )


class _Labels:
    """Counts of labels in int8 and in float32."""

    def __init__(self, card: ModelCard) -> None:
        self._labels_of = labels_of(card)
        self._counts = LabelComparison()
        self.has_foreground = False

    def add(self, found: Array, expected: Array) -> None:
        wanted = self._labels_of(expected).astype(np.intp)
        self.has_foreground |= bool(wanted.any())
        self._counts.add(self._labels_of(found).astype(np.intp), wanted)

    @property
    def share(self) -> float:
        return self._counts.difference().share

    @property
    def least_dice(self) -> float:
        counts = self._counts
        size = max(map(len, (counts.own, counts.reference, counts.both)))
        own, wanted, both = (
            np.pad(each, (0, size - len(each))) for each in (counts.own, counts.reference, counts.both)
        )
        large = np.flatnonzero(wanted[1:] >= VOXELS) + 1
        return float((2 * both[large] / (own + wanted)[large]).min(initial=1.0))


class _Values:
    """The mean square of what values differ by."""

    def __init__(self) -> None:
        self._squares: list[float] = []

    def add(self, found: Array, expected: Array) -> None:
        self._squares.append(float(np.mean(np.square(found - expected, dtype=np.float64))))

    @property
    def rms(self) -> float:
        return float(np.sqrt(np.mean(self._squares)))


def _compared_on(sets: WindowSets) -> str:
    if sets.check_scans:
        return f"{sets.check_scans} other scan{'s' if sets.check_scans > 1 else ''}"
    return "the same scan, not used for calibration" if sets.others else "the calibration: the scan has no others"
