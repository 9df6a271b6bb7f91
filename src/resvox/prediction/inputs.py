"""The cases of a batch: what inputs mean, under which names, and which scan a name stood for before."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resvox.errors import DatasetError, InferenceError

if TYPE_CHECKING:
    from resvox.cards import ModelCard
    from resvox.prediction.log import RunLog
    from resvox.prediction.options import PredictOptions
    from resvox.volumes import Volume

LISTS = (".npz", ".csv")  # files that list images
CHUNK = 1 << 20  # bytes that are read at once for a digest


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case of a batch.

    Args:
        id: its name, unlike any other of the batch.
        inputs: where it came from, as it stands in the log.
        files: its files and DICOM folders.
        item: what the predictor's ``read`` takes: a `resvox.volumes.InputCase` or a row of a dataset.
        series: of a DICOM folder.
        is_picture: a 2-D picture (PNG, JPEG, TIFF, BMP), whose result may be a picture.
    """

    id: str
    inputs: tuple[str, ...]
    files: tuple[Path, ...]
    item: Any
    series: str | None = None
    is_picture: bool = False


@dataclass(frozen=True, kw_only=True)
class Found:
    """The cases of the inputs, and notes on what was left out."""

    cases: tuple[Case, ...]
    notes: tuple[str, ...] = ()


def find_scans(options: PredictOptions, card: ModelCard, log: RunLog) -> Found:
    """The scans of the inputs.

    What an earlier run wrote into the output folder is no input, and a scan keeps the name that it had then.
    """
    return _scans(options.input_paths, options, card, log, absolute=True)


def find_images(options: PredictOptions, card: ModelCard, log: RunLog) -> Found:
    """The images of files, folders, manifests and ``.npz`` files.

    Raises:
        DatasetError: a manifest or ``.npz`` that cannot be used. InferenceError: no images.
    """
    listed: list[Case] = []
    files: list[str | os.PathLike[str]] = []
    for each in options.input_paths:
        if Path(each).suffix.lower() in LISTS:
            listed += _listed(Path(each), options.split)
        else:
            files.append(each)
    found = _scans(files, options, card, log, absolute=False)
    cases = (*listed, *found.cases)
    if not cases:
        raise InferenceError("no images", expected="image files, folders of them, a manifest or an .npz file")
    return Found(cases=cases, notes=found.notes)


def read_scan(case: Case) -> Volume:
    """The channels of a scan as one volume.

    Raises:
        VolumeError: it cannot be read.
    """
    from resvox.volumes import read_case

    return read_case(case.item)


def read_labelled_image(case: Case, channels: int) -> Volume:
    """The image of a file, or of a row of a manifest or ``.npz``.

    Raises:
        VolumeError, DatasetError: it cannot be read.
    """
    from resvox.datasets.classification import ImageCase

    if not isinstance(case.item, ImageCase):
        return read_scan(case)
    from resvox.training.classification.cache import read_image

    return read_image(case.item, channels)


def _scans(
    paths: Sequence[str | os.PathLike[str]],
    options: PredictOptions,
    card: ModelCard,
    log: RunLog,
    *,
    absolute: bool,
) -> Found:
    from resvox.volumes import find_cases
    from resvox.volumes.reading import is_flat_picture

    out, products = options.out.resolve(), log.products()
    left_out: list[str] = []

    def is_product(path: Path) -> bool:
        found = path.name in products and path.parent.resolve() == out
        if found:
            left_out.append(path.name)
        return found

    # A folder of predictions that is named itself is meant as an input, but for what this folder's log lists.
    named = [Path(path).resolve() for path in paths]
    is_inside = not any(out == path or out in path.parents for path in named)
    found = find_cases(
        paths,
        channels=card.in_channels,
        series=options.series,
        leave_out=out if is_inside else None,
        skip=is_product,
        names=log.names_of_inputs(),
    )
    cases = tuple(
        Case(
            id=each.id,
            inputs=tuple(str(Path(path).resolve() if absolute else path) for path in each.paths),
            files=each.paths,
            item=each,
            series=options.series,
            is_picture=is_flat_picture(each.paths[0]),
        )
        for each in found
    )
    return Found(cases=cases, notes=_note_on(left_out, out))


def _note_on(left_out: Sequence[str], out: Path) -> tuple[str, ...]:
    if not left_out:
        return ()
    files = f"{len(left_out)} file{'s' if len(left_out) > 1 else ''}"
    return (f"{files} in {out} that an earlier run wrote there left out, such as {left_out[0]}",)


def _listed(path: Path, split: str | None) -> Iterator[Case]:
    from resvox.training import read_classification

    cases = read_classification(path).cases
    wanted = split or ("test" if any(case.split == "test" for case in cases) else "all")
    kept = [case for case in cases if wanted in ("all", case.split)]
    if not kept:
        raise DatasetError(f"no cases of split {wanted!r}", expected="at least one", path=path)
    for case in kept:
        where = case.images[0] if case.member is None else f"{case.images[0]}#{case.member[0]}[{case.member[1]}]"
        yield Case(id=case.id, inputs=(str(where),), files=case.images, item=case)


def state_of(files: Sequence[Path]) -> list[dict[str, Any]]:
    """Size, time and digest of each file or DICOM folder, which tell whether it is still the same."""
    states = []
    for path in files:
        size, moment = _size_and_time(Path(path))
        states.append({"bytes": size, "modified": moment, "digest": _digest(Path(path), size, moment)})
    return states


def is_same(files: Sequence[Path], state: Sequence[Any]) -> bool:
    """Whether the files are those of which a state was noted.

    A file of the same size and time is taken for the same; one of the same size alone is read.
    """
    if len(files) != len(state):
        return False
    for path, known in zip(files, state, strict=True):
        if not isinstance(known, dict):
            return False
        size, moment = _size_and_time(Path(path))
        if size != known.get("bytes"):
            return False
        if moment != known.get("modified") and _digest(Path(path), size, moment) != known.get("digest"):
            return False
    return True


def _size_and_time(path: Path) -> tuple[int, float]:
    """Bytes and newest time of a file, or of all files of a folder."""
    try:
        stats = [each.stat() for each in _files(path)]
    except OSError:
        return -1, 0.0
    return sum(each.st_size for each in stats), max((each.st_mtime for each in stats), default=0.0)


def _files(path: Path) -> list[Path]:
    return sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]


@lru_cache(maxsize=64)
def _digest(path: Path, size: int, moment: float) -> str:
    """A digest of the contents; "" of what cannot be read. The rows of one ``.npz`` share it, hence the cache."""
    digest = hashlib.blake2b(digest_size=16)
    try:
        for each in _files(path):
            if path.is_dir():
                digest.update(f"{each.relative_to(path)} {each.stat().st_size} ".encode())
            with each.open("rb") as file:
                while chunk := file.read(CHUNK):
                    digest.update(chunk)
    except OSError:
        return ""
    return digest.hexdigest()
