"""From inputs of a command line to cases, and from a case to one array of channels."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from resvox.errors import VolumeError
from resvox.volumes.dicom.marks import is_dicom, not_a_scan
from resvox.volumes.formats import ending_of, format_of, is_dicom_name, is_image, is_picture, paired_files, stem_of
from resvox.volumes.reading import broken_link_error, read_volume
from resvox.volumes.volume import Volume

CHANNEL_SUFFIX = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")  # nnU-Net: case_0000.nii.gz, case_0001.nii.gz


@dataclass(frozen=True, kw_only=True)
class InputCase:
    """One case to read.

    Args:
        id: its name, usable as a file name and unique in the batch.
        paths: one file or DICOM folder per channel, in order; a single file may hold all channels.
        channels: number of channels that it must have; None for any.
        series: UID or number of the series, for a DICOM folder with several.
        problem: the error of a case that cannot be read; `read_case` raises it, so that a batch continues.
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
    leave_out: str | os.PathLike[str] | None = None,
    skip: Callable[[Path], bool] | None = None,
    names: Mapping[str, str] | None = None,
) -> list[InputCase]:
    """The cases in files, folders of files, and DICOM folders, in the order given, sorted within a folder.

    A folder with DICOM files is one case, including its sub-folders; other folders are searched recursively.
    Hidden files and files that are not images are skipped in a folder, and reported if they are given themselves;
    broken links and voxel files without their header are reported in a folder, too. Files
    ``x_0000``, ``x_0001``, ... of one folder are the channels of case ``x``. The same path named twice is one case;
    two links to one file are two.

    Cases of the same name get their folders as prefix: those between the given folder and the file, so that a name
    stays the same when other cases are added; for a file at the top, the name of its folder.

    A bad input never raises: it becomes a case with its `problem`.

    Args:
        inputs: files and folders.
        channels: how many channels a case must have; None for any number.
        series: UID or number of the series, for DICOM folders with several.
        leave_out: a folder whose files are not cases, such as one with results inside of an input folder.
        skip: files for which it returns True are not cases either, wherever they are.
        names: fixed names of cases, by the resolved path of their first file.
    """
    skip = skip or (lambda path: False)
    if isinstance(inputs, (str, os.PathLike)):
        inputs = [inputs]
    found: dict[tuple[Path, ...], tuple[InputCase, Path | None]] = {}
    files: list[Path] = []
    for entry in inputs:
        path = Path(entry)
        if path.is_dir():
            inside = list(_cases_in_folder(path, channels, series, (), leave_out, skip))
            nothing = InputCase(id=_folder_name(path), paths=(path,), problem=_no_images(path))
            for case in inside or [nothing]:
                found.setdefault(_key(case), (case, path))
        elif not skip(path):
            files.append(path)
            if channels in (None, 1):
                # as in a folder, so that a scan has the same name however it is given
                name = stem_of(path).removesuffix("_0000")
                case = InputCase(id=name, paths=(path,), channels=channels, series=series)
                found.setdefault(_key(case), (case, None))
    if channels not in (None, 1):
        for case in _grouped(files, channels, series):
            found.setdefault(_key(case), (case, None))
    return _with_own_names(list(found.values()), names or {})


