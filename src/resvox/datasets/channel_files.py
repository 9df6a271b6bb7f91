"""Which files of a folder are one case: channel files ``case_0000``, ``case_0001``, ..., and what else lies there."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from resvox.errors import DatasetError
from resvox.volumes.formats import is_dicom_name, is_image, paired_files, stem_of

_NUMBERED = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})", re.DOTALL)
_BESIDE = (".json", ".txt", ".md", ".csv", ".tsv", ".xml", ".html", ".db", ".ini", ".yaml", ".yml", ".log", ".pdf")


@dataclass(frozen=True)
class ChannelName:
    """A file's name without its ending, taken apart: ``a_0001`` is channel 1 of case ``a``; ``b`` has no number."""

    stem: str
    case: str
    channel: int | None


def channel_name(path: Path) -> ChannelName:
    """The case and the channel that a file's name speaks of."""
    stem = stem_of(path)
    found = _NUMBERED.fullmatch(stem)
    return ChannelName(stem, found["case"], int(found["channel"])) if found else ChannelName(stem, stem, None)


def case_id(path: Path) -> str:
    """The name of a case from one of its files: without the ending and without ``_0000``."""
    return channel_name(path).case


def own_names(images: Sequence[Path]) -> list[str]:
    """A name for each case by its first image: unlike each other wherever the files' names and folders allow it.

    ``a_0000`` is ``a``; ``frame_0001`` and ``frame_0002`` keep their numbers; ``p1/ct`` and ``p2/ct`` get their
    folder's name in front.
    """
    names = [case_id(path) for path in images]
    longer: list[Callable[[Path], str]] = [stem_of, lambda path: f"{path.resolve().parent.name}_{stem_of(path)}"]
    for make in longer:
        shared = Counter(names)
        names = [make(path) if shared[name] > 1 else name for name, path in zip(names, images, strict=True)]
    shared = Counter(names)
    return [case_id(path) if shared[name] > 1 else name for name, path in zip(names, images, strict=True)]


def images_in(folder: Path, ending: str | None = None) -> list[Path]:
    """The image files of a folder, sorted; a warning names what else lies there and could be an image.

    Args:
        ending: only files of this ending, compared without regard to case.
    """
    images: list[Path] = []
    others: list[str] = []
    if not folder.is_dir():
        return images
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        wanted = _is_wanted(path, ending)
        if path.is_dir():
            inside = sum(1 for each in path.rglob("*") if each.is_file() and (is_image(each) or is_dicom_name(each)))
            others += [f"{path.name}/ ({inside} images)"] if inside else []
        elif wanted:
            images.append(path)
        elif not path.name.lower().endswith(_BESIDE) and not _is_voxels_of_an_image(path, ending):
            others.append(path.name)
    if others:
        listed = ", ".join(others[:5]) + (f" and {len(others) - 5} more" if len(others) > 5 else "")
        reason = f"file_ending is {ending!r}" if ending else "no image file right in this folder"
        warnings.warn(f"{folder}: not used: {listed} ({reason})", UserWarning, stacklevel=2)
    return images


def _is_wanted(path: Path, ending: str | None) -> bool:
    return path.name.lower().endswith(ending) if ending else is_image(path)


def _is_voxels_of_an_image(path: Path, ending: str | None) -> bool:
    """Whether the file is read with its header (``x.img`` with ``x.hdr``) and the header is one of the images."""
    pair = paired_files(path)
    return pair is not None and path == pair[1] and pair[0].is_file() and _is_wanted(pair[0], ending)


def cases_of_files(
    files: Iterable[Path], channels: int | None, *, folder: Path, is_answered: Callable[[str], bool] = lambda _: False
) -> dict[str, tuple[Path, ...]]:
    """Files by case, the channels of each in order.

    ``a_0000`` and ``a_0001`` are the channels of ``a``. Where that cannot be (the numbers are other ones than the
    channels', and each file has a label map of its own, or there is one channel and none is ``_0000``), the number is
    a part of the case's name.

    Args:
        channels: how many there must be; None takes what is there.
        is_answered: whether there is a label map (or target) for the case of that name.

    Raises:
        DatasetError: a channel twice, a gap among the channels, numbered and unnumbered files of one case.
    """
    groups: dict[str, list[tuple[ChannelName, Path]]] = {}
    for path in files:
        name = channel_name(path)
        groups.setdefault(name.case, []).append((name, path))
    cases: dict[str, tuple[Path, ...]] = {}
    for case, members in groups.items():
        members.sort(key=lambda member: (member[0].channel or 0, member[1].name))
        if _are_cases(case, [name for name, _ in members], channels, is_answered):
            for name, path in members:
                _add(cases, name.stem, (path,), folder)
        else:
            _check_numbers(case, members, channels, folder)
            _add(cases, case, tuple(path for _, path in members), folder)
    return cases


def _add(cases: dict[str, tuple[Path, ...]], case: str, paths: tuple[Path, ...], folder: Path) -> None:
    if case in cases:
        raise DatasetError(
            f"case {case!r} twice ({cases[case][0].name}, {paths[0].name})",
            expected="one file per case and channel",
            fix="move one away",
            path=folder,
        )
    cases[case] = paths


def _are_cases(case: str, names: list[ChannelName], channels: int | None, is_answered: Callable[[str], bool]) -> bool:
    """Whether the numbers are parts of the cases' names rather than channels."""
    numbers = [name.channel for name in names]
    if None in numbers or len(set(numbers)) < len(numbers) or is_answered(case):
        return False
    if all(is_answered(name.stem) for name in names):
        return channels is None or channels == 1 or numbers != list(range(channels))
    return channels == 1 and 0 not in numbers


def _check_numbers(case: str, members: list[tuple[ChannelName, Path]], channels: int | None, folder: Path) -> None:
    numbers = [name.channel for name, _ in members]
    listed = ", ".join(path.name for _, path in members)
    count = channels or len(members)
    wanted = f"{count}: {case}_0000 to {case}_{count - 1:04d}" if count > 1 else f"one: {case} or {case}_0000"
    if len(members) == 1 and (numbers[0] in (None, 0)):
        return  # one file may hold all channels: colours, or a 4-D NIfTI
    if numbers != list(range(count)):
        twice = sorted({number for number in numbers if numbers.count(number) > 1 and number is not None})
        missing = sorted(set(range(count)) - {number for number in numbers if number is not None})
        what = f"; channel {twice[0]} twice" if twice else f"; channel {missing[0]} is missing" if missing else ""
        raise DatasetError(
            f"case {case!r} has {len(members)} image files ({listed}){what}",
            expected=wanted,
            fix="add, rename or remove files, so that no channel is taken for another",
            path=folder,
        )
