"""Hints for what users of other programs type: their options, and what does the same here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand

# option of another program: the option here, and what to do with it; shown where the command has that option
HINTS: dict[str, tuple[str, str]] = {
    "--lr": ("--plan", "the learning rate is a field of the plan: --plan-only writes plan.yaml, --plan uses it"),
    "--gpu": ("--device", "use --device cuda; CUDA_VISIBLE_DEVICES chooses one of several GPUs"),
    "--cpu": ("--device", "use --device cpu"),
    "--epochs": ("--steps", "use --steps or --minutes; training counts steps, not epochs"),
    "--batch": ("--batch-size", "use --batch-size"),
    "--output": ("--out", "use --out (-o)"),
    "--threads": ("--processes", "use --processes; OMP_NUM_THREADS limits the threads of each"),
    "--workers": ("--processes", "use --processes"),
    "--tta": ("--mirror", "use --mirror"),
    "--fp16": ("--precision", "use --precision"),
    "--checkpoint": ("--resume", "use --resume to continue a run, --weights to start from a file"),
    "--pretrained": ("--weights", "use --weights with a file"),
    "--backbone": ("--encoder", "use --encoder"),
    "--arch": ("--model", "use --model"),
    "--step-size": ("--overlap", "use --overlap, 1 less the step: --overlap 0.5"),
    "--tolerance": ("--tolerance-mm", "use --tolerance-mm"),
    "--force": ("--overwrite", "use --overwrite"),
    "--verbose": ("--debug", "use --debug for the whole traceback of an error"),
}
# further names of the options above
SAME = {
    "--learning-rate": "--lr",
    "--gpus": "--gpu",
    "--cuda": "--gpu",
    "--gpu-id": "--gpu",
    "--epoch": "--epochs",
    "--max-epochs": "--epochs",
    "--num-epochs": "--epochs",
    "--batchsize": "--batch",
    "--bs": "--batch",
    "--output-dir": "--output",
    "--outdir": "--output",
    "--output-folder": "--output",
    "--num-threads": "--threads",
    "--num-workers": "--workers",
    "--half": "--fp16",
    "--amp": "--fp16",
    "--bf16": "--fp16",
    "--ckpt": "--checkpoint",
    "--load": "--checkpoint",
    "--encoder-name": "--backbone",
    "-f": "--force",
    "-v": "--verbose",
}


def hint_for(option: str, known: Sequence[str]) -> str:
    """What to use instead of an option that a command does not have; "" where nothing is known.

    Args:
        option: as typed, without ``=value``.
        known: the options of the command.
    """
    name = option.lower()
    if option in known:
        return ""
    dashed = name.replace("_", "-")
    if dashed in known:
        return f"use {dashed}"
    wanted, text = HINTS.get(SAME.get(dashed, dashed), ("", ""))
    return text if wanted in known else ""


class HintingCommand(TyperCommand):
    """A command that explains options of other programs by its own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments; an unknown option with a hint ends the command with it."""
        known = [name for param in self.get_params(ctx) for name in (*param.opts, *param.secondary_opts)]
        for word in args:
            if word == "--":
                break
            option = word.partition("=")[0]
            hint = hint_for(option, known) if option.startswith("-") else ""
            if hint:
                ctx.fail(f"No such option: {option}; {hint}")
        return super().parse_args(ctx, args)
