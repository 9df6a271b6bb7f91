"""The command `resvox demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resvox.cli.app import RUN, Debug, Device, DeviceOption, examples, verb


@verb(examples("resvox demo", "resvox demo -o quick --minutes 1", "resvox demo --unseen"))
def demo(
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Its folder (default: demo, or demo-unseen).")] = None,
    unseen: Annotated[
        bool, typer.Option("--unseen", help="Score a CT of another patient that training never saw.")
    ] = False,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of training, instead of the demo's own.", rich_help_panel=RUN)
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Stop training after so many minutes.", rich_help_panel=RUN)
    ] = None,
    device: DeviceOption = Device.auto,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random numbers.", rich_help_panel=RUN)] = 0,
    debug: Debug = False,
) -> None:
    """Train, predict and evaluate on a real CT, and write a report, in a few minutes."""
    from resvox import workflow
    from resvox.cli.printers import demo as output

    result = workflow.demo(
        out,
        unseen=unseen,
        steps=steps,
        minutes=minutes,
        device=device.value,
        seed=seed,
        on_part=output.show_part,
    )
    output.show_demo(result)
