"""One training step of a 3D U-Net with a resnet18 encoder beside MONAI's FlexibleUNet of the same encoder.

    python benchmarks/training_step.py

writes training_step.md beside this file: forward, Dice + cross-entropy, backward and AdamW on a batch of 2 patches of
64 cubed, interleaved in one process, so that other work on the machine affects all alike. MONAI's is shown as its
tutorials run it (float32, default layout, AdamW by default), with the layout and precision of resvox, and with the
optimizer option that `resvox train` sets. Only times are compared:
on processors with AVX512_BF16 and no AMX a bfloat16 gradient of both networks' deepest maps (2 voxels deep) may not be
a number (docs/training.md).
"""

from __future__ import annotations

import argparse
import datetime
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import monai
import torch
from monai.losses import DiceCELoss
from monai.networks.nets import FlexibleUNet

import resvox

SIZE, BATCH, CLASSES = 64, 2, 3


def step_of(model: torch.nn.Module, *, fast: bool, fused: bool = False) -> Callable[[], float]:
    """A training step; ``fast``: channels last and bfloat16; ``fused``: AdamW in one pass over each tensor."""
    torch.manual_seed(0)
    image = torch.randn(BATCH, 1, *(SIZE,) * 3)
    label = torch.randint(0, CLASSES, (BATCH, 1, *(SIZE,) * 3))
    if fast:
        model = model.to(memory_format=torch.channels_last_3d)
        image = image.contiguous(memory_format=torch.channels_last_3d)
    loss_of = DiceCELoss(to_onehot_y=True, softmax=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=fused)
    model.train()

    def step() -> float:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            logits: Any = model(image)
        loss = loss_of(logits.float(), label)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def contenders() -> dict[str, Callable[[], float]]:
    """The training steps that are compared, by name."""

    def ours() -> torch.nn.Module:
        return resvox.create_model("unet", encoder_name="resnet18", spatial_dims=3, in_channels=1, num_classes=CLASSES)

    def theirs() -> torch.nn.Module:
        return FlexibleUNet(in_channels=1, out_channels=CLASSES, backbone="resnet18", spatial_dims=3)

    return {
        "resvox as it trains: bfloat16, channels last, fused AdamW": step_of(ours(), fast=True, fused=True),
        "resvox, float32, fused AdamW": step_of(ours(), fast=False, fused=True),
        "MONAI FlexibleUNet, float32 (its tutorials)": step_of(theirs(), fast=False),
        "MONAI FlexibleUNet, bfloat16, channels last": step_of(theirs(), fast=True),
        "MONAI FlexibleUNet, bfloat16, channels last, fused AdamW": step_of(theirs(), fast=True, fused=True),
    }


def main() -> None:
    """Run in turns and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7)
    turns = parser.parse_args().turns
    steps = contenders()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(turns + 1):
        for name, step in steps.items():
            begin = time.perf_counter()
            step()
            if turn:  # the first run allocates and selects kernels
                seconds[name].append(time.perf_counter() - begin)
    base = next(iter(steps))
    lines = [
        "# A training step beside MONAI's",
        "",
        f"Written by `python benchmarks/training_step.py --turns {turns}` on {datetime.date.today().isoformat()}: "
        f"a batch of {BATCH} patches of {SIZE} cubed, {CLASSES} classes, {torch.get_num_threads()} threads, torch "
        f"{torch.__version__}, MONAI {monai.__version__}, Python {platform.python_version()}, load average "
        f"{os.getloadavg()[0]:.1f}. Interleaved runs in one process; wall-clock seconds, and their "
        "ratio to resvox.",
        "",
        "| | median | minimum | ratio to resvox (median) | ratio to resvox (minimum) |",
        "|---|---:|---:|---:|---:|",
    ]
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    for name, values in seconds.items():
        ratios = (middle[name] / middle[base], min(values) / min(seconds[base]))
        lines.append(f"| {name} | {middle[name]:.2f} | {min(values):.2f} | {ratios[0]:.2f} | {ratios[1]:.2f} |")
    text = "\n".join(lines) + "\n"
    pathlib.Path(__file__).with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
