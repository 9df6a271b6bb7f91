"""Text files as editors and spreadsheets save them: UTF-8, UTF-16 with or without a mark, Windows-1252."""

from __future__ import annotations

import codecs
from pathlib import Path

from resvox.errors import DatasetError

LARGEST_BYTES = 256 * 2**20  # a list of a million cases; more is another kind of file
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: Path) -> str:
    """The text of a file, line ends unchanged. Without a mark it is UTF-8; where it is not, Windows-1252.

    Raises:
        DatasetError: the file cannot be opened, or is not text in any of these encodings.
    """
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise DatasetError(f"{path.stat().st_size} bytes", expected="a text file", path=path)
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"cannot be opened ({error.strerror})", expected="a text file", path=path) from error
    for encoding in _encodings(data):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise DatasetError(
        "not a text file that can be read",
        expected="text in UTF-8 (also UTF-16 or Windows-1252)",
        fix="save it as CSV UTF-8" if path.suffix.lower() != ".json" else "save it as UTF-8",
        path=path,
    )


def _encodings(data: bytes) -> tuple[str, ...]:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return (encoding,)
    if b"\0" in data[:200]:  # UTF-16 without its mark: every other byte of plain text is 0
        return ("utf-16-be",) if data[:1] == b"\0" else ("utf-16-le",)
    return ("utf-8", "cp1252")
