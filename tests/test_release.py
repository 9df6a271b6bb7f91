"""What a release states about itself is the same everywhere, and its packages hold what they need."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import yaml

import resvox

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest needs it there

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DROP_IN = tomllib.loads((ROOT / "drop-in" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
VERSION = runpy.run_path(str(ROOT / "src" / "resvox" / "_version.py"))["__version__"]


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    newest = re.findall(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)[0]
    assert resvox.__version__ == VERSION == DROP_IN["version"] == citation["version"] == newest
    assert DROP_IN["dependencies"] == [f"resvox[keras]>={VERSION}"]
    assert citation["license"] == PROJECT["project"]["license"]


def test_packages_are_typed():
    for marker in ("src/resvox", "drop-in/src/medicai", "drop-in/src/resnet3d"):
        assert (ROOT / marker / "py.typed").is_file()


def test_the_viewers_script_is_part_of_wheel_and_source_archive():
    targets = PROJECT["tool"]["hatch"]["build"]["targets"]
    for target in ("wheel", "sdist"):
        assert "src/resvox/viewer/assets/niivue.umd.js" in targets[target]["artifacts"]
