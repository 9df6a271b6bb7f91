"""The fields of an NRRD header that decide how large an image is and which files are opened for it.

ITK reads the voxels, so a header is taken as its reader takes it, and in doubt as one that names other files: a lone
carriage return ends a line, an empty line ends the header, and names of fields are compared without case and blanks.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from resvox.errors import VolumeError

LONGEST_HEADER = 1 << 20  # bytes
MOST_FILES = 1 << 16  # of one image: a header of a few bytes can ask for any number
LINE_END = re.compile(rb"\r\n|\r|\n")
DATA_FILE = "datafile"


@dataclass(frozen=True, kw_only=True)
class NrrdHeader:
    """What a header states.

    Args:
        voxels: the product of its sizes, components included.
        files: the names of the files with the voxels, as they are written; None if the voxels follow the header.
    """

    voxels: int
    files: tuple[str, ...] | None


def read_header(content: bytes, path: Path) -> NrrdHeader:
    """The header at the beginning of a file.

    Args:
        content: the beginning of the file; `LONGEST_HEADER` bytes are enough, and a header may not be longer.
        path: named in errors.

    Raises:
        VolumeError: sizes that are not valid, fields that occur twice, or a header without an end.
    """
    lines, is_ended = _lines(content)
    if not is_ended and len(content) >= LONGEST_HEADER:
        raise VolumeError(f"a header of more than {LONGEST_HEADER} bytes", expected="an NRRD header", path=path)
    fields: dict[str, str] = {}
    files: tuple[str, ...] | None = None
    for number, line in enumerate(lines):
        name, mark, value = line.partition(":")
        name = "".join(name.split()).lower()
        if not mark or name.startswith("#") or (value.startswith("=") and name != DATA_FILE):
            continue  # a comment, or a pair of key and value
        if name in fields:
            raise VolumeError(f"the field {name[:40]!r} twice", expected="every field once", path=path)
        fields[name] = value.strip()
        if name == DATA_FILE:
            files = _files(value.strip(), lines[number + 1 :], path)
            if value.strip().upper().startswith("LIST"):
                break
    return NrrdHeader(voxels=_voxels(fields.get("sizes", ""), path), files=files)


def _lines(content: bytes) -> tuple[list[str], bool]:
    """The lines of the header, and whether an empty line ends it."""
    lines: list[str] = []
    at = 0
    while at < len(content):
        end = LINE_END.search(content, at)
        line = content[at : end.start() if end else len(content)]
        if not line:
            return lines, True
        lines.append(line.decode("latin-1"))
        at = end.end() if end else len(content)
    return lines, False


def _files(value: str, following: list[str], path: Path) -> tuple[str, ...]:
    """The files of the field "data file": a name, ``LIST`` with a name per line, or a pattern with numbers.

    Raises:
        VolumeError: none of these.
    """
    words = value.split()
    if value.upper().startswith("LIST"):
        names = [line.strip() for line in following if line.strip()]
    elif "%" in value:
        names = numbered_names(words[0], words[1:4]) if len(words) in (4, 5) else []
    else:
        names = [value]
    if not names or not all(names) or any("\0" in name for name in names):
        raise VolumeError(
            f"data file: {value[:60]}", expected=f"a name, a list of names, or a pattern such as x%03d.raw of at most "
            f"{MOST_FILES} files", path=path,
        )  # fmt: skip
    return tuple(names)


def numbered_names(pattern: str, words: list[str]) -> list[str]:
    """``slice%03d.raw`` with the numbers from first to last by a step; none where these words do not mean that."""
    if not re.fullmatch(r"[^%]*%0?\d{0,2}d[^%]*", pattern) or len(words) != 3:
        return []
    if not all(re.fullmatch(r"[+-]?[0-9]{1,9}", word) for word in words):
        return []
    first, last, step = (int(word) for word in words)
    if step == 0:
        return []
    numbers = range(first, last + (1 if step > 0 else -1), step)
    return [pattern % number for number in numbers] if len(numbers) <= MOST_FILES else []


def _voxels(text: str, path: Path) -> int:
    try:
        sizes = [int(part) for part in text.split()]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1:
        raise VolumeError(f"sizes {text[:60]!r} in the header", expected="whole numbers above 0", path=path)
    return math.prod(sizes)
