"""The zip of a model that ``nnUNetv2_export_model_to_zip`` writes: its names are checked, its sizes are bounded."""

from __future__ import annotations

import os
import re
import shutil
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from resvox.errors import WeightsError
from resvox.weights.formats.archives import check_members, open_zip

MAX_MEMBERS = 100_000
# what a prediction needs; pictures and logs of the training stay in the zip
_NEEDED = re.compile(r"(?:.*/)?(?:plans\.json|dataset\.json|plans\.pkl|postprocessing\.json)")
_EXPECTED = "a zip that nnUNetv2_export_model_to_zip wrote"


def holds_plans(path: Path) -> bool:
    """Whether a file is a zip with the plans of an nnU-Net model in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(PurePosixPath(name).name in ("plans.json", "plans.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError):
        return False


def unpack(path: Path, into: Path, checkpoint: str) -> None:
    """Write plans, dataset and checkpoints of a zip below a folder.

    Raises:
        WeightsError: not a zip, a broken one, one with a member that would leave the folder or that grows more than a
            hundredfold.
    """
    try:
        with open(path, "rb") as file, open_zip(file, path) as archive:
            infos = archive.infolist()
            if len(infos) > MAX_MEMBERS:
                raise WeightsError(f"a zip of {len(infos)} members", expected=_EXPECTED, path=path)
            check_members(archive, os.fstat(file.fileno()).st_size, path)
            for info in infos:
                _refuse_escape(info.filename, path)
            for info in infos:
                if not info.is_dir() and _is_needed(info.filename, checkpoint):
                    _extract(archive, info, into, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise WeightsError(f"could not be unpacked ({reason})", expected=_EXPECTED, path=path) from error


def _is_needed(name: str, checkpoint: str) -> bool:
    found = PurePosixPath(name)
    return bool(_NEEDED.fullmatch(name)) or (found.name == checkpoint and found.parent.name.startswith("fold_"))


def _refuse_escape(name: str, path: Path) -> None:
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in name:
        raise WeightsError(
            f"a zip with the member {name[:100]!r}",
            expected="names below its own folder",
            fix="do not use this file: unpacked elsewhere it would write outside its folder",
            path=path,
        )


def _extract(archive: zipfile.ZipFile, info: zipfile.ZipInfo, into: Path, path: Path) -> None:
    target = into.joinpath(*PurePosixPath(info.filename.replace("\\", "/")).parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with archive.open(info) as member, open(target, "xb") as file:  # zipfile stops at the size that it claims
            shutil.copyfileobj(member, file, 2**20)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise WeightsError(
            f"a broken {info.filename[:80]} ({str(error)[:100]!r})", expected="a whole file", path=path
        ) from error
