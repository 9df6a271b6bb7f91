"""A CSV manifest, read once for every task: encoding, separator, columns, paths, splits and groups."""

from __future__ import annotations

import csv
import difflib
import io
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from resvox.datasets.channel_files import own_names
from resvox.datasets.encodings import read_text
from resvox.datasets.splits import NAMED, fold_splits, read_split
from resvox.errors import DatasetError

SEPARATORS = ",;\t|"
GROUPS = ("group", "patient", "patient_id", "subject", "subject_id", "person")
OPTIONAL = ("id", "split", "fold", *GROUPS)
ENDINGS = (".csv", ".tsv")
_WORKBOOKS = (".xlsx", ".xls", ".ods")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One case of a manifest.

    Args:
        line: its line in the file, from 1 on; errors name it.
        id: from the column "id", otherwise from the name of its first image.
        files: the files of each column that was asked for, e.g. ``{"image": (...), "label": (...)}``.
        words: the text of each other column that was asked for.
        split: its part, from the columns "split" or "fold"; None for an empty cell.
        group: from "group", "patient" or "subject"; None for an empty cell.
    """

    line: int
    id: str
    files: dict[str, tuple[Path, ...]]
    words: dict[str, str]
    split: str | None
    group: str | None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The rows of a manifest, and why its validation cases validate."""

    path: Path
    rows: tuple[Row, ...]
    named: str


def is_manifest(path: Path) -> bool:
    """Whether a file's name promises a manifest.

    Raises:
        DatasetError: a workbook of a spreadsheet program.
    """
    if path.suffix.lower() in _WORKBOOKS:
        raise DatasetError("a workbook", expected="a .csv file", fix="save it as CSV UTF-8", path=path)
    return path.suffix.lower() in ENDINGS


def read_manifest(
    path: Path,
    *,
    files: Sequence[str],
    words: Sequence[str] = (),
    optional: Sequence[str] = (),
    additional: Sequence[str] = (),
) -> Manifest:
    """Read a manifest. Names of columns are compared without regard to case and spaces, in any order.

    Args:
        files: columns that name files, e.g. ``("image", "label")``. Each may be split into ``image_0``,
            ``image_1``, ..., or hold several names with ``;`` between them, relative to the manifest's folder.
        words: columns whose text is taken as it is.
        optional: those of both that may have empty cells.
        additional: columns of words that need not be there; their words are then empty.

    Raises:
        DatasetError: not a table of text; a missing column or file, a row that is too long or names no file, an
            unknown split. The message names the line.
    """
    table, separator = _table(path)
    if not table:
        raise DatasetError("an empty file", expected=_expected(files, words), path=path)
    columns = [_plain(cell) for cell in table[0][1]]
    found = _columns(columns, files, words, additional, table[0][1], path)
    rows = [
        _row(line, dict(zip(columns, cells, strict=False)), found, (*words, *additional), optional, path)
        for line, cells in _full_rows(table[1:], columns, separator, path)
    ]
    if not rows:
        raise DatasetError("no rows", expected="one row per case", path=path)
    names = own_names([row.files[files[0]][0] for row in rows])
    rows = [row if row.id else replace(row, id=name) for row, name in zip(rows, names, strict=True)]
    return _with_folds(path, rows, table, columns)


def _table(path: Path) -> tuple[list[tuple[int, list[str]]], str]:
    """The rows that are not empty, each with its line, and the separator of their cells."""
    text = read_text(path)
    lines = text.lstrip("\n\r").splitlines()
    skipped = 0
    separator = ""
    if lines and (first := re.fullmatch(r'"?sep=(.)"?', lines[0].strip(), re.IGNORECASE)):
        separator, skipped = first[1], 1  # a first line that Excel writes
    head = next((line for line in lines[skipped:] if line.strip()), "")
    separator = separator or max(SEPARATORS, key=lambda each: (_outside_quotes(head, each), -SEPARATORS.index(each)))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    table: list[tuple[int, list[str]]] = []
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped) and not (skipped and not table and reader.line_num == 1):
                table.append((reader.line_num, stripped))
    except csv.Error as error:
        raise DatasetError(
            f"not CSV in line {max(reader.line_num, 1)} ({error})", expected="a table of text", path=path
        ) from error
    return table, separator


def _outside_quotes(line: str, separator: str) -> int:
    return re.sub(r'"[^"]*"', "", line).count(separator)


def _plain(name: str) -> str:
    return re.sub(r"[\s\-]+", "_", name.strip().lower())


def _expected(files: Sequence[str], words: Sequence[str]) -> str:
    first, *others = files
    rest = [*(f"{name} (or {name}_0, {name}_1, ...)" if name == "target" else name for name in others), *words]
    return f"{first} (or {first}_0, {first}_1, ...), {', '.join(rest)} and optionally split, id and group"


