"""The prepared cases of a segmentation: memory-mapped by every process that trains."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resvox.datasets.labelled import read_labelled
from resvox.datasets.segmentation import Case, Dataset
from resvox.training.prepared import entry_facts, entry_name, prepared_entry, sources_checksum, stamp

if TYPE_CHECKING:
    from resvox.preprocessing import Preprocessing

LAYOUT = 1  # raise it when the files in a folder change their meaning
COORDINATES_PER_LABEL = 10_000


@dataclass(frozen=True, kw_only=True)
class PreparedCase:
    """One preprocessed case in a folder: `image.npy`, `label.npy`, `voxels.npy`, `facts.json`.

    Arrays are opened as read-only memory maps each time, so the object is cheap to hand to other processes.
    """

    id: str
    folder: Path
    shape: tuple[int, ...]
    voxels_of: dict[int, tuple[int, int]]
    source: int | None = None  # checksum of the case's files; None in entries of older versions

    @property
    def image(self) -> np.ndarray[Any, Any]:
        """(channels, *spatial) float32."""
        array: np.ndarray[Any, Any] = np.load(self.folder / "image.npy", mmap_mode="r")
        return array

    @property
    def label(self) -> np.ndarray[Any, Any]:
        """(*spatial) uint8 or uint16 class indices, the positions in ``Dataset.labels``."""
        array: np.ndarray[Any, Any] = np.load(self.folder / "label.npy", mmap_mode="r")
        return array

    def voxels(self, index: int) -> np.ndarray[Any, Any]:
        """Flat positions of at most 10,000 voxels of class ``index``, drawn when the case was prepared."""
        first, last = self.voxels_of[index]
        positions: np.ndarray[Any, Any] = np.load(self.folder / "voxels.npy", mmap_mode="r")[first:last]
        return positions


def prepare_case(
    case: Case, dataset: Dataset, preprocessing: Preprocessing, folder: Path, *, check: bool = True
) -> PreparedCase:
    """The case out of the cache, prepared first where it is missing or damaged, or its files have changed.

    Args:
        check: False where this run has checked or written the entry before: then its facts are read and nothing else.
    """
    target = folder / entry_name(case.id, *_determined_by(case, dataset, preprocessing))
    if check:
        facts = prepared_entry(
            target,
            lambda temporary: _write(case, dataset, preprocessing, temporary),
            arrays=("image.npy", "label.npy", "voxels.npy"),
            facts=("shape", "voxels_of"),
        )
    else:
        facts = entry_facts(target)
    return PreparedCase(
        id=case.id,
        folder=target,
        shape=tuple(facts["shape"]),
        voxels_of={int(index): (first, last) for index, (first, last) in facts["voxels_of"].items()},
        source=facts.get("source"),
    )


def prepare_cases(
    cases: Sequence[Case],
    dataset: Dataset,
    preprocessing: Preprocessing,
    folder: Path,
    *,
    check: bool = True,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[PreparedCase]:
    """`prepare_case` for each; ``progress`` is called with (done, in all, id)."""
    prepared = []
    for done, case in enumerate(cases, start=1):
        prepared.append(prepare_case(case, dataset, preprocessing, folder, check=check))
        if progress is not None:
            progress(done, len(cases), case.id)
    return prepared


def _determined_by(case: Case, dataset: Dataset, preprocessing: Preprocessing) -> tuple[Any, ...]:
    """The preprocessing, the label values, and the size and date of each of the case's files."""
    assert case.label is not None
    settings = [LAYOUT, preprocessing.to_dict(), list(dataset.labels.values()), dataset.channel_names]
    return settings, [stamp(path) for path in (*case.images, case.label)]


def _write(case: Case, dataset: Dataset, preprocessing: Preprocessing, folder: Path) -> dict[str, Any]:
    image, label_map = read_labelled(case, dataset)
    prepared = preprocessing.apply(image)
    values = np.asarray(list(dataset.labels.values()))
    on_grid = prepared.labels(label_map)
    label = np.searchsorted(values, on_grid).astype(np.uint8 if len(values) <= 256 else np.uint16)
    voxels, voxels_of = _coordinates(case.id, label, len(values))
    np.save(folder / "image.npy", np.ascontiguousarray(prepared.array, dtype=np.float32))
    np.save(folder / "label.npy", label)
    np.save(folder / "voxels.npy", voxels)
    assert case.label is not None
    source = sources_checksum([*case.images, case.label])
    return {"id": case.id, "shape": label.shape, "voxels_of": voxels_of, "source": source}


def _coordinates(
    name: str, label: np.ndarray[Any, Any], num_classes: int
) -> tuple[np.ndarray[Any, Any], dict[int, tuple[int, int]]]:
    """A sample of the voxels of each class, so that a patch around a rare label is found without a search."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    parts, voxels_of, first = [np.empty(0, np.int64)], {}, 0
    for index in range(1, num_classes):
        found = np.flatnonzero(label == index)
        if found.size > COORDINATES_PER_LABEL:
            rng = np.random.default_rng([seed, index])
            found = np.sort(rng.choice(found, size=COORDINATES_PER_LABEL, replace=False))
        if found.size:
            voxels_of[index] = (first, first + found.size)
            first += found.size
            parts.append(found)
    return np.concatenate(parts), voxels_of
