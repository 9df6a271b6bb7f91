"""The models page says what the blueprints say."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_models_page_is_what_the_script_writes() -> None:
    script = runpy.run_path(str(ROOT / "benchmarks" / "catalog_table.py"))
    written = (ROOT / "docs" / "models.md").read_text()
    assert written == script["page"](), "run `python benchmarks/catalog_table.py`"
