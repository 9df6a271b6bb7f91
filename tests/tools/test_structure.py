"""tools/structure.py counts what it says it counts, on a package that is written for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "structure.py"
PLANTED = {
    "__init__.py": "",
    "errors.py": "",
    "volumes/__init__.py": "from resvox.errors import ResvoxError",
    "volumes/a.py": "from resvox.volumes.b import B",
    "volumes/b.py": "if TYPE_CHECKING:\n    from resvox.volumes.a import A\n    from resvox.cli import app",
    "training/__init__.py": "TABLE = {'segmentation': 1, 'regression': 2}\nOTHER = {'loss': 'regression'}",
    "training/c.py": (
        "import resvox\nMEMORY_GB = 2.5\n"
        "def f(task, *, memory_gb=2.5, other=2.5):\n"
        '    """One\n    two."""\n'
        "    if task == 'regression' or task in ('segmentation', 'x'):\n        return {'classification': 1}[task]\n"
        "    match task:\n        case 'classification':\n            return 'regression'\n"
        "    return isinstance(task, RegressionPlan)\n"
    ),
    "cli/__init__.py": "def g(self, a, b, c, d, e, f, g, h, i, j, *, k=1): pass",
    "cli/long.py": 'def long():\n    """One\n    two."""\n' + "    x = 1\n" * 60
    + 'def short():\n    """One\n    two."""\n' + "    x = 1\n" * 59,
}  # fmt: skip
FIGURES = {
    "modules": "9",
    "files in the fullest folder": "3",
    "lines of the longest file": "125",
    "import circles, type-only imports counted": "1",
    "arrows that run up": "1",
    "`import resvox` inside the package": "1",
    "tests of a task's name outside tables": "4 in 1 files",
    "tables with a row for each task": "1",
    "isinstance on a task's class": "1",
    "functions": "4",
    "functions over 60 lines": "1",
    "parameter lists over 10": "1",
    "spellings of `memory_gb`'s default": "2",
}


@pytest.fixture
def checkout(tmp_path):
    for place, text in PLANTED.items():
        path = tmp_path / "old/src/resvox" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "old"


def run(*words):
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, words)], capture_output=True, text=True)


def test_what_is_planted_is_counted(checkout):
    done = run(checkout)
    assert done.returncode == 0, done.stderr
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines() if line[:2] == "| "
    ]
    found = dict(rows[1:])
    assert {title: found[title] for title in FIGURES} == FIGURES
    assert "`volumes.a <-> volumes.b`" in done.stdout
    assert "`volumes/b.py:3 -> cli`" in done.stdout
    assert "`cli/long.py:long 61`" in done.stdout


def test_two_checkouts_give_two_columns(checkout, tmp_path):
    page = tmp_path / "page.md"
    done = run(checkout, checkout, "--out", page)
    assert done.returncode == 0, done.stderr
    assert page.read_text() == done.stdout
    assert "| figure | before (no commit) | after (no commit) |" in done.stdout
    assert "| modules | 9 | 9 |" in done.stdout


def test_what_cannot_be_measured_is_said(checkout, tmp_path):
    assert "no Python files" in run(tmp_path).stderr
    (checkout / "src/resvox/attic.py").write_text("")
    assert "attic: not in LAYERS" in run(checkout).stderr


def test_every_package_has_a_layer():
    package = SCRIPT.parents[1] / "src" / "resvox"
    found = {
        path.name.removesuffix(".py")
        for path in package.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    layers = SCRIPT.read_text().split("LAYERS = (")[1].split("\n)\n")[0]
    assert {name for name in found if f'"{name}"' not in layers} == {"__init__"}
