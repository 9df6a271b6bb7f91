"""A UNet++ forward pass with either order of filters, on one thread pool, in turns.

    python benchmarks/unet_plus_plus.py

writes unet_plus_plus.md beside this file. ``finest_first`` is the recipe of the Keras library medicai (its
model has the same layers and number of weights as this one); ``deepest_first`` is the order of the paper.
"""

from __future__ import annotations

import datetime
import os
import pathlib
import platform
import statistics
import time

import torch

import resvox

TURNS = 5
SHAPE = (1, 4, 64, 64, 64)


def main() -> None:
    """Run in turns and write the page."""
    options = {"encoder_name": "resnet18", "spatial_dims": 3, "in_channels": 4, "num_classes": 3}
    models = {
        order: resvox.create_model("unet_plus_plus", decoder_filter_order=order, **options).eval()
        for order in ("finest_first", "deepest_first")
    }
    image = torch.randn(SHAPE)
    seconds: dict[str, list[float]] = {order: [] for order in models}
    with torch.inference_mode():
        for turn in range(TURNS + 1):
            for order, model in models.items():
                begin = time.perf_counter()
                model(image)
                if turn:  # the first run allocates and selects kernels
                    seconds[order].append(time.perf_counter() - begin)
    middle = {order: statistics.median(values) for order, values in seconds.items()}
    lines = [
        "# UNet++: cost of the order of its filters",
        "",
        f"Written by `python benchmarks/unet_plus_plus.py` on {datetime.date.today().isoformat()}: input {SHAPE}, "
        f"float32, {torch.get_num_threads()} threads, torch {torch.__version__}, Python {platform.python_version()}, "
        f"load average {os.getloadavg()[0]:.1f}; {TURNS} runs, wall-clock seconds.",
        "",
        "| decoder_filter_order | parameters | GFLOP | median | minimum | of finest_first (median) |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for order, model in models.items():
        flops = model.blueprint.flops(SHAPE[2:]) / 1e9
        lines.append(
            f"| `{order}` | {model.blueprint.parameters:,} | {flops:,.0f} | {middle[order]:.2f} | "
            f"{min(seconds[order]):.2f} | {middle[order] / middle['finest_first']:.2f} |"
        )
    text = "\n".join(lines) + "\n"
    pathlib.Path(__file__).with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
