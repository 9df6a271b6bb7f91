"""The command `resvox models`."""

from __future__ import annotations

from typing import Annotated

import typer

from resvox.cli.app import OUTPUT, Debug, examples, verb
from resvox.errors import ResvoxError


@verb(examples("resvox models", "resvox models 'resnet*v2'", "resvox models --task segmentation --json"))
def models(
    pattern: Annotated[str, typer.Argument(metavar="PATTERN", help="A shell pattern such as 'resnet*v2'.")] = "*",
    family: Annotated[str | None, typer.Option(help="resnet, resnext, seresnet, unet, ...")] = None,
    task: Annotated[str | None, typer.Option(help="classification, segmentation or regression.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list of names.", rich_help_panel=OUTPUT)] = False,
    debug: Debug = False,
) -> None:
    """Show the catalog of networks."""
    import json

    from resvox.catalog import list_models

    found = list_models(pattern, family=family, task=task)
    if as_json:
        typer.echo(json.dumps(list(found)))
    elif found:
        typer.echo(repr(found))
    else:
        raise ResvoxError(f"no model matches {pattern!r}", fix="resvox models shows all names")
