"""The command `resvox publish`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resvox.cli.app import OUTPUT, Debug, examples, verb


@verb(
    examples(
        "resvox publish runs/liver --to hf://owner/liver-ct --licence apache-2.0",
        "resvox publish runs/liver --to hf://owner/liver-ct@v2 --licence cc-by-nc-4.0 --data 'MSD Task03, 131 CT'",
        "resvox publish runs/liver --to hf://owner/liver-ct --licence apache-2.0 --dry-run",
        "resvox predict hf://owner/liver-ct scans/ -o predictions/",
    )
)
def publish(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="The folder of a run or of its folds, or a model.safetensors.")
    ],
    to: Annotated[str, typer.Option(metavar="hf://OWNER/NAME[@BRANCH]", help="The repository.")],
    licence: Annotated[
        str, typer.Option("--licence", "--license", help="Of the model: apache-2.0, cc-by-nc-4.0, ..., other.")
    ],
    data: Annotated[str, typer.Option(help="What it was trained on, for the model card.")] = "",
    private: Annotated[
        bool, typer.Option("--private", help="Make a new repository private.", rich_help_panel=OUTPUT)
    ] = False,
    new_readme: Annotated[
        bool, typer.Option("--new-readme", help="Replace the README of the repository.", rich_help_panel=OUTPUT)
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the model card and send nothing.", rich_help_panel=OUTPUT)
    ] = False,
    debug: Debug = False,
) -> None:
    """Publish a trained model on a hub of Hugging Face, with a model card. Needs the extra 'hub'.

    The card states labels, preparation, data and validation scores from the model file. The token is read from HF_TOKEN
    or from `hf auth login`. Scans and names of cases are not sent.
    """
    from resvox import workflow
    from resvox.cli.printers.console import line

    result = workflow.publish(
        run, to, licence=licence, data=data, private=private, new_readme=new_readme, dry_run=dry_run
    )
    if result.commit is None:
        line(result.readme)
        line(f"nothing was sent; {', '.join(result.files)} would be written to {result.address}", style="bold")
        return
    if result.kept_readme:
        line("the README of the repository is kept; --new-readme replaces it", style="yellow", stderr=True)
    line(f"Published {', '.join(result.files)} as {result.address}: {result.url}", style="bold")
