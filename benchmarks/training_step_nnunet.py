"""One training step of `resenc_unet` beside the module that nnU-Net trains, with the same weights and optimizer.

    python benchmarks/training_step_nnunet.py                     # preset L, patches of 64 cubed: minutes
    python benchmarks/training_step_nnunet.py --size 32 --thin --turns 2    # to see that it runs; prints only

writes training_step_nnunet.md beside this file. The peer is ResidualEncoderUNet of dynamic-network-architectures, which
needs torch alone. A step is forward, Dice + cross-entropy of every level (nnU-Net's weights, the coarsest counts
nothing), backward, gradients clipped to a norm of 12, and SGD with Nesterov's momentum 0.99. Both networks begin with
the same weights; before the clock starts their losses must agree. Steps are interleaved in one process, so that other
work on the machine affects all alike.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from prediction.measure import cpu_seconds, processor
from torch import nn

import resvox
from resvox.training.losses import SegmentationLoss

PEER = "dynamic-network-architectures"
THIN = {"features": (4, 6, 8, 8, 10, 10), "depths": (1,) * 6, "decoder_depths": (1,) * 5}
LARGE = {"features": (32, 64, 128, 256, 320, 320), "depths": (1, 3, 4, 6, 6, 6), "decoder_depths": (1,) * 5}
STRIDES = (1, 2, 2, 2, 2, 2)
CLASSES = 3


@dataclass(frozen=True, kw_only=True)
class Way:
    """How both networks are run.

    Args:
        bfloat16: autocast of the forward pass.
        channels_last: the layout of weights and images.
    """

    bfloat16: bool = False
    channels_last: bool = False

    def __str__(self) -> str:
        return f"{'bfloat16' if self.bfloat16 else 'float32'}, channels {'last' if self.channels_last else 'first'}"


WAYS = (Way(), Way(channels_last=True), Way(bfloat16=True), Way(bfloat16=True, channels_last=True))


def ours(options: argparse.Namespace) -> nn.Module:
    """The catalog's network; its auxiliary logits keep the size of their level, as in training."""
    sizes = THIN if options.thin else LARGE
    network = resvox.create_model(
        "resenc_unet",
        spatial_dims=3,
        in_channels=1,
        num_classes=CLASSES,
        deep_supervision=True,
        strides=STRIDES,
        **sizes,
    )
    network.keep_level_sizes()
    return network


def theirs(options: argparse.Namespace, like: nn.Module) -> nn.Module:
    """nnU-Net's network with the weights of the catalog's."""
    from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet

    sizes = THIN if options.thin else LARGE
    network = ResidualEncoderUNet(
        1, 6, sizes["features"], nn.Conv3d, 3, STRIDES, sizes["depths"], CLASSES, sizes["decoder_depths"], True,
        nn.InstanceNorm3d, {"eps": 1e-5, "affine": True}, None, None, nn.LeakyReLU, {"inplace": True}, True,
    )  # fmt: skip
    path = options.work / "weights.pth"
    resvox.export_weights(like, path, peer="nnunet")
    network.load_state_dict(torch.load(path))
    return network


def step_of(model: nn.Module, way: Way, options: argparse.Namespace) -> Callable[[], float]:
    """A training step of a copy of the network."""
    torch.manual_seed(0)
    layout = torch.channels_last_3d if way.channels_last else torch.contiguous_format
    image = torch.randn(options.batch, 1, *(options.size,) * 3).contiguous(memory_format=layout)
    label = torch.randint(0, CLASSES, (options.batch, *(options.size,) * 3))
    model = model.to(memory_format=layout).train()
    loss_of = SegmentationLoss("dice_ce", drops_coarsest=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.99, nesterov=True, weight_decay=3e-5)

    def step() -> float:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=way.bfloat16):
            outputs: Any = model(image)
        loss = loss_of(outputs, label)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 12)
        optimizer.step()
        return float(loss.detach())

    return step


def measure(options: argparse.Namespace, way: Way) -> dict[str, list[tuple[float, float]]]:
    """Seconds by the clock and of the processor of every turn, by contender."""
    torch.manual_seed(0)
    own = ours(options)
    steps = {"nnU-Net": step_of(theirs(options, own), way, options), "resvox": step_of(own, way, options)}
    first = {name: step() for name, step in steps.items()}  # the first run allocates and selects kernels
    apart = abs(first["resvox"] - first["nnU-Net"])
    assert apart < (1e-2 if way.bfloat16 else 1e-4), first
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for turn in range(options.turns):
        for name in sorted(steps, reverse=bool(turn % 2)):
            begin, used = time.perf_counter(), cpu_seconds()
            steps[name]()
            found[name].append((time.perf_counter() - begin, cpu_seconds() - used))
    return found


def main() -> None:
    """Run in turns and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=2)
    able = [number for number, way in enumerate(WAYS) if not way.bfloat16 or "bf16" in processor()]
    parser.add_argument("--ways", nargs="+", type=int, default=able, help="by number, from 0; those of this processor")
    parser.add_argument("--thin", action="store_true", help="few features; the page is printed only")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    lines = [
        "# A training step of nnU-Net's network: resvox and nnU-Net",
        "",
        f"Written by `python benchmarks/training_step_nnunet.py` on {datetime.date.today().isoformat()}: preset L of "
        f"`resenc_unet` beside ResidualEncoderUNet of {PEER} {importlib.metadata.version(PEER)}, deep supervision, "
        f"{options.batch} patches of {options.size} cubed, {CLASSES} classes, SGD; {processor()}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, Python {platform.python_version()}, load "
        f"average {os.getloadavg()[0]:.1f}. {options.turns} interleaved turns in one process.",
        "",
        "| | nnU-Net: median s | resvox: median s | nnU-Net / resvox | CPU s: nnU-Net | resvox | nnU-Net / resvox |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for number in options.ways:
        found = measure(options, WAYS[number])
        clock, used = ({name: statistics.median(v[i] for v in each) for name, each in found.items()} for i in (0, 1))
        lines.append(
            f"| {WAYS[number]} | {clock['nnU-Net']:.2f} | {clock['resvox']:.2f} "
            f"| **{clock['nnU-Net'] / clock['resvox']:.2f}** | {used['nnU-Net']:.2f} | {used['resvox']:.2f} "
            f"| {used['nnU-Net'] / used['resvox']:.2f} |"
        )
        print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    if options.thin:
        print(text)
    else:
        Path(__file__).with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
