"""The command `resvox walkthrough`."""

from __future__ import annotations

from typing import Annotated

import typer

from resvox.cli.app import DATA, OUTPUT, Debug, examples, verb


@verb(
    examples(
        "resvox walkthrough resnet26 --input 1,3,214,214",
        "resvox walkthrough resnet50 --input 1,1,96,96,96 norm=instance num_classes=2",
        "resvox walkthrough unet --input 2,1,64,64,64 encoder_name=resnet34 --markdown",
    )
)
def walkthrough(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A name that `resvox models` shows.")],
    options: Annotated[
        list[str] | None, typer.Argument(metavar="[OPTION=VALUE]...", help="Options of the model.")
    ] = None,
    input_shape: Annotated[
        str, typer.Option("--input", help="batch,channels,H,W or batch,channels,D,H,W.", rich_help_panel=DATA)
    ] = "1,3,214,214",
    depth: Annotated[
        int | None, typer.Option(min=1, help="Levels of rows (default: stages and blocks).", rich_help_panel=OUTPUT)
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="A Markdown table.", rich_help_panel=OUTPUT)] = False,
    as_json: Annotated[bool, typer.Option("--json", help="All rows as JSON.", rich_help_panel=OUTPUT)] = False,
    debug: Debug = False,
) -> None:
    """Walk through a network: shapes, parameters, FLOPs, memory, receptive field. Nothing is built."""
    from resvox.walk import Walkthrough, parse_options, parse_shape

    walk = Walkthrough.of(model, parse_shape(input_shape), **parse_options(options or []))
    if as_json or markdown:
        typer.echo(walk.to_json() if as_json else walk.to_markdown(depth=depth).rstrip())
    else:
        walk.print(depth=depth)
