"""Folders of small inputs through `resvox.workflow.predict`: an older checkout and this one, in one run.

    git worktree add --detach ../resvox-old 041da23
    python benchmarks/predict_folders.py ../resvox-old              # 200 scans, 60 scans, 1000 images; writes the .md
    python benchmarks/predict_folders.py ../resvox-old --small      # a few of each, to see that it runs; prints only

A segmenter on a folder of small volumes, a regressor on a folder of volumes, a classifier on a folder of pictures. Each
run is a process of its own with ``PYTHONPATH`` at one of the two checkouts; they alternate, in changing order,
so that other work on the machine affects both. The first run is not timed; it fills the cache of compiled networks of
each side. The networks are not trained: times are compared, and outputs are checked to agree.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

HERE = pathlib.Path(__file__).resolve()
SIDES = ("old", "new")
WINDOW = {"kind": "window", "low": -1000, "high": 1000}
NETWORK = {
    "encoder_name": "resnet10", "widths": (16, 32, 64, 128), "stem_width": 16, "encoder_depth": 4,
    "decoder_filters": (64, 32, 16, 16), "spatial_dims": 3, "in_channels": 1,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Case:
    """One folder and one model: their sizes, and what writes them."""

    title: str
    count: int
    shape: tuple[int, ...]
    model: Callable[[pathlib.Path], object]


def save(path: pathlib.Path, name: str, metadata: dict[str, object], **options: Any) -> None:
    """A new network with everything that a prediction needs."""
    import torch

    import resvox

    torch.manual_seed(0)
    resvox.save_model(resvox.create_model(name, **options), path, metadata=metadata)


def segmenter(path: pathlib.Path) -> None:
    """Four labels on a grid of 1.5 mm."""
    metadata: dict[str, object] = {
        "task": "segmentation",
        "preprocessing": {"orientation": "SPL", "spacing_mm": [1.5] * 3, "crop": "none", "normalization": [WINDOW]},
        "labels": {"background": 0, "a": 1, "b": 2, "c": 3},
        "channel_names": ["CT"],
        "inference": {"roi_size": [48] * 3, "overlap": 0.5, "mirror_axes": []},
    }
    save(path, "unet", metadata, num_classes=4, **NETWORK)


def regressor(path: pathlib.Path) -> None:
    """One value on a grid of 1.5 mm."""
    metadata: dict[str, object] = {
        "task": "regression",
        "preprocessing": {"orientation": "SPL", "spacing_mm": [1.5] * 3, "crop": "none", "normalization": [WINDOW]},
        "channel_names": ["CT"],
        "target_names": ["dose"],
        "target_mean": [20.0],
        "target_std": [10.0],
        "inference": {"roi_size": [48] * 3, "overlap": 0.5, "mirror_axes": []},
    }
    save(path, "unet", metadata, num_classes=1, **NETWORK)


def classifier(path: pathlib.Path) -> None:
    """Three classes of pictures of 128 x 128 pixels."""
    metadata: dict[str, object] = {
        "task": "classification",
        "preprocessing": {
            "orientation": None,
            "spacing_mm": None,
            "crop": "none",
            "normalization": [{"kind": "window", "low": 0, "high": 255, "mean": 128.0, "std": 64.0}],
        },
        "labels": {"a": 0, "b": 1, "c": 2},
        "channel_names": ["intensity"],
        "inference": {"image_size": [128, 128], "fit": "resize", "batch_size": 16},
    }
    save(path, "resnet18", metadata, spatial_dims=2, in_channels=1, num_classes=3)


def cases(small: bool) -> dict[str, Case]:
    """What is run, by name."""
    return {
        "segmentation": Case(
            title="segmenter", count=6 if small else 200, shape=(32, 48, 48) if small else (40, 64, 64), model=segmenter
        ),
        "regression": Case(
            title="regressor", count=4 if small else 60, shape=(32, 48, 48) if small else (64, 96, 96), model=regressor
        ),
        "classification": Case(
            title="classifier", count=20 if small else 1000, shape=(128, 128), model=classifier
        ),
    }  # fmt: skip


def prepare(folder: pathlib.Path, case: Case) -> None:
    """Inputs and model, written by this checkout."""
    from resvox.volumes import Volume, write_volume

    case.model(folder / "model.safetensors")
    for number in range(case.count):
        rng = np.random.default_rng(number)
        coarse = rng.normal(0, 400, [-(-side // 8) for side in case.shape])
        array = np.kron(coarse, np.ones([8] * len(case.shape)))[tuple(map(slice, case.shape))]
        array = array + rng.normal(0, 20, case.shape)
        if len(case.shape) == 2:
            picture = Volume((array / 8 + 128).clip(0, 255).astype(np.uint8), spacing_mm=(1.0, 1.0))
            write_volume(picture, folder / f"in/x{number:04d}.png")
        else:
            scan = Volume(array.astype(np.int16), spacing_mm=(2.0, 1.2, 1.2))
            write_volume(scan, folder / f"in/x{number:04d}.nii.gz")


def run_child(folder: pathlib.Path, out: pathlib.Path, device: str) -> dict[str, object]:
    """One run of `predict`, in the process that was started for it; a model loaded and an engine chosen included."""
    import torch  # noqa: F401 - importing it is not what is timed

    import resvox
    from resvox.workflow import predict

    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    done = predict(folder / "model.safetensors", folder / "in", out, device=device)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    assert done.ok, [case.reason for case in done.cases if case.reason]
    last = json.loads((out / "predict.jsonl").read_text().splitlines()[-1])
    return {
        "source": str(pathlib.Path(resvox.__file__).resolve().parents[2]),
        "seconds": seconds,
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "peak_gb": after.ru_maxrss * 1024 / 1e9,
        "engine": ", ".join(str(last[name]) for name in ("engine", "precision") if last.get(name)),
    }


def in_process(checkout: pathlib.Path, folder: pathlib.Path, side: str, device: str) -> dict[str, Any]:
    """One run with one checkout's source, into a folder that is empty before."""
    out = folder / f"out-{side}"
    shutil.rmtree(out, ignore_errors=True)
    environment = {
        **os.environ,
        "PYTHONPATH": str(checkout.resolve() / "src"),
        "RESVOX_CACHE": str(folder / f"cache-{side}"),
    }
    command = [sys.executable, str(HERE), "--child", str(folder), str(out), device]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    row: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    assert row["source"] == str(checkout.resolve()), f"{side}: ran the source of {row['source']}"
    return row


