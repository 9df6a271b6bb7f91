"""The prepared cases of a segmentation: memory-mapped by every process that trains."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resvox.datasets.dicom_labels import is_dicom_labels
from resvox.datasets.labelled import read_labelled
from resvox.datasets.segmentation import Case, Dataset
from resvox.training.prepared import (
    PREPARED_BY,
    digest_of,
    entry_facts,
    entry_name,
    prepared_entry,
    sources_checksum,
    stamp,
)
from resvox.volumes.dicom.marks import is_dicom

if TYPE_CHECKING:
    from resvox.preprocessing import NnunetPreprocessing, Preprocessing

LAYOUT = 1  # raise it when the files in a folder change their meaning
COORDINATES_PER_LABEL = 10_000
INSIDE = "inside.npy"  # the mask of `resvox.preprocessing.Crop`, on the prepared grid


@dataclass(frozen=True, kw_only=True)
class PreparedCase:
    """One preprocessed case in a folder: `image.npy`, `label.npy`, `voxels.npy`, `facts.json`, perhaps `inside.npy`.

    ``known`` is, for each target (the labels without the background, or the regions), whether the case was annotated
    with it; None for all. ``voxels_of`` has targets from 1 on, and 0 for the annotated voxels of a case of which
    others are ignored. Arrays are opened as read-only memory maps each time, so the object is cheap to hand to other
    processes.
    """

    id: str
    folder: Path
    shape: tuple[int, ...]
    voxels_of: dict[int, tuple[int, int]]
    source: int | None = None  # checksum of the case's files; None in entries of older versions
    known: tuple[bool, ...] | None = None

    @property
    def targets(self) -> list[int]:
        """The targets that the case has voxels of, counted from 1."""
        return sorted(index for index in self.voxels_of if index > 0)

    @property
    def image(self) -> np.ndarray[Any, Any]:
        """(channels, *spatial) float32."""
        array: np.ndarray[Any, Any] = np.load(self.folder / "image.npy", mmap_mode="r")
        return array

    @property
    def label(self) -> np.ndarray[Any, Any]:
        """(*spatial) uint8 or uint16 class indices, the positions in ``Dataset.labels``; ignored voxels come after."""
        array: np.ndarray[Any, Any] = np.load(self.folder / "label.npy", mmap_mode="r")
        return array

    @property
    def outside(self) -> np.ndarray[Any, Any] | None:
        """(*spatial) bool: where a prediction is background whatever the network's output (``crop: nonzero_mask``)."""
        path = self.folder / INSIDE
        return ~np.load(path) if path.exists() else None

    def voxels(self, index: int) -> np.ndarray[Any, Any]:
        """Flat positions of at most 10,000 voxels of target ``index``, drawn when the case was prepared."""
        first, last = self.voxels_of[index]
        positions: np.ndarray[Any, Any] = np.load(self.folder / "voxels.npy", mmap_mode="r")[first:last]
        return positions


def prepare_case(
    case: Case,
    dataset: Dataset,
    preprocessing: Preprocessing | NnunetPreprocessing,
    folder: Path,
    *,
    check: bool = True,
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
        known=None if case.labelled is None else tuple(name in case.labelled for name in dataset.targets),
    )


def prepare_cases(
    cases: Sequence[Case],
    dataset: Dataset,
    preprocessing: Preprocessing | NnunetPreprocessing,
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


def _determined_by(case: Case, dataset: Dataset, preprocessing: Preprocessing | NnunetPreprocessing) -> tuple[Any, ...]:
    """The preprocessing, the label values, and the size and date of each of the case's files.

    The names of the labels are among them where the label is a DICOM object, whose structures have values by their
    names; label maps of other formats hold the values, so that a label may be renamed.
    """
    assert case.label is not None
    settings = [LAYOUT, preprocessing.to_dict(), list(dataset.labels.values()), dataset.channel_names]
    if dataset.regions is not None or dataset.ignore is not None or case.labelled is not None:
        regions = None if dataset.regions is None else dataset.regions.to_dict()
        settings.append({"regions": regions, "ignore": dataset.ignore, "labelled": dataset.labelled_with(case)})
    if case.label.is_file() and is_dicom(case.label) and is_dicom_labels(case.label):  # the first needs no pydicom
        settings.append({"names": list(dataset.labels)})
    return settings, [stamp(path) for path in (*case.images, case.label)]


def _write(
    case: Case, dataset: Dataset, preprocessing: Preprocessing | NnunetPreprocessing, folder: Path
) -> dict[str, Any]:
    image, label_map = read_labelled(case, dataset)
    prepared = preprocessing.apply(image)
    label = _class_indices(dataset, prepared.labels(label_map))
    voxels, voxels_of = _coordinates(case.id, _places(case, dataset, label))
    np.save(folder / "image.npy", np.ascontiguousarray(prepared.array, dtype=np.float32))
    np.save(folder / "label.npy", label)
    np.save(folder / "voxels.npy", voxels)
    mask = prepared.mask
    if mask is not None:
        np.save(folder / INSIDE, prepared.labels(mask).astype(bool))
    assert case.label is not None
    source = sources_checksum([*case.images, case.label])
    return {
        "id": case.id,
        "shape": label.shape,
        "voxels_of": voxels_of,
        "source": source,
        PREPARED_BY: digest_of(preprocessing.to_dict()),
    }


def _class_indices(dataset: Dataset, label_map: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The positions of values in ``Dataset.labels``; the ignored value is the one after the last."""
    values = np.asarray(list(dataset.labels.values()))
    last = len(values) - 1 if dataset.ignore is None else len(values)
    indices = np.searchsorted(values, label_map).astype(np.uint8 if last < 256 else np.uint16)
    if dataset.ignore is not None:
        indices[label_map == dataset.ignore] = last
    return indices


def _places(case: Case, dataset: Dataset, label: np.ndarray[Any, Any]) -> Iterator[tuple[int, np.ndarray[Any, Any]]]:
    """For each target with which a case is labelled its number from 1 on, and a mask of its voxels.

    Where voxels are ignored, also number 0, the voxels that are not.
    """
    known = dataset.labelled_with(case)
    members = members_of(dataset)
    ignored = len(dataset.labels)
    if dataset.ignore is not None and (label == ignored).any():
        yield 0, label != ignored
    for place, name in enumerate(dataset.targets):
        if name in known:
            indices = [index for index, belongs in enumerate(members) if belongs[place]]
            yield place + 1, label == indices[0] if len(indices) == 1 else np.isin(label, indices)


def members_of(dataset: Dataset) -> list[list[bool]]:
    """For each class index (position in ``Dataset.labels``) whether it belongs to each target."""
    if dataset.regions is None:
        return [[value != 0 and name == target for target in dataset.targets] for name, value in dataset.labels.items()]
    return [list(dataset.regions.containing(value)) for value in dataset.labels.values()]


def _coordinates(
    name: str, places: Iterable[tuple[int, np.ndarray[Any, Any]]]
) -> tuple[np.ndarray[Any, Any], dict[int, tuple[int, int]]]:
    """A sample of the voxels of each target, so that a patch around a rare one is found without a search."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    parts, voxels_of, first = [np.empty(0, np.int64)], {}, 0
    for index, mask in places:
        found = np.flatnonzero(mask)
        if found.size > COORDINATES_PER_LABEL:
            rng = np.random.default_rng([seed, index])
            found = np.sort(rng.choice(found, size=COORDINATES_PER_LABEL, replace=False))
        if found.size:
            voxels_of[index] = (first, first + found.size)
            first += found.size
            parts.append(found)
    return np.concatenate(parts), voxels_of
