"""The spacing of a stack of TIFF in a JSON file beside it, as nnU-Net keeps it.

``case.json`` holds ``{"spacing": [z, y, x]}`` in mm, for the images ``case_0000.tif``, ``case_0001.tif``, ... and for
the label map ``case.tif``.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from pathlib import Path

from resvox.errors import VolumeError
from resvox.files import write_atomically
from resvox.volumes.formats import format_of, stem_of
from resvox.volumes.volume import Volume

KEY = "spacing"
CHANNEL = re.compile(r"_\d{4}$")
ASSUMED = (1.0, 1.0, 1.0)  # what nnU-Net takes without the file


def spacing_file_of(path: Path) -> Path | None:
    """The JSON file with the spacing of a TIFF, of its own name or of its name without the number of a channel.

    None if it does not exist, or the file of that name has no "spacing".

    Raises:
        VolumeError: a file of that name that is not JSON.
    """
    return _found(path)[0]


def files_beside(path: Path) -> tuple[Path, ...]:
    """The JSON file with the spacing of a TIFF, if there is one; nothing for files of other formats.

    A scan is another one when this file changes. A file that is not JSON is left out: reading the scan reports it.
    """
    row = format_of(path)
    if row is None or row.name != "TIFF":
        return ()
    try:
        beside = spacing_file_of(path)
    except VolumeError:
        return ()
    return () if beside is None else (beside,)


def spacing_file_names(path: Path) -> tuple[str, ...]:
    """The names that the JSON file of a TIFF may have, in the order in which they are looked for."""
    stem = stem_of(path)
    return tuple(f"{name}.json" for name in dict.fromkeys((stem, CHANNEL.sub("", stem))))


def _found(path: Path) -> tuple[Path | None, object]:
    """The JSON file and the spacing in it; None and None without one."""
    for name in spacing_file_names(path):
        beside = path.with_name(name)
        if beside.is_file() and KEY in (content := _content(beside)):
            return beside, content[KEY]
    return None, None


def spacing_beside(path: Path) -> tuple[float, float, float] | None:
    """The spacing in mm (z, y, x) in the JSON file beside a stack, or None if it does not exist.

    Raises:
        VolumeError: a file that is not JSON, or whose spacing is not three numbers above 0.
    """
    beside, stated = _found(path)
    if beside is None:
        return None
    numbers = stated if isinstance(stated, list) else []
    is_number = [isinstance(mm, (int, float)) and not isinstance(mm, bool) for mm in numbers]
    if len(numbers) != 3 or not all(is_number) or not all(math.isfinite(mm) and mm > 0 for mm in numbers):
        raise VolumeError(f"spacing {stated!r}", expected="three numbers above 0: z, y and x in mm", path=beside)
    z, y, x = map(float, numbers)
    return z, y, x


def with_spacing_beside(volume: Volume, path: Path) -> Volume:
    """A stack as nnU-Net reads it: with the spacing of the JSON file or 1 mm, whatever the TIFF itself states.

    Args:
        volume: as it was read.
        path: its (first) file; a volume of another format is returned as it is.

    Raises:
        VolumeError: see `spacing_beside`.
    """
    row = format_of(path)
    if row is None or row.name != "TIFF" or volume.spatial_dims != 3:
        return volume
    spacing = spacing_beside(path)
    if spacing is None and volume.spacing_mm != ASSUMED:
        warnings.warn(
            f"{path}: no JSON file with its spacing beside it; 1 mm is taken, as by nnU-Net, not {volume.spacing_mm} "
            "as the TIFF states",
            UserWarning,
            stacklevel=2,
        )
    return Volume(volume.array, spacing_mm=spacing or ASSUMED)


def write_spacing_file(volume: Volume, path: Path) -> Path:
    """Write the spacing of a 3-D volume as nnU-Net does; ``path`` ends with ``.json``."""
    return write_atomically(path, json.dumps({KEY: list(volume.spacing_mm)}) + "\n")


def _content(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise VolumeError(f"cannot be read as JSON ({reason})", expected='{"spacing": [z, y, x]}', path=path) from None
    return content if isinstance(content, dict) else {}
