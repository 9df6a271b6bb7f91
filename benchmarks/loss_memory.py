"""Dice and cross-entropy of many classes: seconds and memory of resvox's loss beside MONAI's, forward and backward.

    python benchmarks/loss_memory.py            # 1 x 117 x 96 x 96 x 96
    python benchmarks/loss_memory.py --quick

prints Markdown. Each loss runs in a process of its own; memory is the process's peak less what it held with the logits.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

from prediction.measure import memory_gb, peak_gb, processor

LOSSES = ("monai", "resvox")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=117)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--quick", action="store_true", help="48 cubed")
    parser.add_argument("--child", choices=LOSSES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    side = 48 if options.quick else options.side
    if options.child:
        print(json.dumps(measured(options.child, options.classes, side)))
        return
    print(f"{options.classes} classes, {side} cubed, float32; {processor()}\n")
    print("| loss | value | seconds, forward and backward | GB beyond the logits (of which the gradient) |")
    print("|---|---|---|---|")
    for name in LOSSES:
        command = [sys.executable, __file__, "--child", name, "--classes", str(options.classes), "--side", str(side)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        row = json.loads(done.stdout.splitlines()[-1])
        print(f"| {name} | {row['value']:.6f} | {row['seconds']:.2f} | {row['gb']:.2f} ({row['logits_gb']:.2f}) |")


def measured(name: str, classes: int, side: int) -> dict[str, float]:
    import torch
    from monai.losses import DiceCELoss

    from resvox.training.losses import SegmentationLoss

    torch.manual_seed(0)
    label = torch.randint(0, classes, (1, side, side, side))
    logits = torch.randn(1, classes, side, side, side, requires_grad=True)
    monai = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    own, held, start = SegmentationLoss("dice_ce"), memory_gb(), time.perf_counter()
    loss = monai(logits, label[:, None]) if name == "monai" else own(logits, label)
    loss.backward()
    seconds = time.perf_counter() - start
    return {"value": loss.item(), "seconds": seconds, "gb": peak_gb() - held, "logits_gb": logits.nbytes / 1e9}


if __name__ == "__main__":
    main()
