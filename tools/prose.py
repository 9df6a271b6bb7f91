"""Count phrases that make the text of this project hard to read, in one checkout or in two side by side.

    python tools/prose.py              # this checkout: every place and its replacement; exit status 1 if there is one
    python tools/prose.py OLD .        # a table of the counts per folder, for two checkouts

Comments, docstrings, error messages, names and documentation are searched alike. A phrase may run over a line break.
What is searched for, and what to write instead, is the table ``HABITS``; places where such a phrase is right are in
``ALLOWED``.
"""

from __future__ import annotations

import argparse
import ast
import pathlib
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

FOLDERS = ("src", "drop-in/src", "tests", "tools", "benchmarks", "docs")
PAGES = ("README.md", "CONTRIBUTING.md")
ENDINGS = (".py", ".md")
# This file and its test contain the phrases; generated pages and files of earlier versions are not written by hand.
SKIPPED = ("tools/prose.py", "tests/tools/test_prose.py", "tests/old_files/", "docs/models.md")
# What may stand between two words: blanks, and in a wrapped line also quotes, a comment sign, the prefix of a string.
GAP = r"""(?:\s+(?:["']\s+)?(?:\#:?\s+)?(?:[frb]{0,2}["'])?)"""
COUNTED = (
    "one|two|three|four|five|values?|seconds|bytes|megabytes|MB|GB|GiB|MiB|ms|entries|entry|lines?|rows?|numbers?|"
    "files?|folders?|process|processes|masks?|once|pixels|weights?|sides?|pairs?|colours?|dicts?|scores?|steps?|"
    "bits|strings?|tensors?|keys?|rules?|tables?|words?|sums?|windows"
)
UNIT = (
    "channel|label|case|class|stage|voxel|axis|level|member|sample|file|volume|image|step|side|task|verb|row|kind|"
    "folder|name|scan|line|call|block|model|layer|window|device|process|thread|column|epoch|series|peer|variant|package|"
    "slice|tensor|network|format|framework|test|command|batch|pixel|fold|format|position|number|value|entry|item"
)


@dataclass(frozen=True, kw_only=True)
class Habit:
    """A phrase to avoid: its pattern (a blank matches any ``GAP``) and what to write instead."""

    pattern: str
    instead: str
    is_in_tests: bool = False  # whether tests are searched too; the names of their local variables are free

    def search(self, text: str) -> Iterator[re.Match[str]]:
        """Places of this phrase in a text."""
        return re.finditer(self.pattern.replace(" ", GAP), text)


@dataclass(frozen=True, kw_only=True)
class Place:
    """A place where a habit was found."""

    path: str
    line: int
    habit: str
    text: str


HABITS = {
    "one a channel": Habit(
        pattern=rf"\b(?:{COUNTED}) an? (?:{UNIT})\b(?! of)(?!-)", instead="one per channel", is_in_tests=True
    ),
    "is none": Habit(pattern=r"(?<![Tt]here) (?:is|are|was|were|be) none\b(?! of)", instead="is not one; is rejected"),
    "where there is none": Habit(
        pattern=r"(?:[Ww]here|[Ii]f) there (?:is|are) none\b(?! of)", instead="if it does not exist", is_in_tests=True
    ),
    "of no": Habit(
        pattern=r"\bof no (?:network|class|label|task|case|model|peer)\b",
        instead="not part of any network",
        is_in_tests=True,
    ),
    "told": Habit(
        pattern=r"(?<![A-Za-z])(?:un)?told(?![a-z])|\b(?:tells?|telling)\b(?!\()", instead="given, shows, distinguishes"
    ),
    "said": Habit(pattern=r"\b(?:said|says|saying|sayings)\b", instead="states, is given, is written"),
    "ours": Habit(
        pattern=r"\bof ours\b|\b(?:[Nn]obody|[Ss]omebody|[Ww]hoever|heirs?|strangers?|everybody)\b",
        instead="this library's; no caller; subclasses; unknown files",
        is_in_tests=True,
    ),
    "house": Habit(
        pattern=r"(?<![A-Za-z])(?:[Rr]ooms?|[Hh]ouses?|[Dd]oors?|[Ff]loors? (?:above|below|up|down))(?![a-z])",
        instead="package, module, architecture",
        is_in_tests=True,
    ),
    "die": Habit(
        pattern=r"\b(?:[Dd]ies|[Dd]ied|[Dd]ie|birth|dying)\b", instead="raises, ends, is killed", is_in_tests=True
    ),
    "headless": Habit(pattern=r'"""Of ', instead="a whole sentence", is_in_tests=True),
    "names": Habit(
        pattern=r"\b(?:room_of|telling_slice|hush|the_core|_lies|to_beat|nothing_untold|habits?|hears?|heard)\b",
        instead="the field's term (see docs/architecture.md)",
    ),
}
# (file, phrase as it is written) pairs that are right as they are.
ALLOWED = frozenset(
    {
        # an earlier public name, and the key in model files
        ("src/resvox/weights/report.py", "untold"),
        ("src/resvox/cli/convert.py", "untold"),
        # comments of plan.yaml, which are part of the file format
        ("src/resvox/training/plans/base.py", "one a channel"),
    }
)


