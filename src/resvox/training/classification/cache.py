"""The prepared images of a classification: arrays that every process maps into its memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resvox.datasets.classification import ClassificationDataset, ImageCase
from resvox.datasets.labelled import read_image
from resvox.datasets.npz import forget_arrays, npz_array
from resvox.errors import DatasetError
from resvox.files import replacing, write_atomically
from resvox.preprocessing import Preprocessing, prepare_whole
from resvox.training.classification.plan import ClassificationPlan
from resvox.training.prepared import (
    array_is_whole,
    checksum_of,
    entry_name,
    naming_the_folder,
    sources_checksum,
    stamp,
)
from resvox.volumes import Volume

LAYOUT = 1  # raise it when the files change their meaning


@dataclass(frozen=True, kw_only=True)
class PreparedImage:
    """A prepared image: the ``.npy`` it is in, its row there (None: it is the whole file), and its class index."""

    id: str
    path: Path
    row: int | None
    label: int
    source: int | None = None  # checksum of the case's files; None in files of older versions

    @property
    def image(self) -> np.ndarray[Any, Any]:
        """(channels, *image_size) float32, read-only."""
        array: np.ndarray[Any, Any] = np.load(self.path, mmap_mode="r")
        return array if self.row is None else array[self.row]


def prepare_images(
    cases: Sequence[ImageCase],
    dataset: ClassificationDataset,
    plan: ClassificationPlan,
    folder: Path,
    *,
    share: slice = slice(None),
    check: bool = True,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[PreparedImage]:
    """All cases out of the cache; those of this process's ``share`` that are missing or damaged are prepared first.

    Args:
        share: the files that this process writes; an array of an ``.npz`` is one file.
        check: False where this run has checked or written the files before.
        progress: called with (files done, files in all, name).
    """
    targets = {case.id: _target(case, plan, folder) for case in cases}
    jobs: dict[Path, list[ImageCase]] = {}
    for case in cases:
        jobs.setdefault(targets[case.id], []).append(case)
    mine = list(jobs.items())[share] if check else []
    for done, (path, members) in enumerate(mine, start=1):
        if not _is_whole(path, plan):
            with naming_the_folder(path):
                _write(path, members, dataset, plan)
        if progress is not None:
            progress(done, len(mine), members[0].id)
    forget_arrays()
    index = {name: number for number, name in enumerate(dataset.classes)}
    sources = {} if check else {path: _noted(path).get("source") for path in jobs}
    return [
        PreparedImage(
            id=case.id,
            path=path,
            row=case.member[1] if case.member else None,
            label=_index(case, index, dataset),
            source=sources.get(path),
        )
        for path, case in ((targets[case.id], case) for case in cases)
    ]


def prepare_image(volume: Volume, preprocessing: Preprocessing, plan: ClassificationPlan) -> np.ndarray[Any, Any]:
    """What the network sees of an image: (channels, *image_size) float32."""
    return prepare_whole(volume, preprocessing, plan.image_size, plan.fit)


def _is_whole(path: Path, plan: ClassificationPlan) -> bool:
    """Whether a prepared file is there as it was written: size, shape and, where it has one, checksum."""
    try:
        noted = _noted(path)
        if not array_is_whole(path, noted.get("checksum")):
            return False
    except (OSError, ValueError, AttributeError):
        return False
    shape: tuple[int, ...] = np.load(path, mmap_mode="r").shape
    return shape[-1 - plan.spatial_dims :] == (plan.in_channels, *plan.image_size)


def _noted(path: Path) -> dict[str, Any]:
    """What is noted beside a prepared file; nothing beside those of older versions."""
    noted = path.with_suffix(".json")
    facts: dict[str, Any] = json.loads(noted.read_text(encoding="utf-8")) if noted.exists() else {}
    return facts


def _write(path: Path, members: list[ImageCase], dataset: ClassificationDataset, plan: ClassificationPlan) -> None:
    with replacing(path) as temporary:
        _write_array(temporary, members[0], dataset, plan)
        checksum = checksum_of(temporary)
    facts = {"checksum": checksum, "source": sources_checksum(members[0].images)}
    write_atomically(path.with_suffix(".json"), json.dumps(facts).encode())


def _write_array(path: Path, first: ImageCase, dataset: ClassificationDataset, plan: ClassificationPlan) -> None:
    preprocessing, channels = plan.preprocessing(), len(dataset.channel_names)
    if first.member is None:
        with path.open("wb") as file:
            np.save(file, prepare_image(read_image(first, channels), preprocessing, plan))
        return
    # All rows, not only the members': which of them train is another run's choice and not in the file's name.
    count = len(npz_array(first.images[0], first.member[0]))
    shape = (count, plan.in_channels, *plan.image_size)
    made = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    for row in range(count):
        case = ImageCase(id="", images=first.images, split="test", member=(first.member[0], row))
        made[row] = prepare_image(read_image(case, channels), preprocessing, plan)
    made.flush()
    del made


def _target(case: ImageCase, plan: ClassificationPlan, folder: Path) -> Path:
    """The file that holds a prepared case; its name changes with the preprocessing and the case's own files."""
    name = case.id if case.member is None else case.member[0]
    settings = [LAYOUT, plan.preprocessing().to_dict(), plan.image_size, plan.fit, plan.in_channels]
    stamps = [stamp(path) for path in case.images]
    return folder / f"{entry_name(name, settings, stamps, case.member and name)}.npy"


def _index(case: ImageCase, index: dict[str, int], dataset: ClassificationDataset) -> int:
    if case.label not in index:
        raise DatasetError(
            f"case {case.id!r} of class {case.label!r}",
            expected=f"one of {', '.join(dataset.classes)}",
            path=dataset.source,
        )
    return index[case.label]
