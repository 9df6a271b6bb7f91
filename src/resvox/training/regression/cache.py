"""The prepared cases of a dense regression: memory-mapped by every process that trains."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resvox.datasets.labelled import read_pair
from resvox.datasets.regression import RegressionCase, RegressionDataset
from resvox.training.prepared import (
    PREPARED_BY,
    digest_of,
    entry_facts,
    entry_name,
    prepared_entry,
    sources_checksum,
    stamp,
)
from resvox.training.regression.plan import RegressionPlan

LAYOUT = 1  # raise it when the files in a folder change their meaning


@dataclass(frozen=True, kw_only=True)
class PreparedPair:
    """A prepared scan and its values in a folder: `image.npy`, `target.npy`. Arrays are read-only memory maps."""

    id: str
    folder: Path
    source: int | None = None  # checksum of the case's files; None in entries of older versions

    @property
    def image(self) -> np.ndarray[Any, Any]:
        """(channels, *spatial) float32."""
        array: np.ndarray[Any, Any] = np.load(self.folder / "image.npy", mmap_mode="r")
        return array

    @property
    def target(self) -> np.ndarray[Any, Any]:
        """(outputs, *spatial) float32, in the units of the files."""
        array: np.ndarray[Any, Any] = np.load(self.folder / "target.npy", mmap_mode="r")
        return array


def prepare_pairs(
    cases: Sequence[RegressionCase],
    dataset: RegressionDataset,
    plan: RegressionPlan,
    folder: Path,
    *,
    check: bool = True,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[PreparedPair]:
    """The cases out of the cache, prepared first where they are missing or damaged.

    Args:
        check: False where this run has checked or written the entries before.
        progress: called with (done, in all, id).
    """
    prepared = []
    for done, case in enumerate(cases, start=1):
        target = folder / entry_name(case.id, *_determined_by(case, plan))
        if check:
            facts = prepared_entry(
                target, functools.partial(_write, case, dataset, plan), arrays=("image.npy", "target.npy")
            )
        else:
            facts = entry_facts(target)
        prepared.append(PreparedPair(id=case.id, folder=target, source=facts.get("source")))
        if progress is not None:
            progress(done, len(cases), case.id)
    return prepared


def _determined_by(case: RegressionCase, plan: RegressionPlan) -> tuple[Any, ...]:
    settings = [LAYOUT, "regression", plan.preprocessing().to_dict()]
    return settings, [stamp(path) for path in (*case.images, *case.targets)]


def _write(case: RegressionCase, dataset: RegressionDataset, plan: RegressionPlan, folder: Path) -> dict[str, Any]:
    image, values = read_pair(case, dataset)
    prepared = plan.preprocessing().apply(image)
    array = values.with_channel_axis()
    for step in prepared.steps:  # as its image: blurred first where it loses resolution
        array = step.forward(array, "image")
    np.save(folder / "image.npy", np.ascontiguousarray(prepared.array, dtype=np.float32))
    np.save(folder / "target.npy", np.ascontiguousarray(array, dtype=np.float32))
    return {
        "id": case.id,
        "source": sources_checksum([*case.images, *case.targets]),
        PREPARED_BY: digest_of(plan.preprocessing().to_dict()),
    }
