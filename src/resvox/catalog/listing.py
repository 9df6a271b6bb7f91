"""The names of the catalog, as a list whose repr is a table."""

from __future__ import annotations

import fnmatch
import html
from collections.abc import Iterable
from dataclasses import dataclass

from resvox.blueprint.tasks import TASKS
from resvox.catalog.dense import DENSE_VARIANTS
from resvox.catalog.registry import ALIASES
from resvox.catalog.resnets import VARIANTS
from resvox.catalog.segmenters import SEGMENTERS
from resvox.errors import UnknownModelError, suggest

FAMILIES = (
    "resnet", "resnext", "seresnet", "seresnext", "wide_resnet", "unet", "nnunet", "segresnet", "resnet_dense"
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A name, the family it belongs to and the task it is for."""

    name: str
    family: str
    task: str


def entries() -> list[Entry]:
    """Every row of the catalog."""
    rows = [Entry(name=v.name, family=v.family, task="classification") for v in VARIANTS]
    rows += [Entry(name=row.name, family=row.family, task="segmentation") for row in SEGMENTERS.values()]
    rows += [Entry(name=v.name, family=v.family, task="regression") for v in DENSE_VARIANTS]
    return rows


class ModelList(list[str]):
    """Names of models; its repr in a terminal and in Jupyter is a table."""

    def groups(self) -> list[tuple[str, list[str], list[str]]]:
        """(backbone family, segmentation models that take it as encoder, its variants in this list)."""
        families = {entry.name: entry.family for entry in entries()}
        encoders = {variant.family for variant in VARIANTS}
        found: dict[str, list[str]] = {}
        for name in self:
            found.setdefault(families[name], []).append(name)
        takes_encoder = sorted(name for name, row in SEGMENTERS.items() if row.takes_encoder)
        return [(family, takes_encoder if family in encoders else [], sorted(names)) for family, names in found.items()]

    def __repr__(self) -> str:
        from rich.console import Console
        from rich.table import Table

        table = Table(title="Model Registry Catalog", show_lines=True)
        for column in ("Segmentor", "Backbone Family", "Variants"):
            table.add_column(column)
        for family, segmentors, names in self.groups():
            table.add_row(_bullets(segmentors), family, _bullets(names))
        console = Console(width=100, no_color=True)
        with console.capture() as capture:
            console.print(table)
        return capture.get().rstrip()

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{column}</th>" for column in ("Segmentor", "Backbone Family", "Variants"))
        body = "".join(
            f"<tr><td>{_lines(segmentors)}</td><td>{html.escape(family)}</td><td>{_lines(names)}</td></tr>"
            for family, segmentors, names in self.groups()
        )
        return (
            f"<table><caption>Model Registry Catalog</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )


def _bullets(names: Iterable[str]) -> str:
    return "\n".join(f"• {name}" for name in names)


def _lines(names: Iterable[str]) -> str:
    return "<br>".join(html.escape(name) for name in names)


def list_models(pattern: str = "*", *, family: str | None = None, task: str | None = None) -> ModelList:
    """Names of the catalog.

    Args:
        pattern: a shell pattern such as ``"resnet*v2"``; aliases match too and give the catalog's name.
        family: ``"resnet"`` (v1, v2, vd), ``"resnext"``, ``"seresnet"``, ``"seresnext"``, ``"wide_resnet"``,
            ``"unet"``, ``"resnet_dense"``.
        task: ``"classification"``, ``"segmentation"`` or ``"regression"``.

    Returns:
        A list of names whose repr in a terminal and in Jupyter is a table.

    Raises:
        UnknownModelError: an unknown family or task.
    """
    for what, value, known in (("family", family, FAMILIES), ("task", task, TASKS)):
        if value is not None and str(value).lower() not in known:
            raise UnknownModelError(
                f"unknown {what} {value!r}", expected="one of " + ", ".join(known), fix=suggest(str(value), known)
            )
    wanted = str(pattern).lower()
    by_alias = {name for alias, name in ALIASES.items() if fnmatch.fnmatchcase(alias, wanted)}
    return ModelList(
        entry.name
        for entry in entries()
        if (fnmatch.fnmatchcase(entry.name, wanted) or entry.name in by_alias)
        and (family is None or entry.family == family.lower())
        and (task is None or entry.task == task.lower())
    )
