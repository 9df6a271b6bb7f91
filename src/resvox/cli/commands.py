"""The commands by name. The module of a command is imported when that command is run, or its help is shown."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

import typer
from typer.core import TyperGroup

# in the order in which `resvox --help` lists them; each is a module of this package
MODULES = (
    "train",
    "pretrain",
    "predict",
    "status",
    "evaluate",
    "compare",
    "view",
    "models",
    "walkthrough",
    "convert",
    "convert_labels",
    "export",
    "publish",
    "serve",
    "demo",
)
MODULE_OF = {name.replace("_", "-"): name for name in MODULES}
APPLICATIONS: dict[str, typer.Typer] = {}  # of the imported commands, each with this command alone


class Commands(Mapping[str, Any]):
    """Click's command of each name, built when it is used."""

    def __getitem__(self, name: str) -> Any:
        module = MODULE_OF[name]
        importlib.import_module(f"resvox.cli.{module}")  # registers itself in APPLICATIONS
        return typer.main.get_command(APPLICATIONS[name])

    def __iter__(self) -> Iterator[str]:
        return iter(MODULE_OF)

    def __len__(self) -> int:
        return len(MODULE_OF)


class CommandGroup(TyperGroup):
    """The group of all commands."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = Commands()  # type: ignore[assignment]  # it is only read
