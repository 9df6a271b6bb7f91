"""The command `resvox pretrain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from resvox.cli.app import (
    DATA,
    MODEL,
    RUN,
    Debug,
    Device,
    DeviceOption,
    examples,
    number_or_auto,
    numbers,
    verb,
)
from resvox.workflow import TrainOptions, TrainPrecision

DEFAULTS = TrainOptions()
DEVICE = Device(DEFAULTS.device)


@verb(
    examples(
        "resvox pretrain scans/ -o pretrained.safetensors",
        "resvox train Dataset001_Liver -o runs/liver --weights pretrained.safetensors",
        "resvox pretrain scans/ -o pretrained.safetensors --encoder resnet34 --minutes 120",
        "resvox pretrain scans/ -o pretrained.safetensors --resume",
        "resvox pretrain Dataset001_Liver -o pretrained --plan-only",
        "resvox pretrain Dataset001_Liver -o pretrained --plan pretrained/plan.yaml",
    )
)
def pretrain(
    scans: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Folder of scans, or a dataset as for train, whose labels are not used."),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="NAME.safetensors, with the run in the folder NAME; or the run's folder."),
    ],
    model: Annotated[
        str | None,
        typer.Option(help="See resvox models --task segmentation (default: unet).", rich_help_panel=MODEL),
    ] = None,
    encoder: Annotated[str | None, typer.Option(help="Its encoder (default: resnet18).", rich_help_panel=MODEL)] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Begin from this file or hf://owner/name.", rich_help_panel=MODEL)
    ] = None,
    weights_peer: Annotated[
        str | None, typer.Option(help="Whose weights, where names do not say.", rich_help_panel=MODEL)
    ] = None,
    patch_size: Annotated[
        Any,
        typer.Option(parser=numbers(int), metavar="D,H,W", help="Voxels of a patch.", rich_help_panel=DATA),
    ] = None,
    spacing: Annotated[
        Any,
        typer.Option(parser=numbers(float), metavar="D,H,W", help="Target spacing in mm.", rich_help_panel=DATA),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Patches per step.", rich_help_panel=DATA)] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Stop after so many steps.", rich_help_panel=RUN)] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Stop after so many minutes.", rich_help_panel=RUN)
    ] = None,
    plan: Annotated[
        Path | None, typer.Option(help="Use this plan.yaml, not one made from the scans.", rich_help_panel=RUN)
    ] = None,
    plan_only: Annotated[
        bool, typer.Option("--plan-only", help="Write plan.yaml and stop.", rich_help_panel=RUN)
    ] = DEFAULTS.plan_only,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the last checkpoint.", rich_help_panel=RUN)
    ] = DEFAULTS.resume,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start again where a run is.", rich_help_panel=RUN)
    ] = DEFAULTS.overwrite,
    finish: Annotated[
        bool,
        typer.Option(
            "--finish", help="Train no further: write the best weights of a stopped run.", rich_help_panel=RUN
        ),
    ] = DEFAULTS.finish,
    device: DeviceOption = DEVICE,
    processes: Annotated[
        int, typer.Option(min=1, help="Processes that train together.", rich_help_panel=RUN)
    ] = DEFAULTS.processes,
    num_nodes: Annotated[
        int, typer.Option(min=1, help="Machines, with torchrun or srun on each.", rich_help_panel=RUN)
    ] = DEFAULTS.num_nodes,
    precision: Annotated[TrainPrecision | None, typer.Option(help="Arithmetic.", rich_help_panel=RUN)] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of all random numbers.", rich_help_panel=RUN)] = None,
    workers: Annotated[
        Any,
        typer.Option(
            parser=number_or_auto,
            metavar="N|auto",
            help="Processes that cut and augment patches.",
            rich_help_panel=RUN,
        ),
    ] = DEFAULTS.workers,
    profile: Annotated[
        bool, typer.Option("--profile", help="Measure where the time goes.", rich_help_panel=RUN)
    ] = DEFAULTS.profile,
    debug: Debug = False,
) -> None:
    """Pretrain a network on scans without labels: blocks of each patch are hidden, and it learns to restore them.

    The weights are for resvox train --weights, which keeps all of the network but its last layer.
    """
    from resvox import workflow
    from resvox.cli.printers import pretrain as output
    from resvox.cli.printers.train import show_plan

    result = workflow.pretrain(
        scans,
        out,
        model=model,
        encoder=encoder,
        weights=weights,
        weights_peer=weights_peer,
        patch_size=patch_size,
        spacing_mm=spacing,
        batch_size=batch_size,
        steps=steps,
        minutes=minutes,
        plan=plan,
        plan_only=plan_only,
        resume=resume,
        overwrite=overwrite,
        finish=finish,
        device=device.value,
        processes=processes,
        num_nodes=num_nodes,
        precision=precision.value if precision else None,
        seed=seed,
        workers=workers,
        profile=profile,
        on_plan=show_plan,
    )
    output.show_pretrained(result, scans)
