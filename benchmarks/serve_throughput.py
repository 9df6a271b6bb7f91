"""Scans per minute of `resvox serve` with several clients, against `resvox predict` over the same folder.

    python benchmarks/serve_throughput.py            # writes benchmarks/serve_throughput.md

Both begin with a loaded model: `predict` is timed without the seconds of an empty run, the server from the first upload
to the last downloaded label map. Runs alternate; the table has the median of each.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel
import numpy as np
import requests
import torch

import resvox

CLIENTS, ROI = 4, 32
CHOICES = ["--engine", "torch", "--precision", "float32", "--device", "cpu"]


def make_model(path: Path) -> None:
    torch.manual_seed(0)
    network = resvox.create_model(
        "unet", encoder_name="resnet10", encoder_depth=3, decoder_filters=(16, 8, 8), widths=(8, 16, 16, 16),
        stem_width=8, spatial_dims=3, in_channels=1, num_classes=3,
    )  # fmt: skip
    path.parent.mkdir(parents=True)
    window = {"kind": "window", "low": -1000.0, "high": 1000.0, "mean": 0.0, "std": 500.0}
    metadata = {
        "preprocessing": {"orientation": "SPL", "spacing_mm": None, "crop": "none", "normalization": [window]},
        "labels": {"background": 0, "a": 1, "b": 2}, "channel_names": ["CT"], "task": "segmentation",
        "inference": {"roi_size": [ROI] * 3, "overlap": 0.25, "mirror_axes": []},
    }  # fmt: skip
    resvox.save_model(network, path, metadata=metadata)


def make_scans(folder: Path, count: int, side: int) -> list[Path]:
    folder.mkdir()
    paths = []
    for number in range(count):
        array = np.random.default_rng(number).integers(-900, 900, (side, side, side)).astype(np.int16)
        paths.append(folder / f"scan{number:03d}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(array, np.diag([1.0, 1, 2, 1])), paths[-1])
    return paths


def predict_seconds(model: Path, inputs: list[Path], out: Path) -> float:
    start = time.perf_counter()
    command = [sys.executable, "-m", "resvox", "predict", str(model), *map(str, inputs), "-o", str(out), *CHOICES]
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


class Served:
    def __init__(self, model: Path, data: Path) -> None:
        command = [sys.executable, "-m", "resvox", "serve", str(model), "--port", "0", "--data", str(data), *CHOICES]
        self.process = subprocess.Popen([*command, "--log-level", "warning"], stdout=subprocess.PIPE, text=True)
        self.url = re.search(r"http://\S+", self.process.stdout.readline())[0]
        while not requests.get(f"{self.url}/healthz", timeout=60).ok:
            time.sleep(0.2)

    def one(self, path: Path, out: Path) -> None:
        with path.open("rb") as file:
            job = requests.post(
                f"{self.url}/jobs", data={"model": "model"}, files={"files": (path.name, file)}, timeout=60
            )
        job.raise_for_status()
        state = job.json()
        while not state["finished"]:
            state = requests.get(f"{self.url}/jobs/{state['id']}", params={"wait": 30}, timeout=60).json()
        if state["state"] != "done":
            raise SystemExit(f"{path}: {state['reason']}")
        (out / path.name).write_bytes(requests.get(self.url + state["files"]["labels"]["url"], timeout=60).content)
        requests.delete(f"{self.url}/jobs/{state['id']}", timeout=60)

    def seconds(self, paths: list[Path], out: Path) -> float:
        out.mkdir()
        start = time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as clients:
            list(clients.map(lambda path: self.one(path, out), paths))
        return time.perf_counter() - start

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, default=12)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model = root / "model" / "model.safetensors"
        make_model(model)
        paths = make_scans(root / "scans", given.scans, given.side)
        (one,) = make_scans(root / "small", 1, 8)
        served = Served(model, root / "data")
        served.seconds([paths[0]], root / "warm")
        mine, theirs = [], []
        for number in range(given.rounds):
            empty = predict_seconds(model, [one], root / f"empty{number}")
            theirs.append(predict_seconds(model, paths, root / f"predict{number}") - empty)
            mine.append(served.seconds(paths, root / f"serve{number}"))
        served.stop()
        for path in paths:
            same = (root / "serve0" / path.name).read_bytes() == (root / "predict0" / path.name).read_bytes()
            assert same, path.name
    write(given, statistics.median(theirs), statistics.median(mine), list(zip(theirs, mine, strict=True)))


def write(given: argparse.Namespace, theirs: float, mine: float, rounds: list[tuple[float, float]]) -> None:
    lines = [
        "# Throughput of `resvox serve`",
        "",
        f"{given.scans} scans of {given.side}^3 voxels, a 3D U-Net in float32 on {torch.get_num_threads()} threads of "
        f"a processor, {CLIENTS} clients; label maps are equal byte for byte. By `benchmarks/serve_throughput.py`.",
        "",
        "| | seconds (median) | scans per minute |",
        "|---|---|---|",
        f"| `resvox predict`, without its start | {theirs:.1f} | {60 * given.scans / theirs:.1f} |",
        f"| `resvox serve`, upload to download | {mine:.1f} | {60 * given.scans / mine:.1f} |",
        "",
        f"The server has {theirs / mine:.2f} of the throughput. Rounds (predict, serve): "
        + ", ".join(f"{a:.1f} {b:.1f}" for a, b in rounds) + ".",
    ]  # fmt: skip
    text = "\n".join(lines) + "\n"
    Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
