"""Random damage: of bytes, of the values of a JSON or YAML document, of the cells of a table. All by one generator."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

WORDS = ["", " ", "0", "1", "-1", "1.5", "nan", "None", "../..", "/", "\0", "a" * 300, "x;y", "größe", "左", "train",
         "CT", "a.nii.gz", '"', ",", "\n", "1e400", "9" * 400]  # fmt: skip
VALUES: list[Any] = [None, True, False, 0, 1, -1, 2, 255, 65536, 2**31, 2**64, 10**400, 0.5, 1e300, float("nan"),
                     float("inf"), [], {}, [[]], [None], {"": None}, [0, 1], {"0": "a"}, {"a": 0}, *WORDS]  # fmt: skip
BYTES = [0, 1, 2, 7, 10, 13, 32, 34, 44, 58, 59, 91, 123, 127, 128, 192, 254, 255]
NUMBERS = [
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    0x7F800000,
    0x7FC00000,
]


def mutate_bytes(data: bytes, rng: Random, *, head: int = 0) -> bytes:
    """One to eight changes: flipped bits, extreme numbers, pieces cut out, repeated, moved or overwritten.

    Args:
        head: so many first bytes are damaged more often than others, where a format has its header.
    """
    found = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 8])):
        if not found:
            return b""
        end = min(head, len(found)) if head and rng.random() < 0.7 else len(found)
        at = rng.randrange(end)
        length = rng.choice([1, 2, 4, 8, 16, 100])
        kind = rng.randrange(8)
        if kind == 0:
            found[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            found[at] = rng.choice(BYTES)
        elif kind == 2:
            size = rng.choice([1, 2, 4, 8])
            number = rng.choice(NUMBERS) & (2 ** (8 * size) - 1)
            found[at : at + size] = number.to_bytes(size, rng.choice(["little", "big"]))
        elif kind == 3:
            del found[at : at + length]
        elif kind == 4:
            found[at:at] = found[at : at + length]
        elif kind == 5:
            found[at:at] = rng.randbytes(length)
        elif kind == 6:
            found[at : at + length] = rng.randbytes(min(length, len(found) - at))
        elif rng.random() < 0.3:
            del found[at:]
    return bytes(found)


def mutate_document(document: Any, rng: Random) -> Any:
    """One to four changes of a nested document: values replaced, removed, moved, repeated; keys renamed or added."""
    changed = copy.deepcopy(document)
    for _ in range(rng.choice([1, 1, 2, 4])):
        places = list(_places(changed))
        if not places:
            return rng.choice(VALUES)
        parent, key = rng.choice(places)
        kind = rng.randrange(7)
        if kind <= 1:
            parent[key] = copy.deepcopy(rng.choice(VALUES))
        elif kind == 2:
            del parent[key]
        elif kind == 3:
            other, at = rng.choice(places)
            if _has(other, at) and _depth(other[at]) < 12:
                parent[key] = copy.deepcopy(other[at])
        elif kind == 4 and isinstance(parent, dict):
            parent[rng.choice([*WORDS, key.upper() if isinstance(key, str) else key])] = parent.pop(key)
        elif kind == 5:
            parent[key] = [parent[key]]
        elif isinstance(parent, list):
            parent.insert(rng.randrange(len(parent) + 1), copy.deepcopy(rng.choice([*VALUES, *parent])))
        else:
            parent[rng.choice(WORDS)] = copy.deepcopy(rng.choice(VALUES))
    return changed


def mutate_json(text: bytes, rng: Random) -> bytes:
    """A changed document, its bytes damaged, or another encoding."""
    if rng.random() < 0.25:
        return mutate_bytes(text, rng)
    written = json.dumps(mutate_document(json.loads(text), rng), ensure_ascii=rng.random() < 0.5)
    if rng.random() < 0.1 and "{" in written:  # one key two times
        at = written.index("{") + 1
        written = (
            written[:at] + written[at : at + written[at:].find(",") + 1] + written[at:] if "{" in written else written
        )
    return _encoded(written, rng)


def mutate_table(text: bytes, rng: Random) -> bytes:
    """A table with changed cells, rows, columns and separators, its bytes damaged, or another encoding."""
    if rng.random() < 0.25:
        return mutate_bytes(text, rng)
    rows = [line.split(",") for line in text.decode().splitlines()]
    for _ in range(rng.choice([1, 1, 2, 4])):
        row = rng.choice(rows)
        at = rng.randrange(len(row)) if row else 0
        kind = rng.randrange(9)
        if kind <= 1 and row:
            row[at] = rng.choice([*WORDS, *(cell for each in rows for cell in each)])
        elif kind == 2 and row:
            del row[at]
        elif kind == 3:
            row.insert(at, rng.choice(WORDS))
        elif kind == 4:
            rows.insert(rng.randrange(len(rows) + 1), list(row))
        elif kind == 5 and len(rows) > 1:
            rows.remove(row)
        elif kind == 6 and row:
            for each in filter(None, rows):
                each.insert(at, each.pop(rng.randrange(len(each))))
        elif kind == 7 and rows[0]:
            rows[0][rng.randrange(len(rows[0]))] = rng.choice(
                ["group", "patient", "fold", "split", "id", "Image", "LABEL "]
            )
        elif rows[0]:
            for each in rows:
                if at < len(each):
                    del each[at]
    separator = rng.choice(",,,;\t")
    cells = ([f'"{cell}"' if separator in cell and rng.random() < 0.9 else cell for cell in row] for row in rows)
    return _encoded(rng.choice(["\n", "\r\n", "\r"]).join(separator.join(row) for row in cells), rng)


def _places(document: Any) -> Any:
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in items:
        yield document, key
        yield from _places(value)


def _has(parent: Any, key: Any) -> bool:
    return key in parent if isinstance(parent, dict) else 0 <= key < len(parent)


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)


def _encoded(text: str, rng: Random) -> bytes:
    encoding = rng.choice(["utf-8"] * 6 + ["utf-8-sig", "utf-16", "utf-16-le", "cp1252", "latin-1"])
    return text.encode(encoding, errors="replace")
