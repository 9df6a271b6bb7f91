"""`--speed balanced` on scan after scan: windows, labels that differ from full, and what each scan expected of itself.

    python benchmarks/balanced_scans.py MODEL SCAN [SCAN ...] --variants 3

prints Markdown. The first scan is measured, as in a batch of `resvox predict`. A variant is a scan that is mirrored,
cropped, noisier or brighter. A window is computed once for both speeds, so that this takes as long as full alone.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from resvox.inference import FinishedSlice, LabelComparison, WindowCount, labels_from_logits, top_two_classes
from resvox.inference.streaming import stream_sliding_window
from resvox.prediction.segmenter import Segmenter
from resvox.prediction.speed.control import SpeedControl
from resvox.volumes import find_cases, read_case

Array = np.ndarray[Any, Any]
# of an array (channels, z, y, x)
VARIANTS: dict[str, Callable[[Array], Array]] = {
    "": lambda array: array,
    "mirrored along z": lambda array: array[:, ::-1],
    "cropped": lambda array: array[:, :, array.shape[2] // 8 : -(array.shape[2] // 6), array.shape[3] // 5 :],
    "with noise": lambda array: array + np.random.default_rng(0).normal(0, 0.3, array.shape).astype(np.float32),
    "1.3 times as bright": lambda array: array * np.float32(1.3),
    "mirrored along x": lambda array: array[..., ::-1],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("scans", type=Path, nargs="+")
    parser.add_argument("--variants", type=int, default=0, help="of each scan, at most 5")
    options = parser.parse_args()
    segmenter = Segmenter(options.model, precision="float32")
    control = SpeedControl(
        "balanced", labels_of=labels_from_logits, top_two=top_two_classes, name="benchmark", notify=None
    )
    control.verdict = None
    print("| scan | windows computed | labels that differ | least Dice | expected least Dice | goes back |")
    print("|---|---|---|---|---|---|")
    cases = find_cases(options.scans, channels=segmenter.channels)
    for case, (name, change) in itertools.product(cases, list(VARIANTS.items())[: 1 + options.variants]):
        array = np.ascontiguousarray(change(segmenter.prepare(read_case(case)).array))
        run, count = windows_once(segmenter, array), WindowCount()
        full = [labels_from_logits(each.logits) for each in run(count=WindowCount())]
        compared = LabelComparison()
        for each, reference in zip(control.slices(run, count), full, strict=True):
            compared.add(labels_from_logits(each.logits), reference)
        found, expected = compared.difference(), control.expected
        words = "measured" if expected is None else f"{expected.least_dice:.4f}"
        print(
            f"| {case.id} {name} | {count.computed} of {count.windows} | {100 * found.share:.4f} % "
            f"| {found.least_dice:.4f} | {words} | {'yes' if control.goes_back() else 'no'} |",
            flush=True,
        )
    assert control.verdict is not None
    print("\nOf the first scan: " + control.verdict.describe("balanced"))


def windows_once(segmenter: Segmenter, array: Array) -> Callable[..., Iterator[FinishedSlice]]:
    """Starts the windows of a scan; those that were computed before are not computed again."""
    known: dict[int, Array] = {}

    def predict(windows: Array) -> Array:
        key = hash(windows.tobytes())
        if key not in known:
            known[key] = np.array(segmenter.engine(windows))
        return known[key]

    def run(**options: Any) -> Iterator[FinishedSlice]:
        options.pop("sparse", None)
        windows = segmenter.card.inference
        return stream_sliding_window(
            array, predict, roi_size=windows.roi_size, overlap=windows.overlap, mode=windows.blend, **options
        )

    return run


if __name__ == "__main__":
    main()
