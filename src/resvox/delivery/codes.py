"""Label names to coded structures (SNOMED CT), as DICOM SEG and RTSTRUCT name them.

``structures.csv`` holds the table. Its codes and meanings are those of the context groups of DICOM PS3.16 (2024), and a
test compares every row with pydicom's copy of them.
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from resvox.errors import VolumeError

SCHEME = "SCT"
PRIVATE_SCHEME = "99RESVOX"  # codes that begin with 99 are private (PS3.16, section 8.2)
LONGEST_CODE = 16  # of a CodeValue
LONGEST_MEANING = 64  # of a CodeMeaning
SIDES = {"left": "left", "l": "left", "lt": "left", "right": "right", "r": "right", "rt": "right"}


@dataclass(frozen=True, kw_only=True)
class Code:
    """One coded concept: value, coding scheme and meaning."""

    value: str
    meaning: str
    scheme: str = SCHEME

    def __post_init__(self) -> None:
        for name, text, longest in (("value", self.value, LONGEST_CODE), ("meaning", self.meaning, LONGEST_MEANING)):
            if not text or len(text) > longest:
                raise VolumeError(
                    f"a code with {name} {text!r}", expected=f"1 to {longest} characters, as DICOM allows"
                )


@dataclass(frozen=True, kw_only=True)
class Structure:
    """What a label is: category, type and, for one of a pair, the side."""

    category: Code
    type: Code
    side: Code | None = None


CATEGORIES = {
    "anatomy": Code(value="91723000", meaning="Anatomical Structure"),
    "abnormality": Code(value="49755003", meaning="Morphologically Abnormal Structure"),
    "substance": Code(value="91720002", meaning="Body Substance"),
}
SIDE_CODES = {"left": Code(value="7771000", meaning="Left"), "right": Code(value="24028007", meaning="Right")}


def structure_of(name: str, given: Mapping[str, Any] | None = None) -> Structure:
    """The coded structure of a label.

    Args:
        name: the label's name: "left lung", "kidney_right", "Lung upper lobe left", "L1 vertebra".
        given: codes from the model card or the user, which win: ``{"type": {"value", "meaning", "scheme"},
            "category": ..., "side": "left"}``; parts that are left out come from the table.

    Returns:
        The table's row. A name that is not in the table becomes an anatomical structure with a private code that
        holds the name, so that it is not given another structure's code.

    Raises:
        VolumeError: a given code that is incomplete or too long.
    """
    found = _from_table(name)
    if given is None:
        return found
    side = given.get("side")
    if side is not None and side not in SIDE_CODES:
        raise VolumeError(f"side {side!r} of label {name!r}", expected="'left' or 'right'")
    return Structure(
        category=_given_code(name, "category", given) or found.category,
        type=_given_code(name, "type", given) or found.type,
        side=SIDE_CODES[side] if side else found.side,
    )


def _from_table(name: str) -> Structure:
    words = _words(name)
    table = _table()
    whole = table.get(" ".join(words))
    if whole is not None:
        return whole
    sides = {SIDES[word] for word in words if word in SIDES}
    rest = " ".join(word for word in words if word not in SIDES)
    row = table.get(rest) or table.get(_without_number(rest))
    side = SIDE_CODES[sides.pop()] if len(sides) == 1 else None
    if row is None:
        return Structure(category=CATEGORIES["anatomy"], type=_private(name), side=side)
    return Structure(category=row.category, type=row.type, side=side)


def _words(name: str) -> list[str]:
    """``Kidney_L`` and ``kidneyLeft`` as lower-case words."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return [word for word in re.split(r"[^a-z0-9]+", spaced.lower()) if word]


def _without_number(name: str) -> str:
    """``rib 7`` without its number, which SNOMED's general code does not hold; the label keeps it."""
    return re.sub(r" \d+$", "", name)


def _private(name: str) -> Code:
    import hashlib

    value = hashlib.sha256(name.encode()).hexdigest()[:LONGEST_CODE]
    return Code(value=value, meaning=name[:LONGEST_MEANING] or "unnamed", scheme=PRIVATE_SCHEME)


def _given_code(name: str, part: str, given: Mapping[str, Any]) -> Code | None:
    value = given.get(part)
    if value is None:
        return None
    try:
        return Code(value=str(value["value"]), meaning=str(value["meaning"]), scheme=str(value.get("scheme", SCHEME)))
    except (KeyError, TypeError, AttributeError) as error:
        raise VolumeError(
            f"{part} code {value!r} of label {name!r}",
            expected='{"value": "10200004", "meaning": "Liver", "scheme": "SCT"}',
        ) from error


@functools.cache
def _table() -> dict[str, Structure]:
    """Names and aliases to structures."""
    text = (resources.files("resvox.delivery") / "structures.csv").read_text(encoding="utf-8")
    found: dict[str, Structure] = {}
    for row in csv.DictReader(text.splitlines()):
        structure = Structure(
            category=CATEGORIES[row["category"]], type=Code(value=row["code"], meaning=row["meaning"][:LONGEST_MEANING])
        )
        for name in (row["name"], *filter(None, row["aliases"].split("|"))):
            found[" ".join(_words(name))] = structure
    return found
