"""The command `resvox convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resvox.cli.app import MODEL, OUTPUT, Debug, examples, verb
from resvox.prediction.options import CHECKPOINT

ADAPT = "Adapted on the way"


@verb(
    examples(
        "resvox convert resnet50.pth -o resnet50.safetensors --to torch",
        "resvox convert resnet50.pth -o resnet50.keras --to keras",
        "resvox convert resnet50_weights.h5 -o resnet50.pth --to torch",
        "resvox convert resnet50.pth -o volume.safetensors --to torch spatial_dims=3 --inflate centre",
        "resvox convert resnet_18.pth -o r18.safetensors --to torch --peer medicalnet",
        "resvox convert runs/demo/model.safetensors -o unet.pth --to smp",
        "resvox convert spleen_ct_segmentation/ -o spleen.safetensors",
        "resvox convert nnUNet_results/Dataset002_Heart/nnUNetTrainer__nnUNetPlans__3d_fullres -o heart/",
    )
)
def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Weights: .pth, .pt, .safetensors, .h5, .weights.h5, .keras, .npz; a folder of nnU-Net or MONAI.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.", rich_help_panel=OUTPUT)],
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="[OPTION=VALUE]...", help="Of the network, where the file leaves them open."),
    ] = None,
    to: Annotated[
        str,
        typer.Option(
            help="torch, keras, or the library that is to read it, such as torchvision or smp; another word lists them."
        ),
    ] = "torch",
    peer: Annotated[
        str | None, typer.Option(help="The library that wrote FILE, where names do not show it.", rich_help_panel=MODEL)
    ] = None,
    first_conv: Annotated[
        str, typer.Option(help="Other input channels: sum, repeat or first.", rich_help_panel=ADAPT)
    ] = "error",
    classifier: Annotated[str, typer.Option(help="Another head: drop.", rich_help_panel=ADAPT)] = "error",
    inflate: Annotated[
        str | None, typer.Option(help="2D weights for a volume: centre or average.", rich_help_panel=ADAPT)
    ] = None,
    inflate_axis: Annotated[
        int, typer.Option(min=0, max=2, help="The new axis of (D, H, W).", rich_help_panel=ADAPT)
    ] = 0,
    folds: Annotated[
        str | None, typer.Option(help="Of a folder of nnU-Net: such as 0,1 or all.", rich_help_panel=MODEL)
    ] = None,
    checkpoint: Annotated[
        str, typer.Option(help="Of a folder of nnU-Net: the file's name in a fold.", rich_help_panel=MODEL)
    ] = CHECKPOINT,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write over a file that is there.", rich_help_panel=OUTPUT)
    ] = False,
    debug: Debug = False,
) -> None:
    """Convert weights between PyTorch, Keras and other libraries, exactly.

    The network is found from the names and shapes in FILE; every tensor is checked, and the file is refused with the
    reason where something does not fit.
    """
    from resvox import workflow
    from resvox.catalog.text_options import parse_options

    result = workflow.convert(
        source,
        out,
        to=to,
        peer=peer,
        first_conv=first_conv,
        classifier=classifier,
        inflate=inflate,
        inflate_axis=inflate_axis,
        options=parse_options(options or []),
        folds=tuple(fold.strip().removeprefix("fold_") for fold in folds.split(",")) if folds else None,
        checkpoint=checkpoint,
        overwrite=overwrite,
    )
    origin = result.origin or {}
    typer.echo(f"{result.model}: {result.tensors} tensors" + (f" of {origin['peer']}" if origin else ""))
    for name in ("adapted", "dropped", "kept"):
        for reason, count in dict(origin.get(name) or {}).items():
            typer.echo(f"  {name}: {count} ({reason})")
    for each in origin.get("untold") or []:
        typer.echo(f"  not recorded in the file: {each}")
    if result.note:
        typer.echo(f"  {result.note}")
    typer.echo(f"wrote {result.path}")
