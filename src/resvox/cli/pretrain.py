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
    numbers,
    verb,
)
from resvox.cli.training_options import (
    Encoder,
    Minutes,
    NumNodes,
    Overwrite,
    PlanOnly,
    Precision,
    Processes,
    Profile,
    Resume,
    Seed,
    Spacing,
    Steps,
    Weights,
    WeightsPeer,
    Workers,
)
from resvox.workflow import TrainOptions

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
    encoder: Encoder = None,
    weights: Weights = None,
    weights_peer: WeightsPeer = None,
    patch_size: Annotated[
        Any,
        typer.Option(parser=numbers(int), metavar="D,H,W", help="Voxels of a patch.", rich_help_panel=DATA),
    ] = None,
    spacing: Spacing = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Patches per step.", rich_help_panel=DATA)] = None,
    steps: Steps = None,
    minutes: Minutes = None,
    plan: Annotated[
        Path | None, typer.Option(help="Use this plan.yaml, not one made from the scans.", rich_help_panel=RUN)
    ] = None,
    plan_only: PlanOnly = DEFAULTS.plan_only,
    resume: Resume = DEFAULTS.resume,
    overwrite: Overwrite = DEFAULTS.overwrite,
    finish: Annotated[
        bool,
        typer.Option(
            "--finish", help="Train no further: write the best weights of a stopped run.", rich_help_panel=RUN
        ),
    ] = DEFAULTS.finish,
    device: DeviceOption = DEVICE,
    processes: Processes = DEFAULTS.processes,
    num_nodes: NumNodes = DEFAULTS.num_nodes,
    precision: Precision = None,
    seed: Seed = None,
    workers: Workers = DEFAULTS.workers,
    profile: Profile = DEFAULTS.profile,
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
    output.show_pretrained(result, scans, out)
