"""What a dataset is like, as plain numbers beside a run: fingerprint.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from resvox.files import write_atomically
from resvox.training.run_folder import RunFolder

NAME = "fingerprint.json"


def write_fingerprint(folder: Path, fingerprint: Any, *, overwrite: bool) -> None:
    """Write a task's fingerprint, a dataclass of plain values; beside a run that is there only to overwrite it."""
    if RunFolder(folder).is_used and not overwrite:
        return
    text = json.dumps(asdict(fingerprint), indent=1, ensure_ascii=False, default=str)
    write_atomically(folder / NAME, text + "\n")


def read_fingerprint(folder: Path) -> Mapping[str, Any]:
    """The fingerprint of a run, or of the cross-validation that it is a fold of; empty if neither is stored."""
    for path in (folder / NAME, folder.parent / NAME):
        if path.is_file():
            found = json.loads(path.read_text(encoding="utf-8"))
            return found if isinstance(found, dict) else {}
    return {}


def columns(fingerprint: Mapping[str, Any]) -> list[tuple[str, list[float]]]:
    """Numbers of each case by name: size and spacing along each axis, and millilitres or mm² of each label."""
    cases = [
        case
        for case in fingerprint.get("cases") or fingerprint.get("images") or ()
        if isinstance(case, dict) and "shape" in case
    ]
    if not cases:
        return []
    dims = len(cases[0]["shape"])
    axes = ("D", "H", "W")[-dims:]
    found = [(f"voxels {name}", [float(case["shape"][at]) for case in cases]) for at, name in enumerate(axes)]
    if all(case.get("spacing_mm") for case in cases):
        found += [(f"mm {name}", [float(case["spacing_mm"][at]) for case in cases]) for at, name in enumerate(axes)]
    names = [name for name, value in (fingerprint.get("labels") or {}).items() if value]
    found += [(str(name)[:24], [_size(case, name, dims) for case in cases]) for name in names[:6]]
    return [(name, values) for name, values in found if values]


def _size(case: Mapping[str, Any], label: str, dims: int) -> float:
    """The size of a label: mL of a volume, mm² of an image."""
    voxel = 1.0
    for step in case.get("spacing_mm") or ():
        voxel *= float(step)
    size = float((case.get("voxels") or {}).get(label, 0)) * voxel
    return size / 1000 if dims == 3 else size
