"""The runs of tasks of TotalSegmentator that are compared with its own program. Standard library alone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Run:
    """A task at one resolution, and the scans on which it is run."""

    name: str
    task: str
    run: str = "default"
    subset: tuple[str, ...] | None = None
    order: int = 1
    scans: tuple[str, ...]


SCANS = {
    "oblique": {"codes": "SAR", "shape": (15, 20, 24), "turn": 0.3, "dtype": "float32", "seed": 1},
    "wide": {"codes": "LPS", "shape": (24, 26, 22), "spacing_mm": (4.0, 3.5, 5.0), "dtype": "float32", "seed": 2},
    "at_spacing": {"codes": "RAS", "spacing_mm": (3.0, 3.0, 3.0), "dtype": "float32", "seed": 3},
}
RUNS = (
    Run(name="parts", task="total", scans=("oblique",)),
    Run(name="fast", task="total", run="fast", scans=("at_spacing",)),
    Run(name="fastest_cubic", task="total", run="fastest", order=3, scans=("wide",)),
    Run(name="subset", task="total", run="fast", subset=("small_bowel", "vertebrae_C7"), scans=("wide",)),
    Run(name="crop", task="liver_vessels", scans=("oblique", "wide")),
    Run(name="cleaned", task="body", run="fast", scans=("wide",)),
)
