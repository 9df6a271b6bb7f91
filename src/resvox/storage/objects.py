"""Files in stores: state, download, upload, creation without overwriting, listing. All through fsspec."""

from __future__ import annotations

import contextlib
import importlib
import os
import secrets
import shutil
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from resvox.errors import StorageError
from resvox.files import replacing
from resvox.storage.addresses import Location
from resvox.storage.failures import ShortReadError, refusal, retried

ETAGS = ("ETag", "etag", "Content-MD5", "md5Hash", "content_md5")  # by store, the best first
TIMES = ("LastModified", "last_modified", "updated", "Last-Modified", "mtime", "created")
WHOLE_BYTES = 64 << 20  # up to here an object is sent in one request, which can be conditional
_IN_MEMORY = threading.Lock()  # fsspec's store in memory looks first and writes then


@dataclass(frozen=True, kw_only=True)
class ObjectState:
    """What shows whether a file has changed: its ETag, or size and time where a store has none."""

    bytes: int | None
    etag: str = ""
    modified: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a record."""
        mark = {"etag": self.etag} if self.etag else {"modified": self.modified}
        return {"bytes": self.bytes, **mark}


def state_of_object(location: Location) -> ObjectState | None:
    """The state of a file; None if it does not exist.

    Raises:
        StorageError: the store does not answer or does not permit it.
    """
    local = location.local
    if local is not None:
        if not local.is_file():
            return None
        found = local.stat()
        return ObjectState(bytes=found.st_size, modified=f"{found.st_mtime:.6f}")
    fs, path = filesystem(location)
    try:
        info = retried(location, "read", lambda: fs.info(path))
    except FileNotFoundError:
        return None
    return None if info.get("type") == "directory" else _state(info)


def read_bytes(location: Location) -> bytes | None:
    """The contents of a small file; None if it does not exist.

    Raises:
        StorageError: it cannot be read.
    """
    local = location.local
    fs, path = filesystem(location)
    try:
        if local is not None:
            return retried(location, "read", local.read_bytes)
        content: bytes = retried(location, "read", lambda: fs.cat_file(path))
    except FileNotFoundError:
        return None
    return content


def read_beginning(location: Location, size: int) -> bytes:
    """The first bytes of a file, or all of a smaller one.

    Raises:
        StorageError: no such file, or it cannot be read.
    """
    local = location.local
    fs, path = filesystem(location)

    def once() -> bytes:
        if local is not None:
            with open(local, "rb") as file:
                return file.read(size)
        content: bytes = fs.cat_file(path, start=0, end=size)
        return content[:size]

    try:
        return retried(location, "read", once)
    except FileNotFoundError:
        raise missing(location) from None


def download(location: Location, target: Path, *, size: int | None = None) -> int:
    """Copy a file of a store to a new local file; the number of its bytes.

    Args:
        location: the file.
        target: is complete or not there.
        size: its bytes as the store announced them; another number of bytes is a cut connection and is tried again.

    Raises:
        StorageError: no such file, or it cannot be read.
    """
    fs, path = filesystem(location)

    def once() -> int:
        with replacing(target) as temporary:
            fs.get_file(path, str(temporary))
            got = temporary.stat().st_size
            if size is not None and got != size:
                raise ShortReadError(f"{got} bytes of {size}")
        return got

    try:
        return retried(location, "read", once)
    except FileNotFoundError:
        raise missing(location) from None


def upload(source: Path, location: Location) -> int:
    """Write a local file to a store, whole or not at all; the number of its bytes.

    Raises:
        StorageError: it cannot be written.
    """
    local = location.local
    size = source.stat().st_size
    if local is not None:
        with replacing(local) as temporary:
            shutil.copyfile(source, temporary)
        return size
    _check_writable(location)
    fs, path = filesystem(location)

    def once() -> None:
        # One request, or a multipart upload that is invisible before its end; both replace the object at once.
        if size <= WHOLE_BYTES:
            fs.pipe_file(path, source.read_bytes())
        else:
            fs.put_file(str(source), path)

    retried(location, "written", once)
    return size


def write_bytes(location: Location, content: bytes) -> None:
    """Write a small file, whole or not at all; one that is there is replaced.

    Raises:
        StorageError: it cannot be written.
    """
    local = location.local
    if local is not None:
        with replacing(local) as temporary:
            temporary.write_bytes(content)
        return
    _check_writable(location)
    fs, path = filesystem(location)
    retried(location, "written", lambda: fs.pipe_file(path, content))


def create(location: Location, content: bytes) -> bool:
    """Write a small file that does not exist yet; False if it exists, and then it stays as it is.

    Of several processes that try it at once, one gets True (``If-None-Match`` on stores that have it).

    Raises:
        StorageError: it cannot be written.
    """
    local = location.local
    if local is not None:
        return _create_file(local, content)
    _check_writable(location)
    fs, path = filesystem(location)
    try:
        with _IN_MEMORY if location.scheme == "memory" else contextlib.nullcontext():
            retried(location, "written", lambda: _conditional(fs, path, content))
    except FileExistsError:
        # A retry after a lost answer finds its own object.
        return read_bytes(location) == content
    return True


def _conditional(fs: Any, path: str, content: bytes) -> None:
    try:
        fs.pipe_file(path, content, mode="create")
    except OSError as error:
        # s3fs hands on 412 (there is one) and 409 (another process is creating it) as plain errors in some versions.
        words = f"{error} {error.__cause__}"
        if any(each in words for each in ("PreconditionFailed", "ConditionalRequestConflict", "412")):
            raise FileExistsError(path) from error
        raise


def _create_file(path: Path, content: bytes) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:80]}.{secrets.token_hex(4)}.partial")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)  # fails where there is one, on network file systems too
        except FileExistsError:
            return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def delete(location: Location) -> None:
    """Remove a file; nothing happens if it does not exist.

    Raises:
        StorageError: it cannot be removed.
    """
    local = location.local
    if local is not None:
        local.unlink(missing_ok=True)
        return
    fs, path = filesystem(location)
    with contextlib.suppress(FileNotFoundError):
        retried(location, "removed", lambda: fs.rm_file(path))


def listing(folder: Location) -> Iterator[tuple[Location, ObjectState]]:
    """The files below a folder with their states, one folder after the other, sorted within each.

    No more than the names of one folder are in memory.

    Raises:
        StorageError: it cannot be listed. Web servers have no listing.
    """
    if not folder.kind.is_conditional:
        raise StorageError(
            "a folder of a web server, which has no listing",
            expected="the address of a file",
            fix="a .zip or .tar of the series, or a manifest with the address of each scan",
            path=str(folder),
        )
    fs, path = filesystem(folder)
    local = folder.local
    if local is not None:
        yield from _local_listing(local)
        return
    try:
        entries = retried(folder, "listed", lambda: fs.ls(path.rstrip("/"), detail=True))
    except FileNotFoundError:
        return
    prefix = folder.as_folder
    for info in sorted(entries, key=lambda each: str(each["name"])):
        name = str(info["name"]).rstrip("/").rpartition("/")[2]
        if not name or str(info["name"]).rstrip("/") == path.rstrip("/"):
            continue  # the empty object that stands for the folder in some stores
        if info["type"] == "directory":
            yield from listing((prefix / name).as_folder)
        else:
            yield prefix / name, _state(info)


def _local_listing(folder: Path) -> Iterator[tuple[Location, ObjectState]]:
    if not folder.is_dir():
        return
    for each in sorted(folder.iterdir()):
        if each.name.startswith("."):
            continue
        if each.is_dir():
            yield from _local_listing(each)
        else:
            location = Location.parse(each)
            state = state_of_object(location)
            if state is not None:
                yield location, state


def filesystem(location: Location) -> tuple[Any, str]:
    """The file system of fsspec for a location, and the path in it.

    Raises:
        StorageError: its package is not installed.
    """
    import fsspec

    kind = location.kind
    if kind.package:
        try:
            importlib.import_module(kind.package)
        except ModuleNotFoundError as error:
            if error.name != kind.package:
                raise
            raise StorageError(
                f"an address of {location.scheme}://, and {kind.package} is not installed",
                expected=f"the extra {kind.extra!r}" if kind.extra else kind.package,
                fix=f"pip install 'resvox[{kind.extra}]'" if kind.extra else f"pip install {kind.package}",
                path=str(location),
            ) from None
    try:
        made = fsspec.get_filesystem_class(kind.protocol)
        # What was listed once may be old: others write into the same folder.
        fs = made(use_listings_cache=False, **made._get_kwargs_from_urls(location.uri))
    except Exception as error:
        raise refusal(location, "opened", error) from error
    return fs, str(made._strip_protocol(location.uri))


def missing(location: Location) -> StorageError:
    """The error of a file that is not there."""
    return StorageError("no such file", expected="the address of a file", path=str(location))


def _check_writable(location: Location) -> None:
    if not location.kind.is_writable:
        writable = ", ".join(f"{name}://" for name in ("file", "s3", "gs", "az"))
        raise StorageError("results on a web server", expected=f"a folder: {writable}", path=str(location))


def _state(info: Mapping[str, Any]) -> ObjectState:
    etag = next((str(info[key]) for key in ETAGS if info.get(key)), "")
    modified = next((_moment(info[key]) for key in TIMES if info.get(key)), "")
    size = info.get("size")
    return ObjectState(bytes=None if size is None else int(size), etag=etag.strip('"'), modified=modified)


def _moment(value: Any) -> str:
    """A time as seconds; fsspec gives the same one as a number or as a date, by the call."""
    if isinstance(value, datetime):
        value = value.timestamp()
    return f"{value:.6f}" if isinstance(value, (int, float)) else str(value)
