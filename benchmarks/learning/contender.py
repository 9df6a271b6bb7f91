"""What the trainings of all frameworks share: their command line, the budget of time, and the files that they leave."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

PREDICTIONS = "full"  # folder of the predictions
HALF = "half"  # and of those with the weights at half the time, in a training that went on


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One training: where the data are, how long, on what, and where the results go.

    ``cores`` are numbers of processors; empty: all that there are. ``spacing_mm`` None: that of the scans.
    """

    data: Path
    out: Path
    seconds: float
    device: str
    seed: int
    spacing_mm: float | None
    cores: tuple[int, ...]

    @property
    def threads(self) -> int:
        """The processors that may be used."""
        return len(self.cores) or len(os.sched_getaffinity(0))


def read_settings(arguments: Sequence[str] | None = None) -> Settings:
    """From the command line; also limits the process, and all that it starts, to the cores."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--spacing", type=float, default=None)
    parser.add_argument("--cores", default="")
    given = parser.parse_args(arguments)
    cores = tuple(int(each) for each in given.cores.split(",") if each)
    if cores:
        os.sched_setaffinity(0, cores)
    return Settings(
        data=given.data, out=given.out, seconds=given.seconds, device=given.device, seed=given.seed,
        spacing_mm=given.spacing, cores=cores,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a dataset's file holds: the number of channels, the values of each region, and the value written for it."""

    channels: int
    regions: dict[str, tuple[int, ...]]
    order: tuple[int, ...]
    is_ct: bool

    @classmethod
    def read(cls, data: Path) -> Description:
        """The description of the dataset in the folder of a fold."""
        found = json.loads((next(data.glob("Dataset*")) / "dataset.json").read_text())
        regions = {name: tuple(values) for name, values in found["labels"].items() if name != "background"}
        names = list(found["channel_names"].values())
        return cls(
            channels=len(names), regions=regions, order=tuple(found["regions_class_order"]), is_ct="CT" in names
        )  # fmt: skip


class Budget:
    """The time that a training may take, from its first step on."""

    def __init__(self, seconds: float) -> None:
        self.limit = seconds
        self._began = time.monotonic()
        self._half_is_due = True

    def start(self) -> None:
        """The first step begins now."""
        self._began = time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds since the first step."""
        return time.monotonic() - self._began

    @property
    def share(self) -> float:
        """How much of it is spent, from 0 to 1."""
        return min(1.0, self.spent / self.limit)

    def passes_half(self) -> bool:
        """True once: at the first call after half of the time."""
        passes = self._half_is_due and self.share >= 0.5
        self._half_is_due = self._half_is_due and not passes
        return passes


def save_prediction(out: Path, part: str, case: str, labels: np.ndarray[Any, Any]) -> None:
    """A label map (z, y, x) on the grid of its scan."""
    folder = out / part
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / f"{case}.npz", label=labels.astype(np.uint8))


def save_facts(out: Path, settings: Settings, **facts: Any) -> None:
    """Steps, seconds and versions of a training that is done; written last."""
    named = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(settings).items()}
    (out / "facts.json").write_text(json.dumps({**named, "machine": machine(settings), **facts}, indent=1))


def machine(settings: Settings) -> str:
    """The processor or card, and the versions, in words."""
    import torch

    card = torch.cuda.get_device_name() + ", " if settings.device == "cuda" else ""
    return (
        f"{card}{settings.threads} threads, torch {torch.__version__}, MONAI {importlib.metadata.version('monai')}, "
        f"Python {platform.python_version()}"
    )
