"""Every Python block of the README and the guides runs; every `resvox` command they show exists."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(text: str, language: str) -> list[str]:
    return [body for kind, body in BLOCK.findall(text) if kind == language]


def script_of(page: Path) -> str:
    """The page's Python blocks as one program whose line numbers are the page's."""
    lines, inside = [], False
    for line in page.read_text().splitlines():
        if line.startswith("```"):
            inside = line.startswith("```python")
            lines.append("")
        else:
            lines.append(line if inside else "")
    return "\n".join(lines)


def run(script: str, name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    program = f"exec(compile({script!r}, {name!r}, 'exec'), {{'__name__': '__main__'}})"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    return subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run(page: Path, tmp_path: Path) -> None:
    script = script_of(page)
    if script.strip():
        done = run(script, page.name, tmp_path)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def test_a_broken_block_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n```python\nimport resvox\nresvox.no_such_name\n```\n")
    done = run(script_of(page), page.name, tmp_path)
    assert done.returncode != 0
    assert 'page.md", line 5' in done.stderr


def commands(page: Path) -> list[list[str]]:
    found = []
    for kind in ("console", "sh", "bash"):
        for body in blocks(page.read_text(), kind):
            for line in body.replace("\\\n", " ").splitlines():
                words = line.split("#")[0].removeprefix("$ ").split()
                if words[:1] == ["resvox"]:
                    found.append(words[1:])
    return found


def help_of(verb: str) -> str:
    environment = {**os.environ, "COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "resvox", *([verb] if verb else []), "--help"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_commands_and_their_options_exist() -> None:
    helps: dict[str, str] = {}
    missing = []
    for page in PAGES:
        for words in commands(page):
            verb = words[0] if words and not words[0].startswith("-") else ""
            if verb not in helps:  # each takes a process
                helps[verb] = help_of(verb)
            text = helps[verb]
            for word in words[1:] if verb else words:
                option = word.split("=")[0]
                if re.fullmatch(r"--?[a-z][\w-]*", option) and option not in text and option != "--help":
                    missing.append(f"{page.name}: resvox {' '.join(words)}: no {option}")
    assert helps, "no command found: the pages' console blocks have changed shape"
    assert not missing, "\n".join(missing)