def agreement(folder: pathlib.Path, name: str) -> str:
    """The agreement of the outputs of the two sides, as text."""
    if name == "classification":
        tables = [list(csv.DictReader((folder / f"out-{side}/predictions.csv").open())) for side in SIDES]
        pairs = list(zip(*tables, strict=True))
        same = sum(old["predicted"] == new["predicted"] for old, new in pairs)
        largest = max(abs(float(old[key]) - float(new[key])) for old, new in pairs for key in old if key[:2] == "p_")
        return f"{same} of {len(pairs)} classes equal, probabilities differ by at most {largest:.1e}"
    from resvox.volumes import read_volume

    equal, voxels, largest, reach = 0, 0, 0.0, 0.0
    for path in sorted((folder / "out-old").glob("*.nii.gz")):
        old, new = (read_volume(folder / f"out-{side}" / path.name).array for side in SIDES)
        equal, voxels = equal + int(np.count_nonzero(old == new)), voxels + old.size
        largest = max(largest, float(np.abs(old.astype(np.float32) - new.astype(np.float32)).max()))
        reach = max(reach, float(np.ptp(old)))
    if name == "segmentation":
        return f"{100 * equal / voxels:.3f} % of labels equal"
    return f"values differ by at most {largest:.1e} in a range of {reach:.1f}"


