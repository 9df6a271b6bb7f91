"""The command `resvox export`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from resvox.cli.app import OUTPUT, Debug, examples, verb
from resvox.inference.engines.table import export_formats

ExportFormat = Enum(  # type: ignore[misc]
    "ExportFormat", {name.replace("-", "_"): name for name in sorted(export_formats())}, type=str
)
ONNX = ExportFormat("onnx")


class ExportPrecision(str, Enum):
    """Precisions of an exported network."""

    float32 = "float32"
    int8 = "int8"


@verb(
    examples(
        "resvox export runs/liver --format onnx",
        "resvox export model.safetensors --format openvino -o liver.xml",
        "resvox predict liver.xml scans/ -o out",
        "resvox export runs/liver --format openvino --precision int8 --calibrate scans/",
    )
)
def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model.safetensors, or the folder of a run.")],
    format: Annotated[ExportFormat, typer.Option(help="Of the file.")] = ONNX,
    precision: Annotated[
        ExportPrecision, typer.Option(help="Of convolutions: int8 with OpenVINO alone, by NNCF.")
    ] = ExportPrecision.float32,
    calibrate: Annotated[
        list[Path] | None,
        typer.Option(
            help="Scans for int8: a file or folder; may be repeated (default: what the training run of MODEL has kept)."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The file (default: beside the model).", rich_help_panel=OUTPUT),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that is there.", rich_help_panel=OUTPUT)
    ] = False,
    debug: Debug = False,
) -> None:
    """Write a model as a file that other programs run: ONNX, OpenVINO, TorchScript, torch.export.

    Preprocessing, labels or units, and window go into a .json beside it, and resvox predict takes the file as its
    MODEL. The file is checked against the original first; one that answers otherwise is not written.

    With --precision int8 the network is quantized and compared with the original on windows of the scans; one that
    changes more than 1 % of the labels, or the Dice of a label by more than 0.03, is not written.
    """
    from resvox import workflow
    from resvox.cli.printers.console import line
    from resvox.cli.printers.export import ExportDisplay

    with ExportDisplay() as display:
        result = workflow.export(
            model,
            out,
            format=format.value,
            precision=precision.value,
            calibrate=calibrate or (),
            overwrite=overwrite,
            on_progress=display.progress,
            on_note=display.note,
        )
    line(f"checked: {result.check}")
    if not result.any_size:
        why = ": this network does not export with open sizes" if precision is ExportPrecision.float32 else ""
        line(f"for windows of the model's size alone{why}")
    elif result.smallest and result.smallest > 1:
        line(f"for images of any size from {result.smallest} voxels along every axis")
    line(f"Wrote {result.path} and {result.description.name} beside it", style="bold")
