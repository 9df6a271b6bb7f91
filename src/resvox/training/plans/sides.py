"""Labels that name a side of the body, and the axes that may be mirrored without swapping them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

# Words of English, Latin and the abbreviations of radiology; words of more than three letters count inside others.
SIDES = {
    "S": ("superior", "inferior", "upper", "lower", "cranial", "caudal", "kranial", "kaudal"),
    "P": ("anterior", "posterior", "ventral", "dorsal"),
    "L": ("left", "right", "l", "r", "lt", "rt", "lh", "rh", "sin", "dex", "sinister", "dexter", "sx", "dx", "izq",
          "der", "lll", "lul", "rll", "rml", "rul", "llobe", "rlobe"),
}  # fmt: skip
# How words of other languages begin, without accents.
BEGINNINGS = {
    "S": ("superi", "inferi", "ober", "unter", "bovenste", "onderste", "ovre", "nedre", "gorn", "doln", "верхн",
          "нижн"),
    "P": ("anteri", "posteri", "vorder", "hinter", "voorste", "achterste", "predn", "zadn", "передн", "задн"),
    "L": ("links", "linke", "rechts", "rechte", "gauche", "droit", "izquierd", "derech", "sinistr", "destr", "dextr",
          "esquerd", "direit", "vanster", "venstre", "hoger", "hojre", "hoyre", "lewy", "lewa", "lewe",
          "prawy", "prawa", "prawe", "levy", "leva ", "leve ", "prava", "pravy", "prave", "vasen", "oikea", "jobb",
          "stang", "drept", "αριστερ", "δεξι", "лев", "прав", "يسار", "يمين", "يسرى", "يمنى", "שמאל", "ימין"),
}  # fmt: skip
CHARACTERS = {"S": "上下", "P": "前后後", "L": "左右왼오좌우"}
# Abbreviations that mean a side only where both stand for one structure: "rein_G" and "rein_D".
PAIRS = (
    ("l", "r"), ("g", "d"), ("i", "d"), ("e", "d"), ("s", "d"), ("li", "re"), ("v", "h"), ("sol", "sag"),
)  # fmt: skip
OPPOSITES = {"I": "S", "A": "P", "R": "L"}


def names_a_side(names: Sequence[str], words: Sequence[str]) -> bool:
    """Whether any label name contains one of the words, e.g. ``left`` in "left lung" or ``l`` in "kidney_L".

    Long words count inside others ("leftlung"); short ones only alone: "l", but not "liver" or the vertebra "L1".
    """
    for name in names:
        tokens = _tokens(name)
        if any(word in tokens or (len(word) > 3 and word in " ".join(tokens)) for word in words):
            return True
    return False


def sides_named(names: Sequence[str]) -> set[str]:
    """The axes of the body (S, P, L) along which label names distinguish structures, in any of many languages."""
    found = {letter for letter, words in SIDES.items() if names_a_side(names, words)}
    texts = [" ".join(_tokens(name)) + " " for name in names]
    for letter, beginnings in BEGINNINGS.items():
        if any(f" {beginning}" in f" {text}" for text in texts for beginning in beginnings):
            found.add(letter)
    for letter, characters in CHARACTERS.items():
        if any(character in name for name in names for character in characters):
            found.add(letter)
    if "L" not in found and _has_pair(names):
        found.add("L")
    return found


def safe_mirror_axes(names: Sequence[str], orientation: str | None, spatial_dims: int) -> tuple[int, ...]:
    """Axes whose mirroring cannot turn one label into another, judged by the labels' names.

    A dataset with "left lung" and "right lung" must not be mirrored from left to right. Without an
    orientation it is unknown which axis that is, and any named side switches all mirroring off.
    """
    named = sides_named(names)
    if orientation is None:
        return () if named else tuple(range(spatial_dims))
    return tuple(axis for axis, code in enumerate(orientation) if OPPOSITES.get(code, code) not in named)


def _tokens(name: str) -> list[str]:
    """The words of a name in lower case without accents; "LKidney" and "kidneyL" are two words each."""
    plain = "".join(each for each in unicodedata.normalize("NFKD", name) if not unicodedata.combining(each))
    spaced = re.sub(r"(?<=[^\W\d_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", plain)
    return [token for token in re.split(r"[\W_]+", spaced.replace("ø", "o").replace("Ø", "O").lower()) if token]


def _has_pair(names: Sequence[str]) -> bool:
    """Whether two names differ in a side alone: "Lkidney" and "Rkidney", "Niere li" and "Niere re"."""
    tokens = {tuple(_tokens(name)) for name in names}
    lowered = {name.lower() for name in names}
    for words in tokens:
        for at, word in enumerate(words):
            for one, other in PAIRS:
                if word == one and (*words[:at], other, *words[at + 1 :]) in tokens:
                    return True
    return any(
        name[:at] + "r" + name[at + 1 :] in lowered
        for name in lowered
        for at, letter in enumerate(name)
        if letter == "l"
    )
