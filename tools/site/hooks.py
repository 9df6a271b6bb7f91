"""Hooks of MkDocs: pages made from other files of the repository, outputs of snippets, executed notebooks."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import logging
import os
import posixpath
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
SITE = Path(__file__).resolve().parent
# Pages of the site that are files elsewhere in the repository.
ELSEWHERE = {
    "index.md": "README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
}
# Public packages, with what a reader looks for in them.
REFERENCE = {
    "resvox": "Networks, weights and walkthroughs",
    "resvox.workflow": "The commands as functions",
    "resvox.volumes": "Images and scans",
    "resvox.preprocessing": "Preparation and its inverse",
    "resvox.datasets": "Datasets",
    "resvox.training": "Training",
    "resvox.inference": "Windows and engines",
    "resvox.evaluation": "Scores",
    "resvox.weights": "Weights and model files",
    "resvox.torch": "Networks in PyTorch",
    "resvox.keras": "Networks in Keras",
    "resvox.blueprint": "Blueprints",
    "resvox.errors": "Errors",
}
SEARCH = "assets/search_frame.js"
# The theme's way to search pages that are opened from a folder comes from a network; SEARCH stands in its place.
SHIM = "https://unpkg.com/iframe-worker/shim"
ROLE = re.compile(r":(?:func|class|meth|mod|attr|data):(?=<code>)")


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"resvox_site_{name}", SITE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


snippets, notebooks, links = _load("snippets"), _load("notebooks"), _load("links")
# For work on the looks of the site: RESVOX_SITE_EXECUTE=0 leaves snippets and notebooks without outputs.
EXECUTES = os.environ.get("RESVOX_SITE_EXECUTE") != "0"


def is_of_interest(record: logging.LogRecord) -> bool:
    """False for griffe's warning about ``__all__`` of `resvox.keras`, which ends with the names of a table."""
    return "Unsupported item in resvox.keras.__all__" not in record.getMessage()


logging.getLogger("mkdocs.plugins.griffe").addFilter(is_of_interest)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages that are made into the navigation, where it names their folders."""
    made = {
        "reference/": [{title: f"reference/{name}.md"} for name, title in REFERENCE.items()],
        "benchmarks/": [f"benchmarks/{path.name}" for path in benchmarks()],
    }
    config.nav = [{title: made.get(where, where) if isinstance(where, str) else where for title, where in item.items()}
                  for item in config.nav or []]  # fmt: skip
    return config


def benchmarks() -> list[Path]:
    """The tables of the benchmarks."""
    return sorted((ROOT / "benchmarks").glob("*.md"))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made, and execute the notebooks."""
    texts = {page: (ROOT / source).read_text(encoding="utf-8") for page, source in ELSEWHERE.items()}
    texts |= {f"benchmarks/{path.name}": path.read_text(encoding="utf-8") for path in benchmarks()}
    texts |= reference_pages()
    for file in [each for each in files if each.src_uri.endswith(".ipynb")]:
        files.remove(file)
        notebook = notebooks.read(Path(str(file.abs_src_path)), execute=EXECUTES)
        name = posixpath.basename(file.src_uri).removesuffix(".ipynb")
        text, pictures = notebooks.as_page(notebook, name)
        texts[file.src_uri.replace(".ipynb", ".md")] = text
        folder = posixpath.dirname(file.src_uri)
        for path, content in {**pictures, f"{name}.ipynb": nbformat.writes(notebook)}.items():
            files.append(File.generated(config, posixpath.join(folder, path), content=content))
    files.append(File.generated(config, SEARCH, content=(SITE / "search_frame.js").read_text(encoding="utf-8")))
    for page, text in texts.items():
        files.append(File.generated(config, page, content=text))
    return files


def reference_pages() -> dict[str, str]:
    """A page per package with its public names; what several packages offer is described in the first of them."""
    described: dict[str, str] = {}
    pages = {}
    for name, title in REFERENCE.items():
        package = importlib.import_module(name)
        names = [each for each in getattr(package, "__all__", defined_in(package)) if callable(getattr(package, each))]
        places = {each: defined_at(getattr(package, each)) for each in names}
        made = [f"`{each}`" for each, place in places.items() if not is_written(getattr(package, each))]
        places = {each: place for each, place in places.items() if f"`{each}`" not in made}
        blocks = [f"::: {place}" for place in places.values() if place not in described]
        others = [f"[`{each}`]({described[place]}.md)" for each, place in places.items() if place in described]
        described |= {place: name for place in places.values() if place not in described}
        intro = " ".join((package.__doc__ or "").split("\n\n")[0].split())
        also = f"Also here: {', '.join(others)}." if others else ""
        rows = f"Made from the catalog, with [its options](../networks.md): {', '.join(made)}." if made else ""
        pages[f"reference/{name}.md"] = "\n\n".join([f"# {title}: `{name}`", intro, also, rows, *blocks]) + "\n"
    return pages


def defined_at(value: Any) -> str:
    """The dotted name of a class or function where it is defined."""
    return f"{value.__module__}.{value.__qualname__}"


def is_written(value: Any) -> bool:
    """Whether a class or function stands in its module's source under its name, and is not made by a loop."""
    source = Path(str(sys.modules[value.__module__].__file__)).read_text(encoding="utf-8")
    return any(getattr(node, "name", None) == value.__qualname__ for node in ast.parse(source).body)


def defined_in(package: ModuleType) -> list[str]:
    """The classes and functions that a module without ``__all__`` defines."""
    return [name for name, value in vars(package).items()
            if not name.startswith("_") and getattr(value, "__module__", "") == package.__name__]  # fmt: skip


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links of pages that were elsewhere, and the outputs of the Python blocks."""
    where = page.file.src_uri
    text = with_links(markdown, where, files)
    return snippets.with_outputs(text, where) if EXECUTES and not where.startswith("tutorials/") else text


def with_links(text: str, where: str, files: Files) -> str:
    """Relative links between files of the repository as links between pages of the site."""
    return links.between_pages(text, where, ELSEWHERE, lambda page: files.get_file_from_path(page) is not None)


def on_page_content(html: str, **_: Any) -> str:
    """Sphinx's roles in docstrings, such as :func:, as plain code."""
    return ROLE.sub("", html)


def on_post_page(output: str, page: Page, **_: Any) -> str:
    """The search of pages that are opened from a folder, without a network."""
    return output.replace(SHIM, posixpath.relpath(SEARCH, posixpath.dirname(page.file.dest_uri) or "."))


def on_post_template(output_content: str, template_name: str, **_: Any) -> str:
    """The same for the page of missing pages."""
    return output_content.replace(SHIM, f"/{SEARCH}") if template_name == "404.html" else output_content
