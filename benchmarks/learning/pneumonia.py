"""PneumoniaMNIST: `resvox train` beside torchvision's ResNet-18 under the protocol of MedMNIST.

    python benchmarks/learning/pneumonia.py WORK --data pneumoniamnist.npz --device cuda --minutes 5 --at-once 6
    python benchmarks/learning/pneumonia.py WORK --data pneumoniamnist.npz --report benchmarks/learning/pneumonia.md

28 x 28 grey images, pneumonia or normal. The protocol (Yang et al. 2023): a ResNet-18 whose stem is a 3 x 3 convolution
without pooling, Adam at 1e-3, batches of 128, 100 epochs, the learning rate divided by ten after 50 and 75, the epoch
with the best AUC on the validation images. resvox: the defaults of `resvox train --task classification` within the
minutes. All are scored on the official test images. The same command goes on after an interruption.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

FRAMEWORKS = ("resvox", "protocol")
TITLES = {"resvox": "resvox train, defaults", "protocol": "torchvision ResNet-18, MedMNIST's protocol"}
METRICS = ("auc", "accuracy", "balanced_accuracy")
EPOCHS, BATCH, RATE, MILESTONES = 100, 128, 1e-3, (50, 75)
Array = np.ndarray[Any, Any]


def arrays_of(data: Path, part: str) -> tuple[Array, Array]:
    """Images (n, 1, 28, 28) float32 from -1 to 1, and classes (n)."""
    with np.load(data) as held:
        images, labels = held[f"{part}_images"], held[f"{part}_labels"]
    return (images[:, None].astype(np.float32) / 255 - 0.5) / 0.5, labels.ravel().astype(np.int64)


def scores_of(chances: Array, truth: Array) -> dict[str, float]:
    """AUC, accuracy and balanced accuracy of probabilities (n, 2)."""
    from resvox.evaluation import score_classes

    found = score_classes(chances, [int(each) for each in truth], ["0", "1"])
    return {
        "auc": float(found.mean_auc or 0), "accuracy": found.accuracy, "balanced_accuracy": found.balanced_accuracy,
    }  # fmt: skip


def train_resvox(options: argparse.Namespace, out: Path) -> dict[str, Any]:
    """The command ``resvox train`` and its predictor."""
    from resvox import workflow
    from resvox.datasets.npz import read_npz
    from resvox.prediction.classifier import Classifier
    from resvox.volumes import Volume

    result = workflow.train(
        options.data, out / "run", task="classification", device=options.device, seed=options.seed, overwrite=True,
        minutes=options.minutes, workers=options.workers,
    )  # fmt: skip
    classifier = Classifier(str(result.fit.model_path), device=options.device)
    with np.load(options.data) as held:
        images, truth = held["test_images"], held["test_labels"].ravel()
    prepared = [classifier.prepare(Volume(image, spacing_mm=(1.0, 1.0))) for image in images]
    names = list(read_npz(options.data).classes)
    order = [names.index(name) for name in classifier.classes]
    chances = classifier.probabilities(prepared)[:, np.argsort(order)]
    steps = result.fit.history[-1]["step"]
    return {"steps": steps, "seconds": result.fit.seconds, "plan": result.plan.to_dict(), **scores_of(chances, truth)}


def train_protocol(options: argparse.Namespace, out: Path) -> dict[str, Any]:
    """MedMNIST's protocol with torchvision's network."""
    import torch
    from sklearn.metrics import roc_auc_score
    from torch import nn

    if torch.version.cuda is None:  # torchvision's operators, which a ResNet does not use, are compiled for CUDA alone
        operators = torch.library.Library("torchvision", "DEF")
        operators.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        operators.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from torchvision.models import resnet18

    torch.manual_seed(options.seed)
    network = resnet18(num_classes=2)
    network.conv1, network.maxpool = nn.Conv2d(1, 64, 3, padding=1, bias=False), nn.Identity()
    network.to(options.device)
    parts = {part: arrays_of(options.data, part) for part in ("train", "val", "test")}
    images, labels = (torch.from_numpy(each).to(options.device) for each in parts["train"])
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, MILESTONES, 0.1)
    best, kept, began = -1.0, np.zeros((0, 2)), time.monotonic()
    for _ in range(options.epochs):
        network.train()
        for places in torch.randperm(len(images), device=options.device).split(BATCH):
            if len(places) == 1:
                continue
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(network(images[places]), labels[places]).backward()
            optimizer.step()
        schedule.step()
        auc = float(roc_auc_score(parts["val"][1], _chances(network, parts["val"][0], options.device)[:, 1]))
        if auc > best:
            best, kept = auc, _chances(network, parts["test"][0], options.device)
    steps = options.epochs * -(-len(images) // BATCH)
    return {"steps": steps, "seconds": time.monotonic() - began, **scores_of(kept, parts["test"][1])}


def _chances(network: Any, images: Array, device: str) -> Array:
    import torch

    network.eval()
    with torch.no_grad():
        parts = [network(part.to(device)).softmax(1).cpu() for part in torch.from_numpy(images).split(BATCH)]
    return torch.cat(parts).double().numpy()


def run_one(options: argparse.Namespace, framework: str) -> None:
    """One training; its scores become a file."""
    from contender import Settings, machine

    out = options.work / "pneumonia" / f"{framework}_{options.seed}"
    out.mkdir(parents=True, exist_ok=True)
    found = train_resvox(options, out) if framework == "resvox" else train_protocol(options, out)
    settings = Settings(
        data=options.data, out=out, seconds=60 * options.minutes, device=options.device, seed=options.seed,
        spacing_mm=None, cores=(),
    )  # fmt: skip
    line = {"framework": framework, "seed": options.seed, "machine": machine(settings), **found}
    (out / "scores.json").write_text(json.dumps(line))
    print(framework, options.seed, {name: round(found[name], 4) for name in METRICS}, f"{found['seconds']:.0f} s")


def run_all(options: argparse.Namespace) -> None:
    """Every framework and seed that has no scores yet, so many at a time."""
    waiting = [
        (framework, seed)
        for seed in options.seeds
        for framework in FRAMEWORKS
        if not (options.work / "pneumonia" / f"{framework}_{seed}" / "scores.json").is_file()
    ]
    while waiting:
        now, waiting = waiting[: options.at_once], waiting[options.at_once :]
        running = [
            subprocess.Popen(
                [sys.executable, "-W", "ignore", __file__, *sys.argv[1:], "--only", framework, "--seed", str(seed)]
            )
            for framework, seed in now
        ]
        for process in running:
            process.wait()


def report(options: argparse.Namespace) -> None:
    """The page: mean, and the spread over seeds."""
    lines = [json.loads(path.read_text()) for path in sorted((options.work / "pneumonia").glob("*/scores.json"))]
    rows = ["# PneumoniaMNIST", "", f"Written by `benchmarks/learning/pneumonia.py`; {lines[0]['machine']}.", ""]
    rows += [(__doc__ or "").split("\n\n")[2].replace("\n", " "), ""]
    with np.load(options.data) as held:
        counts = [np.bincount(held[f"{part}_labels"].ravel()).tolist() for part in ("train", "val", "test")]
    rows += [f"Images (normal, pneumonia) to train {counts[0]}, to validate {counts[1]}, to test {counts[2]}.", ""]
    rows += [f"| | {' | '.join(METRICS)} | seeds | steps | seconds |", "|" + " --- |" * (len(METRICS) + 4)]
    for framework in FRAMEWORKS:
        own = [line for line in lines if line["framework"] == framework]
        if not own:
            continue
        cells = [f"{np.mean([x[m] for x in own]):.4f} ± {np.std([x[m] for x in own]):.4f}" for m in METRICS]
        steps, seconds = np.mean([x["steps"] for x in own]), np.mean([x["seconds"] for x in own])
        rows += [f"| {TITLES[framework]} | {' | '.join(cells)} | {len(own)} | {steps:.0f} | {seconds:.0f} |"]
    rows += ["", "Each seed:", "", f"| | seed | {' | '.join(METRICS)} |", "|" + " --- |" * (len(METRICS) + 2)]
    for line in lines:
        cells = [f"{line[metric]:.4f}" for metric in METRICS]
        rows += [f"| {line['framework']} | {line['seed']} | {' | '.join(cells)} |"]
    options.report.write_text("\n".join([*rows, ""]))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--minutes", type=float, default=5.0, help="of each training of resvox")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of the protocol")
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--only", choices=FRAMEWORKS, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--report", type=Path, default=None, help="train no more: write this page")
    options = parser.parse_args()
    if options.only:
        run_one(options, options.only)
    elif options.report is not None:
        report(options)
    else:
        run_all(options)


if __name__ == "__main__":
    main()
