"""What someone names on a command line becomes cases, and a case becomes one array of channels."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from resvox.errors import VolumeError
from resvox.volumes.dicom_files import is_dicom, not_a_scan
from resvox.volumes.formats import is_dicom_name, is_image, stem_of
from resvox.volumes.reading import read_volume
from resvox.volumes.volume import Volume

CHANNEL_SUFFIX = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")  # nnU-Net: case_0000.nii.gz, case_0001.nii.gz


@dataclass(frozen=True, kw_only=True)
class InputCase:
    """One case to read.

    Args:
        id: its name, fit for a file name, and unlike any other of the batch.
        paths: one file or DICOM folder a channel, in order; a single file may hold all channels.
        channels: how many channels it must have; None takes what is there.
        series: UID or number of the series, for a DICOM folder with several.
        problem: why it cannot be read, where that is known already; `read_case` raises it, so that a batch
            goes on.
    """

    id: str
    paths: tuple[Path, ...]
    channels: int | None = None
    series: str | int | None = None
    problem: VolumeError | None = None


def find_cases(
    inputs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    channels: int | None = 1,
    series: str | int | None = None,
) -> list[InputCase]:
    """The cases in files, folders of files, and DICOM folders, in the order given, sorted within a folder.

    A folder that holds DICOM files is one case, with all that lies below it; other folders are searched down
    to the last. Hidden files and files that are no images are passed over in a folder, and reported where they
    are named themselves. Files ``x_0000``, ``x_0001``, ... of one folder are the channels of case ``x``. The
    same file named twice is one case; two cases of one name get their folder's name in front.

    A bad input never raises: it becomes a case with its `problem`.
    """
    if isinstance(inputs, (str, os.PathLike)):
        inputs = [inputs]
    cases: dict[tuple[Path, ...], InputCase] = {}
    files: list[Path] = []
    for entry in inputs:
        path = Path(entry)
        if path.is_dir():
            found = list(_cases_in_folder(path, channels, series, set()))
            nothing = InputCase(id=_folder_name(path), paths=(path,), problem=_no_images(path))
            for case in found or [nothing]:
                cases.setdefault(_key(case), case)
        else:
            files.append(path)
            if channels in (None, 1):
                # as in a folder, so that a scan has one name however it is named
                name = stem_of(path).removesuffix("_0000")
                case = InputCase(id=name, paths=(path,), channels=channels, series=series)
                cases.setdefault(_key(case), case)
    if channels not in (None, 1):
        for case in _grouped(files, channels, series):
            cases.setdefault(_key(case), case)
    return _with_own_names(list(cases.values()))


def read_case(case: InputCase) -> Volume:
    """The channels of a case as one volume, (channels, *spatial) float32.

    Raises:
        VolumeError: the case's `problem`; a file that cannot be read; channels on different grids; a
            number of channels other than `case.channels`; voxels that are NaN or infinite (never repaired
            in silence).
    """
    if case.problem is not None:
        raise case.problem
    alone = len(case.paths) == 1
    volumes = [read_volume(path, series=case.series, channels=case.channels if alone else 1) for path in case.paths]
    first = volumes[0]
    for path, volume in zip(case.paths[1:], volumes[1:], strict=True):
        _check_grid(first, volume, case.paths[0], path)
    planes = [volume.with_channel_axis().astype(np.float32, copy=False) for volume in volumes]
    return first.with_array(planes[0] if alone else np.concatenate(planes))


def _cases_in_folder(
    folder: Path, channels: int | None, series: str | int | None, seen: set[Path]
) -> Iterator[InputCase]:
    if folder.resolve() in seen:
        return  # a link back to a folder above
    seen.add(folder.resolve())
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
        files = [entry for entry in entries if entry.is_file()]
        images = [path for path in files if is_image(path)]
        has_dicom = any(_is_scan(path) for path in files if path not in set(images))
    except OSError as error:
        closed = VolumeError(f"cannot be opened ({error.strerror})", path=error.filename or folder)
        yield InputCase(id=_folder_name(folder), paths=(folder,), problem=closed)
        return
    yield from _grouped(images, channels, series)
    if has_dicom:
        yield InputCase(id=_folder_name(folder), paths=(folder,), channels=channels, series=series)
        return  # what lies below belongs to it
    for sub in entries:
        if sub.is_dir():
            found = list(_cases_in_folder(sub, channels, series, seen))
            yield from found
            if not found and not any(sub.iterdir()):
                yield InputCase(id=sub.name, paths=(sub,), problem=_no_images(sub))


def _is_scan(path: Path) -> bool:
    if is_dicom_name(path) and not is_dicom(path):
        return True  # named a DICOM file and none: reading the folder says so
    return is_dicom(path) and not_a_scan(path) is None


def _no_images(folder: Path) -> VolumeError:
    return VolumeError("no images in this folder", expected="image files or a DICOM series", path=folder)


def _grouped(files: Iterable[Path], channels: int | None, series: str | int | None) -> Iterator[InputCase]:
    """Files of one case together: ``x_0000``, ``x_0001``, ... where the first of them is there."""
    groups: dict[Path, tuple[str, list[Path]]] = {}
    for path in files:
        match = CHANNEL_SUFFIX.match(stem_of(path))
        first = _first_channel(path, match["case"]) if match else path
        if match and first.exists():
            groups.setdefault(first, (match["case"], []))[1].append(path)
        else:
            groups.setdefault(path, (stem_of(path), []))[1].append(path)
    for name, paths in groups.values():
        paths = sorted(set(paths))
        wrong = channels is not None and len(paths) not in (1, channels)
        yield InputCase(
            id=name,
            paths=tuple(paths),
            channels=channels,
            series=series,
            problem=_wrong_number(paths, channels) if wrong else None,
        )


def _first_channel(path: Path, case: str) -> Path:
    return path.with_name(case + "_0000" + path.name[len(stem_of(path)) :])


def _wrong_number(paths: list[Path], channels: int | None) -> VolumeError:
    return VolumeError(
        f"{len(paths)} channel files ({', '.join(path.name for path in paths)})",
        expected=f"{channels}",
        fix="name the files to use one by one, or without _0000 endings where they are no channels",
        path=paths[0],
    )


def _folder_name(folder: Path) -> str:
    return folder.resolve().name or "case"


def _key(case: InputCase) -> tuple[Path, ...]:
    return tuple(path.resolve() for path in case.paths)


def _with_own_names(cases: list[InputCase]) -> list[InputCase]:
    """Every id once, A and a taken for one: the folder's name in front, then a number behind."""
    shared = Counter(case.id.casefold() for case in cases)
    named = [
        replace(case, id=f"{case.paths[0].resolve().parent.name}_{case.id}") if shared[case.id.casefold()] > 1 else case
        for case in cases
    ]
    taken: set[str] = set()
    for at, case in enumerate(named):
        name, number = case.id, 2
        while name.casefold() in taken:
            name, number = f"{case.id}_{number}", number + 1
        taken.add(name.casefold())
        named[at] = replace(case, id=name)
    return named


def _check_grid(first: Volume, other: Volume, first_path: Path, path: Path) -> None:
    if not first.grid.matches(other.grid):
        raise VolumeError(
            f"its grid is not that of {first_path.name}: {other.grid}",
            expected=f"{first.grid}",
            fix="resample it onto the grid of the first channel",
            path=path,
        )
