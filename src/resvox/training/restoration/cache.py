"""The prepared scans of a restoration: memory-mapped by every process that trains."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resvox.datasets.scans import Scan, ScanDataset, read_scan
from resvox.training.prepared import entry_facts, entry_name, prepared_entry, sources_checksum, stamp
from resvox.training.restoration.plan import RestorationPlan

LAYOUT = 1  # raise it when the files in a folder change their meaning


@dataclass(frozen=True, kw_only=True)
class PreparedScan:
    """A prepared scan in a folder: `image.npy`, a read-only memory map."""

    id: str
    folder: Path
    source: int | None = None  # checksum of the scan's files

    @property
    def image(self) -> np.ndarray[Any, Any]:
        """(channels, *spatial) float32."""
        array: np.ndarray[Any, Any] = np.load(self.folder / "image.npy", mmap_mode="r")
        return array


def prepare_scans(
    cases: Sequence[Scan],
    dataset: ScanDataset,
    plan: RestorationPlan,
    folder: Path,
    *,
    check: bool = True,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[PreparedScan]:
    """The scans out of the cache, prepared first where they are missing or damaged.

    Args:
        check: False where this run has checked or written the entries before.
        progress: called with (done, in all, id).
    """
    prepared = []
    for done, case in enumerate(cases, start=1):
        settings = [LAYOUT, "restoration", plan.preprocessing().to_dict()]
        target = folder / entry_name(case.id, settings, [stamp(path) for path in case.images])
        if check:
            facts = prepared_entry(target, functools.partial(_write, case, dataset, plan), arrays=("image.npy",))
        else:
            facts = entry_facts(target)
        prepared.append(PreparedScan(id=case.id, folder=target, source=facts.get("source")))
        if progress is not None:
            progress(done, len(cases), case.id)
    return prepared


def _write(case: Scan, dataset: ScanDataset, plan: RestorationPlan, folder: Path) -> dict[str, Any]:
    prepared = plan.preprocessing().apply(read_scan(case, dataset))
    np.save(folder / "image.npy", np.ascontiguousarray(prepared.array, dtype=np.float32))
    return {"id": case.id, "source": sources_checksum(list(case.images))}
