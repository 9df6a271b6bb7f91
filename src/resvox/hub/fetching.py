"""From an address to files in the cache of ``huggingface_hub``: downloaded once, then used without a network."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from resvox.errors import WeightsError
from resvox.files import sha256_of
from resvox.hub.address import HubAddress, is_address
from resvox.hub.client import errors_in_one_line, hub_module
from resvox.storage import is_uri

SAFE = (".safetensors",)
# In a repository without such files: weights of other libraries, and exported networks with what lies beside them.
OTHERS = (".pth", ".pt", ".pt2", ".bin", ".ckpt", ".keras", ".h5", ".hdf5", ".npz", ".onnx", ".xml")
BESIDE = (".json",)
TIMEOUT = 20.0  # seconds for the hub to answer


def local_path(source: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """The file or folder that a source means: itself, or where an address of a hub or a store lies in the cache.

    Raises:
        WeightsError: no such repository, revision or file, nothing in the cache without a network, a damaged file.
        StorageError: an address of a store (``s3://`` and others) that cannot be read.
    """
    if is_uri(source):
        from resvox.storage import cached

        return cached(source)
    return fetched(HubAddress.parse(source))[0] if is_address(source) else source


def pinned(source: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """The address with the commit that its revision is now, so that it means the same weights later; a path as it is.

    Raises:
        WeightsError: as in `local_path`.
    """
    if not is_address(source):
        return source
    address = HubAddress.parse(source)
    return str(replace(address, revision=fetched(address)[1]))


def fetched(address: HubAddress) -> tuple[Path, str]:
    """The files of an address in the cache, checked: the path of the file or folder, and the commit.

    Raises:
        WeightsError: as in `local_path`.
    """
    hub = hub_module(address)
    with errors_in_one_line(address):
        names = _names_on_hub(hub, address)
        snapshot = Path(
            hub.snapshot_download(
                address.repository,
                revision=address.revision,
                allow_patterns=list(_kept_patterns(address) if names is None else names),
                local_files_only=names is None,
            )
        )
    path = snapshot / address.inside
    if not path.exists():
        raise WeightsError(
            f"no {address.inside} in this revision",
            expected="one of " + ", ".join(sorted(_listing(snapshot))[:8]),
            path=str(address),
        )
    for file in [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file()):
        check_whole(file, address)
    return path, snapshot.name


def _names_on_hub(hub: Any, address: HubAddress) -> tuple[str, ...] | None:
    """The files of the repository that are wanted; None where the hub cannot be asked, so that the cache is used."""
    kinds = ("OfflineModeIsEnabled", "ConnectError", "ConnectionError", "ConnectTimeout", "ReadTimeout", "Timeout")
    try:
        # one request; list_repo_files would try for half a minute where there is no network
        info = hub.HfApi().model_info(address.repository, revision=address.revision, timeout=TIMEOUT)
    except Exception as error:  # the classes differ between versions of huggingface_hub, their names do not
        if any(kind.__name__ in kinds for kind in type(error).__mro__):
            return None
        raise
    return wanted_files([each.rfilename for each in info.siblings or ()], address)


def _kept_patterns(address: HubAddress) -> tuple[str, ...]:
    """What of a repository has to be in the cache where the hub cannot be asked: not its README, for one."""
    if not address.inside:
        return tuple(f"*{ending}" for ending in SAFE)
    return (address.inside, *(f"{address.inside}/*{ending}" for ending in SAFE))


def wanted_files(found: Sequence[str], address: HubAddress) -> tuple[str, ...]:
    """Choose the files that a model needs: safetensors where there are some, and what describes them.

    Raises:
        WeightsError: a file or folder that the repository does not have, or no file of weights.
    """
    below = [
        name for name in found if not address.inside or name == address.inside or name.startswith(f"{address.inside}/")
    ]
    if address.inside in below:
        return (address.inside,)
    endings = SAFE if any(name.endswith(SAFE) for name in below) else OTHERS
    weights = [name for name in below if name.lower().endswith(endings)]
    if not weights:
        raise WeightsError(
            f"no file of weights in {address.inside or 'the repository'}",
            expected="a model.safetensors or weights of a known kind",
            fix="it has " + ", ".join(sorted(found)[:8]) if found else "",
            path=str(address),
        )
    stems = tuple(f"{name.rsplit('.', 1)[0]}." for name in weights)
    return (*weights, *(name for name in below if name.endswith((*BESIDE, ".bin")) and name.startswith(stems)))


def check_whole(file: Path, address: HubAddress) -> None:
    """Check a file of the cache by the digest that it is named after.

    The cache keeps each file once under the digest that the hub gave: SHA-256 for large ones, git's SHA-1 for small
    ones. Where a file system has no links, files have their own names, and there is nothing to compare with.

    Raises:
        WeightsError: another content than was published.
    """
    blob = file.resolve()
    wanted = blob.name
    if len(wanted) == 64 and set(wanted) <= set("0123456789abcdef"):
        found = sha256_of(blob)
    elif len(wanted) == 40 and set(wanted) <= set("0123456789abcdef"):
        content = blob.read_bytes()
        found = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    else:
        return
    if found != wanted:
        raise WeightsError(
            f"{file.name} is damaged in the cache (its digest is {found[:12]}..., not {wanted[:12]}...)",
            expected="the file as it was published",
            fix=f"delete {blob} and do it again",
            path=str(address),
        )


def _listing(snapshot: Path) -> list[str]:
    return [each.relative_to(snapshot).as_posix() for each in snapshot.rglob("*") if each.is_file()]
