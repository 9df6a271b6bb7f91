"""The options of `resvox predict` that only tasks of TotalSegmentator have."""

from __future__ import annotations

import os
from dataclasses import dataclass

from resvox.errors import InferenceError

RUNS = ("default", "fast", "fastest")
ORDERS = (1, 3)


@dataclass(frozen=True, kw_only=True)
class TotalChoices:
    """How a task of TotalSegmentator is run. Checked when made.

    Args:
        weights_folder: where the folders ``DatasetNNN_...`` are; None takes that of TotalSegmentator itself.
        run: "default", or the models of lower resolution "fast" (3 mm) or "fastest" (6 mm) where a task has them.
        roi_subset: the names of the labels that are wanted; only the models that give them are run, where they are.
            None takes all.
        robust_crop: find the region that is looked at with 3 mm instead of 6 mm.
        resampling_order: of the splines with which a scan is brought to the models' resolution: 1 as TotalSegmentator
            since 2.16, or 3 as before.

    Raises:
        InferenceError: a value that cannot be.
    """

    weights_folder: str | os.PathLike[str] | None = None
    run: str = "default"
    roi_subset: tuple[str, ...] | None = None
    robust_crop: bool = False
    resampling_order: int = 1

    def __post_init__(self) -> None:
        if self.run not in RUNS:
            raise InferenceError(f"run={self.run!r}", expected=" or ".join(map(repr, RUNS)))
        if self.resampling_order not in ORDERS:
            raise InferenceError(f"resampling_order={self.resampling_order!r}", expected=" or ".join(map(str, ORDERS)))
        if self.roi_subset is not None:
            object.__setattr__(self, "roi_subset", tuple(self.roi_subset))
            if not self.roi_subset:
                raise InferenceError("an empty roi_subset", expected="names of labels", fix="leave it out for all")

    def flags(self) -> list[str]:
        """The options of the command line that are not at their defaults."""
        flags = {
            "--weights-folder": self.weights_folder is not None,
            f"--{self.run}": self.run != "default",
            "--roi-subset": self.roi_subset is not None,
            "--robust-crop": self.robust_crop,
            "--resampling-order": self.resampling_order != 1,
        }
        return [name for name, given in flags.items() if given]


USUAL = TotalChoices()
