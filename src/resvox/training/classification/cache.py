"""Images read, and prepared once: cached as arrays that every process maps into its memory."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resvox.datasets.classification import ClassificationDataset, ImageCase
from resvox.datasets.npz import forget_arrays, image_volume, npz_array
from resvox.errors import DatasetError
from resvox.files import replacing
from resvox.preprocessing import Preprocessing, prepare_whole
from resvox.training.classification.plan import ClassificationPlan
from resvox.training.segmentation.cache import stamp
from resvox.volumes import InputCase, Volume, read_case

LAYOUT = 1  # raise it when the files change their meaning


@dataclass(frozen=True, kw_only=True)
class PreparedImage:
    """A prepared image: the ``.npy`` it is in, its row there (None: it is the whole file), and its class index."""

    id: str
    path: Path
    row: int | None
    label: int

    @property
    def image(self) -> np.ndarray[Any, Any]:
        """(channels, *image_size) float32, read-only."""
        array: np.ndarray[Any, Any] = np.load(self.path, mmap_mode="r")
        return array if self.row is None else array[self.row]


def read_image(case: ImageCase, channels: int) -> Volume:
    """The image of a case, (*spatial) or (channels, *spatial).

    Raises:
        VolumeError: a file that cannot be read or has other channels. DatasetError: an array that is none.
    """
    if case.member is not None:
        name, row = case.member
        return image_volume(npz_array(case.images[0], name)[row], case.images[0])
    return read_case(InputCase(id=case.id, paths=case.images, channels=channels))


def prepare_images(
    cases: Sequence[ImageCase],
    dataset: ClassificationDataset,
    plan: ClassificationPlan,
    folder: Path,
    *,
    share: slice = slice(None),
    progress: Callable[[int, int, str], None] | None = None,
) -> list[PreparedImage]:
    """All cases, out of the cache; of those that are not there, the ``share`` of this process is prepared.

    Args:
        share: which of the files are this process's to write; an array of an ``.npz`` is one file.
        progress: called with (files done, files in all, name).
    """
    jobs: dict[Path, list[ImageCase]] = {}
    for case in cases:
        jobs.setdefault(_target(case, plan, folder), []).append(case)
    mine = list(jobs.items())[share]
    for done, (path, members) in enumerate(mine, start=1):
        if not path.is_file():
            _write(path, members, dataset, plan)
        if progress is not None:
            progress(done, len(mine), members[0].id)
    forget_arrays()
    index = {name: number for number, name in enumerate(dataset.classes)}
    return [
        PreparedImage(
            id=case.id,
            path=path,
            row=case.member[1] if case.member else None,
            label=_index(case, index, dataset),
        )
        for path, case in ((_target(case, plan, folder), case) for case in cases)
    ]


def prepare_image(volume: Volume, preprocessing: Preprocessing, plan: ClassificationPlan) -> np.ndarray[Any, Any]:
    """What the network sees of an image: (channels, *image_size) float32."""
    return prepare_whole(volume, preprocessing, plan.image_size, plan.fit)


def _write(path: Path, members: list[ImageCase], dataset: ClassificationDataset, plan: ClassificationPlan) -> None:
    preprocessing, channels = plan.preprocessing(), len(dataset.channel_names)
    first = members[0]
    if first.member is None:
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, prepare_image(read_image(first, channels), preprocessing, plan))
        return
    # All rows, not only the members': which of them train is another run's choice and not in the file's name.
    count = len(npz_array(first.images[0], first.member[0]))
    shape = (count, plan.in_channels, *plan.image_size)
    with replacing(path) as temporary:
        made = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
        for row in range(count):
            case = ImageCase(id="", images=first.images, split="test", member=(first.member[0], row))
            made[row] = prepare_image(read_image(case, channels), preprocessing, plan)
        made.flush()
        del made


def _target(case: ImageCase, plan: ClassificationPlan, folder: Path) -> Path:
    """The file that holds a prepared case; its name changes with the preprocessing and the case's own files."""
    name = case.id if case.member is None else case.member[0]
    said = [LAYOUT, plan.preprocessing().to_dict(), plan.image_size, plan.fit, plan.in_channels]
    text = json.dumps([said, [stamp(path) for path in case.images], case.member and name], sort_keys=True, default=str)
    plain = re.sub(r"[^\w.-]", "_", name)
    return folder / f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.npy"


def _index(case: ImageCase, index: dict[str, int], dataset: ClassificationDataset) -> int:
    if case.label not in index:
        raise DatasetError(
            f"case {case.id!r} of class {case.label!r}",
            expected=f"one of {', '.join(dataset.classes)}",
            path=dataset.source,
        )
    return index[case.label]
