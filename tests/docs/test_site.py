"""The site without MkDocs: its navigation names every page, and every link between files leads somewhere."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+\s+(.*)$", re.MULTILINE)


def made_pages(name: str) -> dict[str, str]:
    """A table of tools/site/hooks.py, read without importing MkDocs."""
    tree = ast.parse((ROOT / "tools" / "site" / "hooks.py").read_text(encoding="utf-8"))
    found = [node for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name]
    return ast.literal_eval(found[0].value)


def site_tool(name: str):
    """A module of tools/site that needs no MkDocs."""
    spec = importlib.util.spec_from_file_location(f"site_tool_{name}", ROOT / "tools" / "site" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def pages_in(nav) -> list[str]:
    """The pages that a navigation names, in order."""
    if isinstance(nav, str):
        return [nav]
    return [page for item in nav for page in pages_in(list(item.values()) if isinstance(item, dict) else item)]


def text_of(path: Path) -> str:
    if path.suffix == ".ipynb":
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return FENCED.sub("", path.read_text(encoding="utf-8"))


def slug(heading: str) -> str:
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain))


def broken_links(path: Path) -> list[str]:
    """Links of a page to files or headings that do not exist."""
    wrong = []
    for target in LINK.findall(CODE.sub("", text_of(path))):
        if re.match(r"[a-z]+:", target):
            continue
        place, _, anchor = unquote(target).partition("#")
        file = (path.parent / place).resolve() if place else path
        if path.suffix == ".ipynb" and not file.exists():
            file = file.with_suffix(".ipynb")
        if not file.exists():
            wrong.append(f"{path.name}: {target}")
        elif anchor and file.suffix == ".md" and anchor not in set(map(slug, HEADING.findall(text_of(file)))):
            wrong.append(f"{path.name}: {target}: no such heading")
    return wrong


WRITTEN = [
    *sorted(DOCS.rglob("*.md")), *sorted(DOCS.rglob("*.ipynb")), *sorted((ROOT / "benchmarks").glob("*.md")),
    *(ROOT / name for name in sorted(set(made_pages("ELSEWHERE").values()))),
]  # fmt: skip


def test_the_navigation_names_every_page_once():
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    named = pages_in(nav)
    there = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    there |= {path.relative_to(DOCS).with_suffix(".md").as_posix() for path in DOCS.rglob("*.ipynb")}
    there |= {*made_pages("ELSEWHERE"), "reference/", "benchmarks/"}
    assert sorted(named) == sorted(there), "mkdocs.yml names each page of docs/ once"


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path):
    assert path.is_file()
    assert broken_links(path) == []


def test_a_broken_link_is_seen(tmp_path):
    (tmp_path / "b.md").write_text("# One `name` here\n")
    page = tmp_path / "a.md"
    page.write_text(
        "[x](b.md) [y](c.md) [z](b.md#one-name-here) [w](b.md#two) [v](https://host/)\n```\n[q](d.md)\n```\n"
    )
    assert broken_links(page) == ["a.md: c.md", "a.md: b.md#two: no such heading"]


@pytest.mark.parametrize("page", ["nnunet.md", "index.md", "tutorials/nnunet.md"])
def test_a_notebook_is_linked_by_its_page_which_alone_links_to_its_file(page):
    there = {"nnunet.md", "index.md", "tutorials/nnunet.md", "tutorials/nnunet.ipynb", "tutorials/train.md"}
    source = {"nnunet.md": "(tutorials/", "index.md": "(docs/tutorials/", "tutorials/nnunet.md": "("}[page]
    text = f"[a]{source}nnunet.ipynb#top) [b]{source}train.ipynb) [c]{source}none.ipynb)"
    made = site_tool("links").between_pages(text, page, made_pages("ELSEWHERE"), there.__contains__)
    folder = "" if page.startswith("tutorials/") else "tutorials/"
    own = "ipynb" if page == "tutorials/nnunet.md" else "md"
    assert made == f"[a]({folder}nnunet.{own}#top) [b]({folder}train.md) [c]{source}none.ipynb)"


def test_the_check_of_the_built_site_sees_links_to_files_of_notebooks(tmp_path):
    (tmp_path / "tutorials").mkdir()
    (tmp_path / "tutorials" / "a.ipynb").write_text("{}")
    (tmp_path / "tutorials" / "a.html").write_text('<a href="a.ipynb">download it</a>')
    (tmp_path / "index.html").write_text('<a href="tutorials/a.html">good</a> <a href="tutorials/a.ipynb">bad</a>')
    found = list(site_tool("check_links").problems(tmp_path))
    assert found == ["index.html: tutorials/a.ipynb is the file of a notebook, not its page"]


def test_notebooks_are_kept_without_outputs():
    for path in DOCS.rglob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells), path.name
        for number, cell in enumerate(cells):
            if cell["cell_type"] == "code":
                compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec")


def test_the_reference_names_packages_with_public_names():
    for name in made_pages("REFERENCE"):
        place = ROOT / "src" / name.replace(".", "/")
        assert place.is_dir() or place.with_suffix(".py").is_file(), name


def test_the_site_asks_nothing_of_a_network():
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert config["theme"]["font"] is False
    assert config["strict"] is True
    assert "extra_javascript" not in config
    assert "extra_css" not in config
