"""A manifest: one row per scan, with its address; CSV, JSON Lines or Parquet, read row by row."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resvox.errors import DatasetError, StorageError
from resvox.storage.addresses import Location
from resvox.storage.archives import is_archive, stem_of_archive

CSV, LINES, PARQUET = (".csv", ".tsv"), (".jsonl", ".ndjson"), (".parquet",)
ENDINGS = (*CSV, *LINES, *PARQUET)
SEPARATORS = ",;\t|"
URI, ID, SIZES, ETAG = "uri", "id", ("bytes", "size"), "etag"
CHANNEL = re.compile(r"uri_(?P<channel>\w+)")
UNFIT = re.compile(r"[/\\\x00-\x1f]|^\.")  # in the name of a result
LONGEST_ID = 180  # letters: endings come behind it, and a file system has 255 bytes
ROWS_AT_ONCE = 2048  # of Parquet
LONGEST_CELL = 1 << 24


@dataclass(frozen=True, kw_only=True)
class Row:
    """A scan of a manifest.

    Args:
        number: its place, from 1 on.
        id: its name, and that of its result.
        uris: its address, or one per channel.
        bytes: its size, where the manifest has one.
        etag: its ETag, where the manifest has one; it saves a request per scan that is done.
        extra: the other columns; they go into the status rows.
        problem: why it cannot be used; "" for a good row.
    """

    number: int
    id: str
    uris: tuple[str, ...]
    bytes: int | None = None
    etag: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


def is_manifest_name(name: str) -> bool:
    """Whether a file is a manifest by its name."""
    return name.lower().endswith(ENDINGS)


def has_addresses(path: Path) -> bool:
    """Whether a local file is a manifest of addresses, and not one of another kind (images with their classes)."""
    if not is_manifest_name(path.name) or not path.is_file():
        return False
    if not path.name.lower().endswith(CSV):
        return True
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            names = _header(file.readline())
    except UnicodeDecodeError:
        return False
    return any(name == URI or CHANNEL.fullmatch(name) for name in names)


class Manifest:
    """The rows of a local copy of a manifest.

    Args:
        path: the local file.
        source: where it came from; relative addresses begin in its folder.
        channel_names: of the model: columns of these names (or ``uri_<name>``) hold one address per channel.

    Raises:
        DatasetError: a file without rows of addresses.
    """

    def __init__(self, path: Path, *, source: Location | None = None, channel_names: Sequence[str] = ()) -> None:
        self.path, self.source = path, source or Location.parse(path)
        self.channel_names = tuple(name.lower() for name in channel_names)
        first = next(iter(self._cells()), None)
        if first is None:
            raise DatasetError("no rows", expected="a row per scan", path=str(self.source))
        self._columns(first)

    def __iter__(self) -> Iterator[Row]:
        for number, cells in enumerate(self._cells(), 1):
            yield self._row(number, cells)

    def count(self) -> int:
        """How many rows there are."""
        if self.path.name.lower().endswith(PARQUET):
            return int(_parquet(self.path, self.source).metadata.num_rows)
        return sum(1 for _ in self._cells())

    def _cells(self) -> Iterator[dict[str, Any]]:
        name = self.path.name.lower()
        if name.endswith(PARQUET):
            return _parquet_rows(self.path, self.source)
        return _csv_rows(self.path, self.source) if name.endswith(CSV) else _json_rows(self.path, self.source)

    def _columns(self, cells: Mapping[str, Any]) -> list[str]:
        """The columns with addresses, in the order of the channels."""
        if URI in cells:
            return [URI]
        named = {name: name for name in cells if name in self.channel_names}
        named |= {match["channel"]: name for name in cells if (match := CHANNEL.fullmatch(name))}
        if self.channel_names and set(self.channel_names) <= set(named):
            return [named[name] for name in self.channel_names]
        numbered = sorted(name for name in named if name.isdigit())
        if numbered:
            return [named[name] for name in sorted(numbered, key=int)]
        channels = ", ".join(f"uri_{name}" for name in self.channel_names)
        raise DatasetError(
            f"columns {', '.join(map(str, cells)) or 'without names'}",
            expected="a column uri" + (f", or one per channel: {channels}" if len(self.channel_names) > 1 else ""),
            path=str(self.source),
        )

    def _row(self, number: int, cells: dict[str, Any]) -> Row:
        columns = self._columns(cells)
        written = [str(cells[name] or "").strip() for name in columns]
        size = next((cells[name] for name in SIZES if cells.get(name) not in (None, "")), None)
        name = str(cells.get(ID) or "").strip() or _name(written[0])
        used = {*columns, ID, ETAG, *SIZES}
        problem = ""
        if not all(written):
            problem = f"row {number} of {self.source} has no {columns[written.index('')]}"
        elif UNFIT.search(name) or len(name) > LONGEST_ID:
            problem = f"row {number} of {self.source} has the id {name[:80]!r}, which is no name of a file"
        uris: tuple[str, ...] = ()
        if not problem:
            try:
                uris = tuple(Location.parse(each, beside=self.source).uri for each in written)
            except StorageError as error:
                problem = f"row {number} of {self.source}: {error.text}"
        return Row(
            number=number,
            id=name if not problem else f"row-{number}",
            uris=uris,
            bytes=_whole(size),
            etag=str(cells.get(ETAG) or "").strip('" ') if len(columns) == 1 else "",
            extra={key: value for key, value in cells.items() if key not in used},
            problem=problem,
        )


def _name(written: str) -> str:
    try:
        return name_of(written)
    except StorageError:
        return "unknown"


def name_of(address: str) -> str:
    """The name of a case by its address."""
    from resvox.volumes.formats import stem_of

    name = Location.parse(address).name if address else ""
    return stem_of_archive(name) if is_archive(name) else stem_of(name).removesuffix("_0000")


def _header(line: str) -> list[str]:
    separator = max(SEPARATORS, key=line.count)
    return [name.strip().lower() for name in next(csv.reader([line.strip()], delimiter=separator), [])]


def _csv_rows(path: Path, source: Location) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(LONGEST_CELL)
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            line = file.readline()
            names = _header(line)
            rows = csv.reader(file, delimiter=max(SEPARATORS, key=line.count))
            for row in rows:
                if row:
                    yield dict(zip(names, [*row, *[""] * (len(names) - len(row))], strict=False))
        except UnicodeDecodeError as error:
            raise _not_text(source) from error
        except csv.Error as error:
            raise DatasetError(f"line {rows.line_num}: {error}", expected="CSV", path=str(source)) from error


def _json_rows(path: Path, source: Location) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig") as file:
        try:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _object(line, number, source)
        except UnicodeDecodeError as error:
            raise _not_text(source) from error


def _object(line: str, number: int, source: Location) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise DatasetError(f"line {number}: {error}", expected="a JSON object per line", path=str(source)) from error
    if not isinstance(found, dict):
        raise DatasetError(f"line {number}: {line.strip()[:40]}", expected="a JSON object per line", path=str(source))
    return {str(key).lower(): value for key, value in found.items()}


def _parquet(path: Path, source: Location) -> Any:
    try:
        from pyarrow import ArrowException, parquet
    except ModuleNotFoundError:
        raise DatasetError(
            "a Parquet file, and pyarrow is not installed",
            expected="the extra 'parquet'",
            fix="pip install 'resvox[parquet]'",
            path=str(source),
        ) from None
    try:
        return parquet.ParquetFile(path)
    except (ArrowException, OSError) as error:
        words = (str(error).splitlines() or [""])[0]
        raise DatasetError(f"not Parquet ({words})", expected="a Parquet file", path=str(source)) from error


def _parquet_rows(path: Path, source: Location) -> Iterator[dict[str, Any]]:
    for batch in _parquet(path, source).iter_batches(batch_size=ROWS_AT_ONCE):
        rows: Iterable[dict[str, Any]] = batch.to_pylist()
        for row in rows:
            yield {str(key).lower(): value for key, value in row.items()}


def _not_text(source: Location) -> DatasetError:
    return DatasetError("not UTF-8", expected="a text in UTF-8", fix="save it as CSV UTF-8", path=str(source))


def _whole(value: Any) -> int | None:
    try:
        return None if value is None else int(float(value))
    except (TypeError, ValueError, OverflowError):
        return None
