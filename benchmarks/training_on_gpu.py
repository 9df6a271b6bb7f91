"""Training steps on a GPU: resvox beside MONAI's FlexibleUNet and the network that nnU-Net trains.

    python benchmarks/training_on_gpu.py                                  # two minutes
    python benchmarks/training_on_gpu.py --device cpu --size 64 --turns 1 --thin    # to see that it runs

prints Markdown, and writes it with --out FILE. A step is forward under bfloat16 autocast, loss, backward and optimizer,
on a batch of 2 patches. The U-Net on resnet18 has MONAI's Dice + cross-entropy and fused AdamW, on both sides; the
residual encoder U-Net (preset L, deep supervision) has nnU-Net's weighting of the levels, gradients clipped to a norm
of 12 and SGD, on both sides, and the same weights at first. Each network runs with both layouts. Peers: `monai` and
`dynamic-network-architectures`; one that is not installed is left out.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import pathlib
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import training_step_nnunet as nnunet
from torch import nn

import resvox
from resvox.training.losses import SegmentationLoss

CLASSES = 3
WARM = 3


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a network is run: its layout, and whether it is compiled."""

    channels_last: bool = True
    compiled: bool = False

    def __str__(self) -> str:
        return f"channels {'last' if self.channels_last else 'first'}{', torch.compile' * self.compiled}"


def unet(options: argparse.Namespace) -> nn.Module:
    return resvox.create_model("unet", encoder_name="resnet18", spatial_dims=3, in_channels=1, num_classes=CLASSES)


def flexible_unet(options: argparse.Namespace) -> nn.Module:
    from monai.networks.nets import FlexibleUNet

    return FlexibleUNet(in_channels=1, out_channels=CLASSES, backbone="resnet18", spatial_dims=3)


def residual_unet(options: argparse.Namespace) -> nn.Module:
    return nnunet.ours(options)


def nnunet_network(options: argparse.Namespace) -> nn.Module:
    return nnunet.theirs(options, nnunet.ours(options))


PAIRS = {
    "U-Net on resnet18": {"resvox": unet, "MONAI": flexible_unet},
    "residual encoder U-Net": {"resvox": residual_unet, "nnU-Net": nnunet_network},
}


def step_of(model: nn.Module, way: Way, options: argparse.Namespace, *, deep: bool) -> Callable[[], None]:
    """A training step of a network on the device."""
    torch.manual_seed(0)
    layout = torch.channels_last_3d if way.channels_last else torch.contiguous_format
    model = model.to(options.device, memory_format=layout).train()
    shape = (options.batch, 1, *(options.size,) * 3)
    image = torch.randn(shape, device=options.device).contiguous(memory_format=layout)
    label = torch.randint(0, CLASSES, shape, device=options.device)
    if deep:
        own = SegmentationLoss("dice_ce", drops_coarsest=True)
        optimizer: torch.optim.Optimizer = torch.optim.SGD(
            model.parameters(), lr=1e-4, momentum=0.99, nesterov=True, weight_decay=3e-5
        )
    else:
        from monai.losses import DiceCELoss

        dice_ce = DiceCELoss(to_onehot_y=True, softmax=True)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    run = torch.compile(model) if way.compiled else model

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(options.device, torch.bfloat16):
            outputs: Any = run(image)
        loss = own(outputs, label[:, 0]) if deep else dice_ce(outputs.float(), label)
        loss.backward()
        if deep:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 12)
        optimizer.step()

    return step


def measure(step: Callable[[], None], options: argparse.Namespace) -> tuple[float, float]:
    """Seconds of a step, and the most GB in tensors."""
    on_card = options.device != "cpu"
    if on_card:
        torch.cuda.reset_peak_memory_stats()
    for _ in range(WARM if on_card else 1):
        step()
    if on_card:
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(options.turns):
        step()
    if on_card:
        torch.cuda.synchronize()
    seconds = (time.perf_counter() - start) / options.turns
    return seconds, torch.cuda.max_memory_allocated() / 1e9 if on_card else 0.0


def main() -> None:
    """Run one after the other and print the tables."""
    options = arguments()
    torch.backends.cudnn.benchmark = options.cudnn_benchmark
    ways = [Way(), Way(channels_last=False)] + [Way(compiled=True)] * options.compiled
    lines = [*heading(options), "| network | layout | whose | step, ms | patches per s | GB | peer / resvox |"]
    lines.append("|---|---|---|--:|--:|--:|--:|")
    found = []
    begin = time.perf_counter()
    for name, pair in PAIRS.items():
        for way in ways:
            seconds: dict[str, float] = {}
            for whose, make in reversed(pair.items()):
                if time.perf_counter() - begin > options.seconds:
                    continue
                try:
                    step = step_of(make(options), way, options, deep=name.startswith("residual"))
                    seconds[whose], memory = measure(step, options)
                except (ImportError, RuntimeError) as error:
                    print(f"{name}, {whose}, {way}: {error!r}"[:300], flush=True)
                    continue
                finally:
                    step = None  # type: ignore[assignment]
                compared = whose == "resvox" and len(seconds) > 1
                ratio = f"**{next(iter(seconds.values())) / seconds[whose]:.2f}**" if compared else ""
                found.append(
                    {"network": name, "way": str(way), "whose": whose, "seconds": seconds[whose], "gb": memory}
                )
                lines.append(
                    f"| {name} | {way} | {whose} | {1000 * seconds[whose]:.1f} | {options.batch / seconds[whose]:.1f} "
                    f"| {memory:.1f} | {ratio} |"
                )
                print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--compiled", action="store_true", help="also with torch.compile")
    parser.add_argument("--cudnn-benchmark", action="store_true", help="cuDNN tries its algorithms, as nnU-Net lets it")
    parser.add_argument("--thin", action="store_true", help="few features")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=600, help="after which nothing new begins")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()))
    parser.add_argument("--out", type=pathlib.Path, help="write the Markdown here")
    parser.add_argument("--json", type=pathlib.Path, help="write the numbers here")
    return parser.parse_args()


def heading(options: argparse.Namespace) -> list[str]:
    """Title and conditions of the table."""
    names = [name for name in ("torch", "monai", nnunet.PEER) if installed(name)]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    card = torch.cuda.get_device_name() if options.device != "cpu" else "a processor"
    return [
        f"## {options.batch} patches of {options.size} cubed, {CLASSES} classes, bfloat16 autocast",
        "",
        f"{datetime.date.today()}; {card}; {versions}, Python {platform.python_version()}; mean of {options.turns} "
        f"steps after {WARM}; cuDNN {'tries all algorithms' if options.cudnn_benchmark else 'takes its own choice'}.",
        "",
    ]


def installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    main()
