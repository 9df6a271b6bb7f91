"""Prepared cases on disk: preprocessed once, memory-mapped by every process that trains."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resvox.datasets.labelled import read_labelled
from resvox.datasets.segmentation import Case, Dataset

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

    @property
    def image(self) -> np.ndarray[Any, Any]:
        """(channels, *spatial) float32."""
        return np.load(self.folder / "image.npy", mmap_mode="r")

    @property
    def label(self) -> np.ndarray[Any, Any]:
        """(*spatial) uint8 or uint16 class indices, the positions in ``Dataset.labels``."""
        return np.load(self.folder / "label.npy", mmap_mode="r")

    def voxels(self, index: int) -> np.ndarray[Any, Any]:
        """Flat positions of at most 10,000 voxels of class ``index``, drawn when the case was prepared."""
        first, last = self.voxels_of[index]
        return np.load(self.folder / "voxels.npy", mmap_mode="r")[first:last]


def prepare_case(case: Case, dataset: Dataset, preprocessing: Preprocessing, folder: Path) -> PreparedCase:
    """The case out of the cache, prepared first where it is not there or its files have changed."""
    name = re.sub(r"[^\w.-]", "_", case.id)  # ids come from manifests and may hold anything
    target = folder / f"{name}-{cache_key(case, dataset, preprocessing)}"
    if not (target / "facts.json").is_file():
        _write(case, dataset, preprocessing, target)
    facts = json.loads((target / "facts.json").read_text(encoding="utf-8"))
    return PreparedCase(
        id=case.id,
        folder=target,
        shape=tuple(facts["shape"]),
        voxels_of={int(index): (first, last) for index, (first, last) in facts["voxels_of"].items()},
    )


def prepare_cases(
    cases: Sequence[Case],
    dataset: Dataset,
    preprocessing: Preprocessing,
    folder: Path,
    *,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[PreparedCase]:
    """`prepare_case` for each; ``progress`` is called with (done, in all, id)."""
    prepared = []
    for done, case in enumerate(cases, start=1):
        prepared.append(prepare_case(case, dataset, preprocessing, folder))
        if progress is not None:
            progress(done, len(cases), case.id)
    return prepared


def cache_key(case: Case, dataset: Dataset, preprocessing: Preprocessing) -> str:
    """Changes with the preprocessing, the label values, and the size or date of any of the case's files."""
    assert case.label is not None
    said = [LAYOUT, preprocessing.to_dict(), list(dataset.labels.values()), dataset.channel_names]
    stamps = [stamp(path) for path in (*case.images, case.label)]
    text = json.dumps([said, stamps], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def stamp(path: Path) -> list[Any]:
    """What changes when a file, or one in a folder of DICOM slices, does."""
    files: Iterable[Path] = sorted(path.iterdir()) if path.is_dir() else [path]  # a folder is a DICOM series
    return [[str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def _write(case: Case, dataset: Dataset, preprocessing: Preprocessing, target: Path) -> None:
    image, label_map = read_labelled(case, dataset)
    prepared = preprocessing.apply(image)
    values = np.asarray(list(dataset.labels.values()))
    on_grid = prepared.labels(label_map)
    label = np.searchsorted(values, on_grid).astype(np.uint8 if len(values) <= 256 else np.uint16)
    voxels, voxels_of = _coordinates(case.id, label, len(values))
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        np.save(temporary / "image.npy", np.ascontiguousarray(prepared.array, dtype=np.float32))
        np.save(temporary / "label.npy", label)
        np.save(temporary / "voxels.npy", voxels)
        facts = {"id": case.id, "shape": label.shape, "voxels_of": voxels_of}
        (temporary / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
        put_in_place(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def put_in_place(temporary: Path, target: Path) -> None:
    """Move a finished folder to its name, unless another process was faster."""
    try:
        os.rename(temporary, target)
    except OSError:
        # Another process was faster; its folder holds the same, so ours can go. Anything else is an error.
        if not (target / "facts.json").is_file():
            raise


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
