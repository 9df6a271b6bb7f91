"""A bundle as a folder or as a zip: where its configuration, its metadata and its weights are."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from resvox.errors import WeightsError
from resvox.weights.bundle.configuration import METADATA, Configuration, configuration_files, read_object
from resvox.weights.formats import unpacking

WEIGHTS = "models/model.pt"
_NEEDED = re.compile(r"(?:.*/)?(?:configs/[^/]+\.(?:json|yaml|yml)|models/[^/]+\.pt|LICENSE[^/]*)")
_EXPECTED = "a zip of a bundle of MONAI: configs/metadata.json, configs/inference.json, models/model.pt"
_KEPT: list[tempfile.TemporaryDirectory[str]] = []  # unpacked zips, removed when the process ends


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle whose configuration was read; its weights and metadata are read when they are asked for.

    Attributes:
        path: its folder.
        configuration: ``configs/inference.json`` or ``.yaml``.
    """

    path: Path
    configuration: Configuration

    @staticmethod
    def read(path: Path) -> Bundle:
        """A bundle's folder, or the zip of one.

        Raises:
            WeightsError: a broken zip, no configuration, several, or one that cannot be read.
        """
        folder = path
        if path.is_file():
            state = path.stat()
            folder = _unpacked(path.resolve(), state.st_size, state.st_mtime_ns)
        return Bundle(path=folder, configuration=Configuration.read(folder))

    @property
    def weights(self) -> Path:
        """The file of the weights: ``models/model.pt``, or the one in that folder that ``modelname`` names.

        Raises:
            WeightsError: it is not there.
        """
        name = "model.pt"
        if "modelname" in self.configuration.values:
            name = str(self.configuration.value("modelname"))
            if PurePosixPath(name).name != name or "\\" in name:
                raise WeightsError(
                    f"modelname is {name!r}", expected="the name of a file in models", path=self.configuration.path
                )
        found = self.path / "models" / name
        if not found.is_file():
            raise WeightsError(
                f"a bundle without models/{name}",
                expected="the weights as PyTorch saved them",
                fix="download them: large_files.yml of the bundle has the address",
                path=self.path,
            )
        return found

    @property
    def metadata(self) -> dict[str, Any]:
        """What ``configs/metadata.json`` states.

        Raises:
            WeightsError: it is missing or cannot be read.
        """
        found = self.path / "configs" / METADATA
        if not found.is_file():
            raise WeightsError(
                f"a bundle without configs/{METADATA}",
                expected="network_data_format in it: the names of the labels and channels",
                path=self.path,
            )
        return read_object(found, "metadata")


def is_bundle(path: Path) -> bool:
    """Whether a path is a bundle of MONAI, or the zip of one."""
    if path.is_dir():
        return bool(configuration_files(path)) or (path / "configs" / METADATA).is_file()
    if not path.is_file() or path.suffix.lower() != ".zip":
        return False
    return any(_parts(name)[-2:] == ("configs", METADATA) for name in unpacking.names_in(path))


@lru_cache(maxsize=8)
def _unpacked(path: Path, size: int, moment: int) -> Path:
    """The folder to which a zip was unpacked; size and time are those of the zip, which is unpacked once."""
    inside = tempfile.TemporaryDirectory(prefix="resvox_bundle_")
    unpacking.unpack(path, Path(inside.name), lambda name: bool(_NEEDED.fullmatch(name)), expected=_EXPECTED)
    folders = sorted({each.parent.parent for each in Path(inside.name).glob(f"**/configs/{METADATA}")})
    if len(folders) != 1:
        raise WeightsError(f"a zip of {len(folders)} bundles", expected="one bundle", fix="unpack it", path=path)
    unpacking.note_archive(Path(inside.name), unpacking.Archive(path, size, moment))
    _KEPT.append(inside)
    return folders[0]


def _parts(name: str) -> tuple[str, ...]:
    return PurePosixPath(name.replace("\\", "/")).parts
