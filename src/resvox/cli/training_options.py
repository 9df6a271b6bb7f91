"""The options that the commands which train have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from resvox.cli.app import DATA, MODEL, RUN, number_or_auto, numbers
from resvox.workflow import TrainPrecision

Encoder = Annotated[str | None, typer.Option(help="Its encoder (default: resnet18).", rich_help_panel=MODEL)]
Weights = Annotated[Path | None, typer.Option(help="Begin from this file or hf://owner/name.", rich_help_panel=MODEL)]
WeightsPeer = Annotated[str | None, typer.Option(help="Whose weights, where names do not say.", rich_help_panel=MODEL)]
Spacing = Annotated[
    Any, typer.Option(parser=numbers(float), metavar="D,H,W", help="Target spacing in mm.", rich_help_panel=DATA)
]
Steps = Annotated[int | None, typer.Option(min=1, help="Stop after so many steps.", rich_help_panel=RUN)]
Minutes = Annotated[float | None, typer.Option(min=0.01, help="Stop after so many minutes.", rich_help_panel=RUN)]
Resume = Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint.", rich_help_panel=RUN)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Start again where a run is.", rich_help_panel=RUN)]
PlanOnly = Annotated[bool, typer.Option("--plan-only", help="Write plan.yaml and stop.", rich_help_panel=RUN)]
Processes = Annotated[int, typer.Option(min=1, help="Processes that train on this machine.", rich_help_panel=RUN)]
Workers = Annotated[
    Any,
    typer.Option(
        parser=number_or_auto,
        metavar="N|auto",
        help="Processes that cut and augment patches (default: auto on a GPU, else 0).",
        rich_help_panel=RUN,
    ),
]
NumNodes = Annotated[int, typer.Option(min=1, help="Machines, with torchrun or srun on each.", rich_help_panel=RUN)]
Precision = Annotated[TrainPrecision | None, typer.Option(help="Arithmetic.", rich_help_panel=RUN)]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of all random numbers.", rich_help_panel=RUN)]
Profile = Annotated[bool, typer.Option("--profile", help="Measure where the time goes.", rich_help_panel=RUN)]
