"""From the inputs of a command to rows: manifests, single addresses, folders that are listed."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from resvox.errors import InferenceError
from resvox.fleet.manifest import Manifest, Row, has_addresses, is_manifest_name, name_of
from resvox.storage.addresses import Location, is_uri
from resvox.storage.archives import is_archive
from resvox.storage.objects import download, listing, read_beginning, state_of_object

Input = str | os.PathLike[str]
DICOM_BYTES = 132  # preamble and mark
NOT_DICOM = ("README", "CHANGES", "LICENSE", "LICENCE", "COPYING", "AUTHORS", "CITATION", "DICOMDIR")


def is_for_fleet(inputs: Sequence[Input], out: Input) -> bool:
    """Whether a prediction reads or writes addresses, or has a manifest of addresses."""
    return is_uri(out) or any(is_uri(each) or has_addresses(Path(each)) for each in inputs)


class Rows:
    """The rows of all inputs; gone through as often as wanted.

    Args:
        inputs: addresses and local paths.
        folder: for local copies of manifests: a stream over days would be cut.
        channel_names: of the model.

    Raises:
        StorageError, DatasetError: a manifest that cannot be read. InferenceError: an input without scans.
    """

    def __init__(self, inputs: Sequence[Input], folder: Path, *, channel_names: Sequence[str]) -> None:
        self._parts: list[Manifest | list[Row]] = []
        for number, each in enumerate(inputs):
            location = Location.parse(each)
            if is_manifest_name(location.name):
                local = location.local
                if local is None:
                    local = folder / f"manifest_{number}_{location.name}"
                    download(location, local)
                self._parts.append(Manifest(local, source=location, channel_names=channel_names))
            else:
                self._parts.append(_rows_at(location, len(channel_names)))
        if not inputs:
            raise InferenceError("no inputs", expected="addresses of scans, or a manifest")

    def __iter__(self) -> Iterator[Row]:
        return itertools.chain.from_iterable(self._parts)

    def count(self) -> int:
        """How many rows there are."""
        return sum(len(part) if isinstance(part, list) else part.count() for part in self._parts)


def _rows_at(location: Location, channels: int) -> list[Row]:
    """The scan of an address, or those below a folder."""
    from resvox.volumes.formats import is_image

    is_file = is_archive(location.name) or is_image(location.name) or not location.kind.is_conditional
    if not location.is_folder and (is_file or state_of_object(location) is not None):
        return [Row(number=1, id=name_of(location.uri), uris=(location.uri,))]
    folder = location.as_folder
    found = list(_scans_below(folder, channels))
    if not found:
        raise InferenceError(
            "no scans below this folder", expected="images, archives or DICOM series", path=str(folder)
        )
    return [
        Row(number=number, id=name, uris=uris) for number, (name, uris) in enumerate(_named(found, folder), start=1)
    ]


def _scans_below(folder: Location, channels: int) -> Iterator[tuple[str, ...]]:
    """The addresses of each scan: images and archives are one each, a folder of other files is a DICOM series."""
    from resvox.volumes.formats import is_image

    folders: dict[str, list[Location]] = {}
    for location, _ in listing(folder):  # files and folders of one level come in one alphabet
        folders.setdefault(location.folder.uri, []).append(location)
    for below, files in folders.items():
        single = [each for each in files if is_archive(each.name) or is_image(each.name)]
        yield from _grouped(single, channels)
        if _has_dicom([each for each in files if each not in single]):
            yield (below,)


def _has_dicom(files: Sequence[Location]) -> bool:
    """Whether a folder holds a DICOM series: by an ending of DICOM, or by the first file without any ending."""
    from resvox.volumes.formats import is_dicom_name

    if any(is_dicom_name(each.name) for each in files):
        return True
    unnamed = [each for each in files if "." not in each.name or each.name.replace(".", "").isdigit()]
    candidates = [each for each in unnamed if each.name.upper() not in NOT_DICOM]
    return bool(candidates) and _begins_as_dicom(read_beginning(candidates[0], DICOM_BYTES))


def _begins_as_dicom(head: bytes) -> bool:
    """The mark after the preamble, or a first element of group 0002 or 0008 as in files without one."""
    return head[128:132] == b"DICM" or head[:2] in (b"\x02\x00", b"\x08\x00")


def _grouped(files: Iterable[Location], channels: int) -> Iterator[tuple[str, ...]]:
    """Files ``x_0000``, ``x_0001``, ... as the channels of one scan, where the model has several."""
    from resvox.volumes.cases import CHANNEL_SUFFIX
    from resvox.volumes.formats import stem_of

    if channels == 1:
        yield from ((each.uri,) for each in files)
        return
    groups: dict[str, list[str]] = {}
    for each in files:
        match = CHANNEL_SUFFIX.match(stem_of(each.name))
        groups.setdefault(match["case"] if match else each.name, []).append(each.uri)
    yield from (tuple(sorted(uris)) for uris in groups.values())


def _named(found: Sequence[tuple[str, ...]], folder: Location) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Scans with names; those of the same name get their folders in front."""
    names = [name_of(uris[0]) for uris in found]
    taken = {name for name, count in Counter(names).items() if count > 1}
    for name, uris in zip(names, found, strict=True):
        below = Location.parse(uris[0]).uri.removeprefix(folder.uri).strip("/").split("/")[:-1]
        yield ("_".join([*below, name]) if name in taken else name), uris
