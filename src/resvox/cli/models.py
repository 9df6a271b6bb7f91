"""The command `resvox models`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resvox.cli.app import OUTPUT, Debug, examples, verb
from resvox.errors import ResvoxError


@verb(
    examples(
        "resvox models",
        "resvox models 'resnet*v2'",
        "resvox models --task segmentation --json",
        "resvox models --show runs/liver",
        "resvox models --show spleen_ct_segmentation/ --json",
        "resvox models --show resnet50.pth",
    )
)
def models(
    pattern: Annotated[str, typer.Argument(metavar="PATTERN", help="A shell pattern such as 'resnet*v2'.")] = "*",
    family: Annotated[str | None, typer.Option(help="resnet, resnext, seresnet, unet, ...")] = None,
    task: Annotated[str | None, typer.Option(help="classification, segmentation or regression.")] = None,
    show: Annotated[
        Path | None,
        typer.Option(
            help="A model file, run, checkpoint, export, weights, a folder or zip of nnU-Net or MONAI: what it is."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.", rich_help_panel=OUTPUT)] = False,
    debug: Debug = False,
) -> None:
    """Show the catalog of networks, or what a model on the disk is."""
    if show is not None:
        _show(show, pattern, family, task, as_json=as_json)
    else:
        _list(pattern, family, task, as_json=as_json)


def _show(path: Path, pattern: str, family: str | None, task: str | None, *, as_json: bool) -> None:
    import json

    from resvox import workflow
    from resvox.cli.printers.models import show_description

    if pattern != "*" or family is not None or task is not None:
        raise ResvoxError(
            "--show beside a pattern, --family or --task", expected="a path alone", fix=f"resvox models --show {path}"
        )
    description = workflow.show_model(path)
    if as_json:
        typer.echo(json.dumps(description.to_dict(), indent=1))
    else:
        show_description(description)


def _list(pattern: str, family: str | None, task: str | None, *, as_json: bool) -> None:
    import json

    from resvox.catalog import list_models

    found = list_models(pattern, family=family, task=task)
    if as_json:
        typer.echo(json.dumps(list(found)))
    elif found:
        typer.echo(repr(found))
    else:
        raise ResvoxError(f"no model matches {pattern!r}", fix="resvox models shows all names")