def report(
    rows: list[dict[str, Any]], agreements: dict[str, str], chosen: dict[str, Case], checkouts: dict[str, str]
) -> str:
    """The Markdown page."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", *extra_packages()))
    lines = [
        "# Folders of small inputs: an older commit and this one",
        "",
        f"Written by `python benchmarks/predict_folders.py` on {datetime.date.today()}: old is {checkouts['old']}, "
        f"new is {checkouts['new']}; {versions}, Python {platform.python_version()}, {os.cpu_count()} cores, load "
        f"average at the end {os.getloadavg()[0]:.1f}. Old and new alternate in separate processes; networks are "
        "compiled before. Seconds of the whole call of `predict`, by the clock and of the processor.",
        "",
        "| folder | side | engine | median s | minimum s | CPU s | peak GB | old / side (median) "
        "| old / side (minimum) |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, case in chosen.items():
        size = "x".join(map(str, reversed(case.shape)))
        own = {side: [row for row in rows if (row["case"], row["side"]) == (name, side)] for side in SIDES}
        middle = {side: statistics.median(row["seconds"] for row in own[side]) for side in SIDES}
        minimum = {side: min(row["seconds"] for row in own[side]) for side in SIDES}
        for side in SIDES:
            cpu, peak = (min(row[key] for row in own[side]) for key in ("cpu", "peak_gb"))
            lines.append(
                f"| {case.title}, {case.count} of {size} | {side} | {own[side][-1]['engine']} | {middle[side]:.1f} "
                f"| {minimum[side]:.1f} | {cpu:.1f} | {peak:.2f} | {middle['old'] / middle[side]:.2f} "
                f"| {minimum['old'] / minimum[side]:.2f} |"
            )
    return "\n".join([*lines, "", *(f"* {chosen[name].title}: {text}." for name, text in agreements.items()), ""])


def extra_packages() -> list[str]:
    """Packages for faster engines that are installed."""
    found = {str(each.metadata["Name"]).lower() for each in importlib.metadata.distributions()}
    return [name for name in ("openvino", "onnxruntime") if name in found]


def commit_of(checkout: pathlib.Path) -> str:
    """The short name of a checkout's commit."""
    words = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(words, capture_output=True, text=True).stdout.strip() or "no commit"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=pathlib.Path, nargs="?", help="a checkout of an older commit")
    parser.add_argument("--small", action="store_true", help="a few inputs, one turn, nothing written")
    parser.add_argument("--cases", nargs="+", choices=list(cases(small=True)), default=list(cases(small=True)))
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Run both sides in turns and write the page."""
    options = arguments()
    if options.child:
        folder, out, device = options.child
        print(json.dumps(run_child(pathlib.Path(folder), pathlib.Path(out), device)))
        return
    if options.old is None:
        # `make bench-all` calls every script without arguments; this one needs something to compare with.
        print("predict_folders.py: no older checkout was named, nothing to do")
        return
    checkouts = {"old": options.old, "new": HERE.parents[1]}
    chosen = {name: case for name, case in cases(options.small).items() if name in options.cases}
    rows: list[dict[str, Any]] = []
    agreements: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as work:
        for name, case in chosen.items():
            folder = pathlib.Path(work).resolve() / name
            folder.mkdir()
            prepare(folder, case)
            for turn in range(-1, 1 if options.small else options.turns):
                for side in SIDES if turn % 2 else SIDES[::-1]:
                    row = {"case": name, "side": side, **in_process(checkouts[side], folder, side, options.device)}
                    if turn >= 0:  # the one before only fills the caches
                        rows.append(row)
                        print(json.dumps(row), flush=True)
            agreements[name] = agreement(folder, name)
    text = report(rows, agreements, chosen, {side: commit_of(path) for side, path in checkouts.items()})
    print(text)
    if not options.small:
        HERE.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