def _columns(
    columns: list[str],
    files: Sequence[str],
    words: Sequence[str],
    additional: Sequence[str],
    written: list[str],
    path: Path,
) -> dict[str, list[str]]:
    """The columns of each kind of file, in the order of their numbers."""
    twice = [name for name, count in Counter(columns).items() if count > 1 and name]
    found: dict[str, list[str]] = {}
    for name in files:
        numbered = [column for column in columns if re.fullmatch(rf"{name}_\d{{1,4}}", column)]
        found[name] = [name] if name in columns else sorted(numbered, key=lambda column: int(column.rsplit("_")[-1]))
    if not all(found.values()) or not set(words) <= set(columns):
        raise DatasetError(f"columns {', '.join(written)[:200]}", expected=_expected(files, words), path=path)
    used = {column for names in found.values() for column in names} | {*words, *additional, *OPTIONAL}
    for name in twice:
        if name in used:
            raise DatasetError(f"two columns are called {name!r}", expected="each column once", path=path)
    for column in columns:
        meant = difflib.get_close_matches(column, [name for name in used if name not in columns], n=1, cutoff=0.75)
        if column not in used and meant:
            warnings.warn(f"{path}: column {column!r} is not used (is {meant[0]!r} meant?)", UserWarning, stacklevel=3)
    return found


def _full_rows(
    rows: list[tuple[int, list[str]]], columns: list[str], separator: str, path: Path
) -> list[tuple[int, list[str]]]:
    for line, cells in rows:
        if any(cells[len(columns) :]):
            raise DatasetError(
                f"line {line} has {len(cells)} cells",
                expected=f"{len(columns)}, as the first line has",
                fix=f'put a cell that holds "{separator}" between double quotes',
                path=path,
            )
    return rows


def _row(
    line: int,
    cells: dict[str, str],
    found: dict[str, list[str]],
    words: Sequence[str],
    optional: Sequence[str],
    path: Path,
) -> Row:
    files = {name: _files(cells, columns, name, line, path) for name, columns in found.items()}
    first = next(iter(found))
    for name, paths in files.items():
        if not paths and name not in optional:
            raise DatasetError(f"line {line} names no {name}", expected=f"a path in the {name} column", path=path)
    if len(found[first]) > 1 and len(files[first]) not in (1, len(found[first])):
        raise DatasetError(
            f"line {line} names {len(files[first])} files in {', '.join(found[first])}",
            expected="one in each, or one that holds all channels",
            path=path,
        )
    return Row(
        line=line,
        id=cells.get("id", ""),
        files=files,
        words={name: cells.get(name, "") for name in words},
        split=read_split(cells.get("split", ""), where=f"line {line}", path=path),
        group=next((cells[name] for name in GROUPS if cells.get(name)), None),
    )


def _files(cells: dict[str, str], columns: list[str], kind: str, line: int, path: Path) -> tuple[Path, ...]:
    names = [name.strip() for column in columns for name in cells.get(column, "").split(";") if name.strip()]
    return tuple(find_file(path.parent, name, f"{kind} file (line {line} of {path.name})", path) for name in names)


def find_file(folder: Path, name: str, what: str, source: Path) -> Path:
    """The file that ``name``, written in ``source``, stands for; backslashes are taken for slashes where that helps.

    Raises:
        DatasetError: there is no such file or folder.
    """
    if "\0" in name:
        raise DatasetError(f"no {what}: {name!r}", expected="the path of a file", path=source)
    for written in (name, name.replace("\\", "/")):
        path = folder / Path(written).expanduser() if written.startswith("~/") else folder / written
        try:
            if path.exists():
                return path
        except OSError as error:  # a name that is too long, a folder that may not be entered
            raise DatasetError(
                f"no {what}: {name[:80]!r} ({error.strerror})", expected="the path of a file", path=source
            ) from error
    is_link = (folder / name).is_symlink()
    raise DatasetError(
        f"no {what}" + (": the link leads to nothing" if is_link else ""),
        expected=f"the path of a file, relative to the folder of {source.name}",
        path=folder / name,
    )


def _with_folds(path: Path, rows: list[Row], table: list[tuple[int, list[str]]], columns: list[str]) -> Manifest:
    """The rows with their splits; taken from a column "fold" if there is no column "split"."""
    if "fold" not in columns or any(row.split in ("train", "validation") for row in rows):
        return Manifest(path=path, rows=tuple(rows), named=NAMED)
    at = columns.index("fold")
    numbers: list[int | None] = []
    for line, cells in table[1:]:
        text = cells[at] if at < len(cells) else ""
        if text and not re.fullmatch(r"\d{1,6}(\.0+)?", text):
            raise DatasetError(f"fold {text!r} (line {line})", expected="a whole number", path=path)
        numbers.append(int(float(text)) if text else None)
    inside = [(row, number) for row, number in zip(rows, numbers, strict=True) if row.split != "test"]
    if not any(number is not None for _, number in inside):
        return Manifest(path=path, rows=tuple(rows), named=NAMED)
    splits, named = fold_splits([number for _, number in inside], path)
    by_line = {row.line: split for (row, _), split in zip(inside, splits, strict=True)}
    marked = tuple(replace(row, split=by_line.get(row.line, row.split)) for row in rows)
    return Manifest(path=path, rows=marked, named=named)
