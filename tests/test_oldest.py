"""oldest.txt pins every lower bound of pyproject.toml, so that `make test-oldest` tests what the package promises."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
NEW = {"torch", "torchvision"}  # installed at the versions of constraints.txt
TOOLS = {"mypy", "ruff", "types-pyyaml"}  # `make check` alone uses them
MADE = {"tensorflow-cpu"}  # named in the Makefile, which installs it without its dependencies
FAR = {"tptbox"}  # installed without its dependencies, for its images, at the version of constraints.txt
STORES = {
    "s3fs",
    "gcsfs",
    "adlfs",
    "ray",
}  # each wants its own version of fsspec; `make test-fleet` uses them, where it can


def bounds(text):
    """Every requirement with a lower bound that a pyproject.toml names, by canonical name."""
    named = map(Requirement, re.findall(r'"([A-Za-z][\w.-]*>=[\d.]+)"', text))
    return {canonicalize_name(each.name): Version(next(iter(each.specifier)).version) for each in named}


def pins(text):
    """``name==version`` of each line, by canonical name."""
    return {
        canonicalize_name(name): Version(version) for name, version in re.findall(r"^([\w.-]+)==([\w.]+)", text, re.M)
    }


PROMISED = bounds(
    (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("[project]")[1].split("[project.scripts]")[0]
)
PINNED = pins((ROOT / "oldest.txt").read_text(encoding="utf-8"))
WITH = pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))


def is_first_of(pinned, bound):
    """Whether a version is the bound, or a later patch of it where that release was never made or is withdrawn."""
    return pinned >= bound and pinned.release[: len(bound.release)] == bound.release[: len(pinned.release)]


def test_the_reader_sees_the_bounds():
    assert {"numpy", "simpleitk", "keras", "jax", "tensorflow-cpu", "openvino", "pytest", "torch"} <= set(PROMISED)
    assert bounds('a = [\n  "x-y>=1.2",\n  "resvox[z]",\n]\nb = ["Q>=3", "w>=0.1.2"]') == {
        "x-y": Version("1.2"),
        "q": Version("3"),
        "w": Version("0.1.2"),
    }
    assert is_first_of(Version("1.11.1"), Version("1.11"))
    assert is_first_of(Version("8.0.0"), Version("8"))
    assert not is_first_of(Version("1.12.0"), Version("1.11"))
    assert not is_first_of(Version("1.10"), Version("1.11"))


@pytest.mark.parametrize("name", sorted(set(PROMISED) - NEW - TOOLS - MADE - FAR - STORES))
def test_a_lower_bound_is_what_is_tested(name):
    assert name in PINNED, (
        f"pyproject.toml asks for {name}>={PROMISED[name]}; expected {name}=={PROMISED[name]} in oldest.txt"
    )
    assert is_first_of(PINNED[name], PROMISED[name])


@pytest.mark.parametrize("name", sorted(NEW))
def test_torch_is_the_one_at_hand(name):
    assert PINNED[name] == WITH[name]


@pytest.mark.parametrize("name", sorted(MADE))
def test_what_the_makefile_names_is_the_lower_bound(name):
    version = re.search(rf"{name}==([\d.]+)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert version is not None
    assert is_first_of(Version(version[1]), PROMISED[name])
