"""Addresses of files and folders, local or in a store: ``s3://bucket/scans/a.nii.gz``."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from resvox.errors import StorageError, suggest

# Two letters at least, for C:/ is a drive. One slash is enough: pathlib makes s3:/bucket of s3://bucket.
URI = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):/+(?P<rest>.*)", re.DOTALL)
HUB = "hf"  # addresses of models, see `resvox.hub`
SECRETS = re.compile(r"(?<=//)[^/@\s]+@|\?\S*")  # user:password@, and the query of a signed address


@dataclass(frozen=True, kw_only=True)
class StoreKind:
    """A kind of store.

    Args:
        protocol: its name in fsspec.
        package: what has to be installed for it; "" where fsspec is enough.
        extra: the extra of resvox with this package.
        is_writable: whether results can be written there.
        is_conditional: whether one request can create an object on the condition that it does not exist.
    """

    protocol: str
    package: str = ""
    extra: str = ""
    is_writable: bool = True
    is_conditional: bool = True


KINDS = {
    "file": StoreKind(protocol="file"),
    "memory": StoreKind(protocol="memory"),
    "s3": StoreKind(protocol="s3", package="s3fs", extra="s3"),
    "gs": StoreKind(protocol="gs", package="gcsfs", extra="gcs"),
    "az": StoreKind(protocol="az", package="adlfs", extra="azure"),
    "abfs": StoreKind(protocol="abfs", package="adlfs", extra="azure"),
    "https": StoreKind(protocol="https", package="aiohttp", is_writable=False, is_conditional=False),
    "http": StoreKind(protocol="http", package="aiohttp", is_writable=False, is_conditional=False),
}
SAME = {"s3a": "s3", "gcs": "gs", "abfss": "abfs"}


@dataclass(frozen=True)
class Location:
    """A file, or a folder (a prefix of names) whose address ends with a slash.

    ``str()`` gives the address without passwords and queries, for messages and logs. ``uri`` is the address itself.
    """

    uri: str

    @classmethod
    def parse(cls, text: str | os.PathLike[str], *, beside: Location | None = None) -> Location:
        """The location that an address or a local path means.

        Args:
            text: an address, or a path.
            beside: a file in whose folder a relative path begins; None for the current folder.

        Raises:
            StorageError: an address of an unknown kind, or one without a name.
        """
        written = os.fspath(text)
        match = URI.fullmatch(written)
        if match is None:
            return cls._of_path(written, beside)
        scheme = match["scheme"].lower()
        scheme = SAME.get(scheme, scheme)
        if scheme not in KINDS:
            raise StorageError(
                f"an address with {match['scheme']}://",
                expected=", ".join(f"{each}://" for each in KINDS),
                fix=suggest(scheme, KINDS),
                path=SECRETS.sub("", written),
            )
        if scheme == "file":
            return cls(f"file:///{match['rest']}")
        if not match["rest"].strip("/"):
            raise StorageError(
                f"the address {written!r}", expected=f"a bucket and a name, such as {scheme}://bucket/name"
            )
        return cls(f"{scheme}://{match['rest']}")

    @classmethod
    def _of_path(cls, written: str, beside: Location | None) -> Location:
        if beside is not None and not os.path.isabs(written):
            return beside.folder / written
        end = "/" if written.endswith(("/", os.sep)) else ""
        return cls(f"file://{Path(written).expanduser().absolute().as_posix()}{end}")

    @property
    def scheme(self) -> str:
        """The kind of address, such as "s3"."""
        return self.uri.partition(":")[0]

    @property
    def kind(self) -> StoreKind:
        """The kind of store."""
        return KINDS[self.scheme]

    @property
    def local(self) -> Path | None:
        """The path of a local file or folder; None for all others."""
        return Path(self.uri.removeprefix("file://")) if self.scheme == "file" else None

    @property
    def name(self) -> str:
        """The last part of the address, without a query.

        Raises:
            StorageError: a part that would be a path as the name of a local file (``..%2Fx``).
        """
        plain = self._plain.rstrip("/").rpartition("/")[2]
        return plain if self.local is not None else self._as_file_name(unquote(plain) if self._is_web else plain)

    @property
    def is_folder(self) -> bool:
        """Whether the address ends with a slash."""
        return self._plain.endswith("/")

    @property
    def as_folder(self) -> Location:
        """The same address with a slash at its end."""
        return self if self.is_folder else Location(f"{self.uri}/")

    @property
    def folder(self) -> Location:
        """The folder of a file; of a folder itself."""
        return self if self.is_folder else Location(self._plain.rpartition("/")[0] + "/")

    def __truediv__(self, name: str) -> Location:
        return Location(f"{self.as_folder.uri}{name}")

    def beside(self, name: str) -> Location:
        """A file in the folder of this one, or below it, by its name as it would be in a local folder.

        Of a local file, the name may also be an absolute path.
        """
        if self.local is not None:
            return Location(f"file://{(self.local.parent / name).as_posix()}")
        return self.folder / (quote(name) if self._is_web else name)

    def below(self, folder: Location) -> str:
        """The path from a folder to this file in it or below it, as a name of local files.

        Raises:
            StorageError: a path that would lead elsewhere.
        """
        parts = self._plain.removeprefix(folder.as_folder.uri).split("/")
        return "/".join(self._as_file_name(unquote(part) if self._is_web else part) for part in parts)

    def _as_file_name(self, part: str) -> str:
        if part in ("", ".", "..") or "/" in part or "\0" in part:
            raise StorageError(f"the name {part[:80]!r}", expected="a name that a local file may have", path=str(self))
        return part

    @property
    def has_query(self) -> bool:
        """Whether it is the address of a web page with a query, such as a signature."""
        return self._is_web and "?" in self.uri

    @property
    def _is_web(self) -> bool:
        return self.scheme in ("http", "https")

    @property
    def _plain(self) -> str:
        return self.uri.partition("?")[0] if self._is_web else self.uri

    def __str__(self) -> str:
        local = self.local
        if local is not None:
            return str(local)
        return SECRETS.sub("", self.uri) if self._is_web else self.uri

    def __repr__(self) -> str:
        return f"Location({str(self)!r})"


def is_uri(source: Any) -> bool:
    """Whether a text, or a path made of one, is an address of a store (not of a hub)."""
    if not isinstance(source, (str, os.PathLike)):
        return False
    match = URI.fullmatch(os.fspath(source).replace("\\", "/"))
    return match is not None and match["scheme"].lower() != HUB