def files_of(checkout: pathlib.Path) -> list[pathlib.Path]:
    """The files of a checkout that are searched, as paths below it."""
    paths = [checkout / page for page in PAGES]
    for folder in FOLDERS:
        paths += sorted(path for path in (checkout / folder).rglob("*") if path.suffix in ENDINGS)
    below = [path.relative_to(checkout) for path in paths if path.is_file()]
    return [path for path in below if not path.as_posix().startswith(SKIPPED) and "assets" not in path.parts]


def short_docstrings(text: str) -> Iterator[tuple[int, str]]:
    """Docstrings of one or two words, which need the code around them to mean anything."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)):
            docstring = ast.get_docstring(node)
            if docstring is not None and len(docstring.split()) < 3:
                yield node.body[0].lineno, docstring


def places_in(checkout: pathlib.Path, path: pathlib.Path) -> Iterator[Place]:
    """Every place of a file where a habit is found and not allowed."""
    text = (checkout / path).read_text(encoding="utf-8")
    name = path.as_posix()
    rows = {habit: row for habit, row in HABITS.items() if row.is_in_tests or not name.startswith("tests/")}
    for habit, row in rows.items():
        for match in row.search(text):
            found = " ".join(match.group().split())
            if (name, found) not in ALLOWED:
                yield Place(path=name, line=text.count("\n", 0, match.start()) + 1, habit=habit, text=found)
    if path.suffix == ".py":
        for line, docstring in short_docstrings(text):
            if (name, docstring) not in ALLOWED:
                yield Place(path=name, line=line, habit="headless", text=docstring)


def places_of(checkout: pathlib.Path) -> list[Place]:
    """Every place of a checkout where a habit is found and not allowed."""
    return [place for path in files_of(checkout) for place in places_in(checkout, path)]


def folder_of(place: Place) -> str:
    """The package or folder that a place is counted for."""
    parts = pathlib.PurePosixPath(place.path).parts
    return "/".join(parts[: 3 if parts[0] == "src" and len(parts) > 3 else 1])


def table_of(checkouts: list[pathlib.Path]) -> str:
    """Counts per folder and per habit as a Markdown table, a column for each checkout."""
    found = [places_of(checkout) for checkout in checkouts]
    rows = [("folder or phrase", *(f"{checkout}" for checkout in checkouts))]
    for key in (folder_of, lambda place: f'"{place.habit}"'):
        counts = [Counter(map(key, places)) for places in found]
        rows += [(name, *(str(count[name]) for count in counts)) for name in sorted(set().union(*counts))]
    rows.append(("all", *(str(len(places)) for places in found)))
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def main() -> int:
    """Print the places of one checkout, or a table of several; 1 if a single checkout has such a place."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="*", type=pathlib.Path, help="folders with a checkout; this one by default")
    checkouts: list[pathlib.Path] = parser.parse_args().checkouts or [pathlib.Path(__file__).resolve().parents[1]]
    if len(checkouts) > 1:
        print(table_of(checkouts))
        return 0
    places = places_of(checkouts[0])
    for place in places:
        print(f"{place.path}:{place.line}: {place.text!r}: write {HABITS[place.habit].instead!r}")
    return int(bool(places))


if __name__ == "__main__":
    sys.exit(main())
