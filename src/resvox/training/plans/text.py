"""A plan's YAML: a comment on each field and the reason for its value, and the way back."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from resvox.errors import PlanError


def plan_text(fields: Iterable[tuple[str, str, Any]], notes: Mapping[str, str]) -> str:
    """YAML of (name, comment, value) in order, with the notes as reasons."""
    lines = ["# A training plan of resvox. Edit any value, then: resvox train DATASET -o RUN --plan THIS_FILE"]
    for name, comment, value in fields:
        lines.append(f"\n# {comment}")
        if notes.get(name):
            lines.append(f"#   why: {' '.join(notes[name].split())}")
        text = yaml.safe_dump(plain(value), default_flow_style=True, sort_keys=False, width=10_000)
        lines.append(f"{name}: {text.strip().removesuffix('...').strip()}")
    return "\n".join(lines) + "\n"


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases, by which a short file can describe an endless or exponentially large value."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"an alias, {str(self.get_mark()).strip()}")  # type: ignore[no-untyped-call]
        return super().compose_node(parent, index)


def read_yaml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The fields in a plan's file, unchecked; a name that YAML takes for a number, as in ``1: x``, is text again.

    Raises:
        PlanError: no such file, or not YAML; one name twice.
    """
    try:
        values = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_PlainLoader)
    except FileNotFoundError as error:
        raise PlanError("no such plan", expected="a YAML file", path=path) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date that no calendar has
        raise PlanError(
            f"not YAML ({' '.join(str(error).split())})", expected="a plan as Plan.save writes it", path=path
        ) from error
    if not isinstance(values, dict):
        raise PlanError("not a mapping", expected="lines of 'field: value'", path=path)
    named: dict[str, Any] = _with_text_names(values, path)
    return named


def _with_text_names(value: Any, path: str | os.PathLike[str]) -> Any:
    if isinstance(value, list):
        return [_with_text_names(item, path) for item in value]
    if not isinstance(value, dict):
        return value
    named = {str(name): _with_text_names(item, path) for name, item in value.items()}
    if len(named) < len(value):
        raise PlanError(f"one name twice among {', '.join(map(str, value))}", expected="each name once", path=path)
    return named


def plain(value: Any) -> Any:
    """Mappings as dicts and sequences as lists, all the way down."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    return value