def read_case(case: InputCase) -> Volume:
    """The channels of a case as one volume, (channels, *spatial) float32.

    Raises:
        VolumeError: the case's `problem`; a file that cannot be read; channels on different grids; a
            number of channels other than `case.channels`; voxels that are NaN or infinite.
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
    folder: Path,
    channels: int | None,
    series: str | int | None,
    above: tuple[Path, ...],
    leave_out: str | os.PathLike[str] | None,
    skip: Callable[[Path], bool],
) -> Iterator[InputCase]:
    place = folder.resolve()
    if place in above or (leave_out is not None and place == Path(leave_out).resolve()):
        return  # a link back to a folder above
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith(".") and not skip(entry))
        files = [entry for entry in entries if entry.is_file()]
        images = [path for path in files if is_image(path)]
        has_dicom = any(_is_scan(path) for path in files if path not in set(images))
    except OSError as error:
        closed = VolumeError(f"cannot be opened ({error.strerror})", path=error.filename or folder)
        yield InputCase(id=_folder_name(folder), paths=(folder,), problem=closed)
        return
    yield from _grouped(images, channels, series)
    for path in entries:
        problem = _problem_of(path)
        if problem is not None:
            yield InputCase(id=stem_of(path), paths=(path,), problem=problem)
    if has_dicom:
        yield InputCase(id=_folder_name(folder), paths=(folder,), channels=channels, series=series)
        return  # its sub-folders belong to it
    for sub in entries:
        if sub.is_dir():
            found = list(_cases_in_folder(sub, channels, series, (*above, place), leave_out, skip))
            yield from found
            if not found and not any(sub.iterdir()):
                yield InputCase(id=sub.name, paths=(sub,), problem=_no_images(sub))


def _problem_of(path: Path) -> VolumeError | None:
    """The error of a file in a folder that is not an image but was probably meant to be one."""
    if path.is_symlink() and not path.exists() and (format_of(path) is not None or not path.suffix):
        return broken_link_error(path)
    pair = paired_files(path)
    if pair is not None and path == pair[1] and path.is_file() and not pair[0].is_file():
        return VolumeError(
            f"no header file {pair[0].name} beside it", expected="a header and a voxel file of one name", path=path
        )
    return None


def _is_scan(path: Path) -> bool:
    if is_dicom_name(path) and not is_dicom(path):
        return True  # named like a DICOM file but not one: reading the folder raises the error
    return is_dicom(path) and not_a_scan(path) is None


def _no_images(folder: Path) -> VolumeError:
    return VolumeError("no images in this folder", expected="image files or a DICOM series", path=folder)


def _grouped(files: Iterable[Path], channels: int | None, series: str | int | None) -> Iterator[InputCase]:
    """Group the files of each case: ``x_0000``, ``x_0001``, ... where the first one exists.

    Numbered pictures are channels only if their number is the number of channels: otherwise they are frames of an
    image sequence or separate photographs, and each is a case.
    """
    files = list(files)
    groups: dict[tuple[Path, str, str], list[tuple[int, Path]]] = {}
    for path in dict.fromkeys(files):
        match = CHANNEL_SUFFIX.match(stem_of(path))
        if match and _has_first(path, match["case"], files):
            key = path.parent, match["case"], ending_of(path)
            groups.setdefault(key, []).append((int(match["channel"]), path))
        else:
            groups.setdefault((path, stem_of(path), ""), []).append((0, path))
    for (_, name, _), members in groups.items():
        members = sorted(members)
        numbers = [number for number, _ in members]
        paths = tuple(path for _, path in members)
        if len(paths) not in (1, channels) and all(is_picture(path) for path in paths):
            yield from (InputCase(id=stem_of(path), paths=(path,), channels=channels, series=series) for path in paths)
            continue
        problem = None
        if numbers != list(range(len(numbers))):
            problem = _odd_channels(name, numbers, paths)
        elif channels is not None and len(paths) not in (1, channels):
            problem = _wrong_number(paths, channels)
        yield InputCase(id=name, paths=paths, channels=channels, series=series, problem=problem)


def _has_first(path: Path, case: str, files: list[Path]) -> bool:
    """Whether channel 0 of a case exists, on the disk or among the given files."""
    first = path.with_name(f"{case}_0000{path.name[len(stem_of(path)) :]}")
    return first.exists() or any(
        each.parent == path.parent and stem_of(each) == f"{case}_0000" and ending_of(each) == ending_of(path)
        for each in files
    )


def _odd_channels(name: str, numbers: list[int], paths: tuple[Path, ...]) -> VolumeError:
    twice = next((number for number, count in Counter(numbers).items() if count > 1), None)
    missing = next((number for number in range(len(numbers)) if number not in numbers), None)
    what = f"channel {twice} twice" if twice is not None else f"no channel {missing}"
    return VolumeError(
        f"case {name!r} has {what} ({', '.join(path.name for path in paths)})",
        expected="channel files numbered 0000, 0001, ... without gaps",
        fix="add or rename the file" if twice is None else "remove one of them",
        path=paths[0],
    )


def _wrong_number(paths: tuple[Path, ...], channels: int) -> VolumeError:
    is_short = len(paths) < channels
    return VolumeError(
        f"{len(paths)} channel files ({', '.join(path.name for path in paths)})",
        expected=f"{channels}" + (f"; {_channel_name(paths[0], len(paths))} is missing" if is_short else ""),
        fix="name the files to use one by one, or without _0000 endings where they are not channels",
        path=paths[0],
    )


def _channel_name(path: Path, number: int) -> str:
    stem = stem_of(path)
    return f"{stem[:-4]}{number:04d}{path.name[len(stem) :]}"


def _folder_name(folder: Path) -> str:
    return folder.resolve().name or "case"


def _key(case: InputCase) -> tuple[Path, ...]:
    """The key of a case: its paths as given; for a pair, that of the header."""
    pairs = [(path, paired_files(path)) for path in case.paths]
    return tuple(Path(os.path.abspath(path if pair is None else pair[0])) for path, pair in pairs)


def _with_own_names(found: list[tuple[InputCase, Path | None]], names: Mapping[str, str]) -> list[InputCase]:
    """Unique ids, without regard to case: with folders as prefix, then more of them, then a number at the end."""
    fixed = [names.get(os.path.realpath(case.paths[0])) for case, _ in found]
    ids = [name or case.id for name, (case, _) in zip(fixed, found, strict=True)]
    for folders_of in (_folders_inside, _folders_above):
        shared = Counter(each.casefold() for each in ids)
        ids = [
            "_".join([*folders_of(case, root), case.id]) if shared[name.casefold()] > 1 and not known else name
            for name, known, (case, root) in zip(ids, fixed, found, strict=True)
        ]
    taken = {name.casefold() for name in fixed if name}
    used: set[str] = set()
    cases = []
    for (case, _), known, longest in zip(found, fixed, ids, strict=True):
        name, number = longest, 2
        while name.casefold() in used or (not known and name.casefold() in taken):
            name, number = f"{longest}_{number}", number + 1
        used.add(name.casefold())
        cases.append(replace(case, id=name))
    return cases


def _folders_inside(case: InputCase, root: Path | None) -> tuple[str, ...]:
    """The folders between the given one and the case; the name of its own folder if the case lies in the given one."""
    folder = Path(os.path.abspath(case.paths[0])).parent
    if root is not None and folder.is_relative_to(os.path.abspath(root)):
        inside = folder.relative_to(os.path.abspath(root)).parts
        return inside or (folder.name,)
    return (folder.name,)


def _folders_above(case: InputCase, root: Path | None) -> tuple[str, ...]:
    """The folders with the given one; for a file that was given itself, two folders."""
    folder = Path(os.path.abspath(case.paths[0])).parent
    if root is not None and folder.is_relative_to(os.path.abspath(root)):
        return (Path(os.path.abspath(root)).name, *folder.relative_to(os.path.abspath(root)).parts)
    return folder.parts[-2:] if len(folder.parts) > 2 else (folder.name,)


def _check_grid(first: Volume, other: Volume, first_path: Path, path: Path) -> None:
    if not first.grid.matches(other.grid):
        raise VolumeError(
            f"its grid is not that of {first_path.name}: {other.grid}",
            expected=f"{first.grid}",
            fix="resample it onto the grid of the first channel",
            path=path,
        )
