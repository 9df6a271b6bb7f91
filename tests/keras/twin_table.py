"""The largest differences as a Markdown table: ``python twin_table.py torch.json jax.json tensorflow.json``."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def largest(result: Mapping[str, Any]) -> float:
    """The largest difference of a case, over outputs, maps and sizes."""
    return max(d for at_size in result["differences"].values() for d in at_size.values())


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """One row per case, one column per backend; the last row is the largest of all."""
    backends = list(results)
    words = {name: version for result in results.values() for name, version in result["versions"].items()}
    rows = sorted({case for result in results.values() for case in result["cases"]})
    lines = [
        f"{datetime.date.today().isoformat()}, " + ", ".join(f"{n} {v}" for n, v in sorted(words.items())),
        "",
        "| network | " + " | ".join(backends) + " |",
        "|---|" + "---|" * len(backends),
    ]
    for case in rows:
        found = [results[backend]["cases"].get(case) for backend in backends]
        cells = ["" if r is None else "failed" if "failed" in r else f"{largest(r):.1e}" for r in found]
        lines.append(f"| {case} | " + " | ".join(cells) + " |")
    worst = [max(largest(r) for r in results[backend]["cases"].values() if "failed" not in r) for backend in backends]
    lines.append("| **largest** | " + " | ".join(f"**{d:.1e}**" for d in worst) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table({Path(path).stem: json.loads(Path(path).read_text()) for path in sys.argv[1:]}))
