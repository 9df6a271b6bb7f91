"""From CTs to label maps on a GPU: MONAI under autocast and resvox, with the same network and weights, in one run.

    python benchmarks/predict_on_gpu.py                        # 512x512x300, minutes
    python benchmarks/predict_on_gpu.py --small --device cpu   # to see that it runs

prints Markdown, and writes it with --out FILE; --json FILE keeps the numbers. Scan and network are those of
`predict_vs_peers.py`; the network is trained here. Each path runs in a process of its own, over --scans copies of the
scan, one after the other: the total begins before the model is loaded, and the stages are those of the last scan, when
everything is warm. Memory is the most that was in use on the GPU; utilisation is the share of the time in which a
kernel ran, as NVML samples it, over the total.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from prediction.agreement import agreement
from prediction.case import WINDOW, metadata, model_path, prepare, roi
from prediction.measure import Watch, peak_gb

TITLES = {
    "monai": "MONAI, float32",
    "monai-amp": "MONAI, bfloat16 autocast",
    "resvox-float32-host": "resvox, float32, sums in main memory",
    "resvox-host": "resvox, sums in main memory",
    "resvox-float32": "resvox, float32",
    "resvox": "resvox",
}
REFERENCE = "resvox-float32-host"
MONAI_BATCH = 4  # windows in one pass, as in its tutorials


class Card:
    """Samples of a card's utilisation and memory, taken in a thread."""

    def __init__(self, device: str) -> None:
        self.used: list[tuple[float, float]] = []
        self._handle: Any = None
        if device != "cpu":
            import pynvml

            pynvml.nvmlInit()
            self._nvml, self._handle = pynvml, pynvml.nvmlDeviceGetHandleByIndex(0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while self._handle is not None and not self._stop.wait(0.02):
            share = self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu
            self.used.append((share, self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used / 1e9))

    def result(self) -> dict[str, float]:
        """Mean utilisation in percent, and the most memory in GB."""
        self._stop.set()
        self._thread.join()
        if not self.used:
            return {"utilisation": 0.0, "card_gb": 0.0}
        shares, memory = zip(*self.used, strict=True)
        return {"utilisation": float(np.mean(shares)), "card_gb": float(max(memory))}


def scans(options: argparse.Namespace) -> list[pathlib.Path]:
    folder = options.work / ("small" if options.small else "ct")
    return [folder / f"ct{number}.nii.gz" for number in range(options.scans)]


def result(options: argparse.Namespace, path: str) -> pathlib.Path:
    return options.work / "results" / f"{path}-{options.classes}{'-small' * options.small}"


def copies(options: argparse.Namespace) -> None:
    """The scan of `predict_vs_peers.py`, as often as it is predicted."""
    single = options.work / ("small.nii.gz" if options.small else "ct.nii.gz")
    for path in scans(options):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            os.link(single, path)


def run_monai(options: argparse.Namespace) -> dict[str, Any]:
    """MONAI's transforms as its tutorials chain them; what is undone is undone on the processor."""
    import torch
    from monai.inferers import sliding_window_inference
    from monai.transforms import (
        AsDiscreted,
        Compose,
        EnsureChannelFirstd,
        Invertd,
        LoadImaged,
        Orientationd,
        SaveImaged,
        ScaleIntensityRanged,
        Spacingd,
    )

    import resvox

    spacing_mm = metadata(options)["preprocessing"]["spacing_mm"]  # type: ignore[index]
    before = Compose(
        [
            LoadImaged("image"),
            EnsureChannelFirstd("image"),
            Orientationd("image", axcodes="SPL"),
            Spacingd("image", pixdim=spacing_mm, mode="bilinear"),
            ScaleIntensityRanged("image", a_min=WINDOW[0], a_max=WINDOW[1], b_min=-1.0, b_max=1.0, clip=True),
        ]
    )
    out = result(options, options.child)
    after = [
        Invertd("pred", transform=before, orig_keys="image", nearest_interp=False, to_tensor=True, device="cpu"),
        AsDiscreted("pred", argmax=True),
        SaveImaged("pred", output_dir=out, output_postfix="", separate_folder=False, print_log=False, dtype=np.uint8),
    ]
    autocast = options.child.endswith("amp")
    watches, card, start = [], Card(options.device), time.perf_counter()
    network = resvox.load_model(model_path(options)).to(options.device)
    for path in scans(options):
        watch = Watch()
        watches.append(watch)
        data = watch("read, preprocess", lambda path=path: before({"image": str(path)}))

        def network_pass(data: dict = data) -> Any:  # type: ignore[type-arg]
            with torch.inference_mode(), torch.autocast(options.device, dtype=torch.bfloat16, enabled=autocast):
                batch = data["image"][None].to(options.device)
                logits = sliding_window_inference(
                    batch, [roi(options)] * 3, MONAI_BATCH, network, overlap=0.5, mode="gaussian"
                )
            if options.device != "cpu":
                torch.cuda.synchronize()
            return logits

        data["pred"] = watch("network", network_pass)[0].float()
        for stage, transform in zip(("restore", "labels", "write"), after, strict=True):
            data = watch(stage, lambda transform=transform, item=data: transform(item))
    total = time.perf_counter() - start
    return {"total": total, "stages": [watch.seconds for watch in watches], "engine": "torch", **card.result()}


def run_resvox(options: argparse.Namespace) -> dict[str, Any]:
    """What `resvox predict` does."""
    from resvox.prediction.device import of_model
    from resvox.workflow import predict

    if options.child.endswith("host"):
        of_model.DEVICES = ()
    elif options.device == "cpu":
        of_model.DEVICES = ("cpu",)
    card, start = Card(options.device), time.perf_counter()
    done = predict(
        model_path(options),
        scans(options),
        result(options, options.child),
        overwrite=True,
        device=options.device,
        engine="torch",
        precision="float32" if "float32" in options.child else "auto",
    )
    total = time.perf_counter() - start
    assert done.ok, [case.reason for case in done.cases]
    return {"total": total, "stages": [case.seconds for case in done.cases], "engine": done.engine, **card.result()}


CHILDREN: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {"monai": run_monai, "resvox": run_resvox}


def child(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    row = CHILDREN[options.child.split("-")[0]](options)
    if options.device != "cpu":
        row["tensors_gb"] = torch.cuda.max_memory_reserved() / 1e9
    return {**row, "peak_gb": peak_gb()}


def main() -> None:
    options = arguments()
    if options.child:
        print(json.dumps(child(options)))
        return
    options.work.mkdir(parents=True, exist_ok=True)
    prepare(options, options.device)
    copies(options)
    if options.prepare:
        return
    rows: dict[str, dict[str, Any]] = {}
    for path in options.paths:
        row = in_process(options, path)
        print(json.dumps({"path": path, **row}), flush=True)
        if "total" in row:
            rows[path] = row
    text = report(options, rows)
    print(text)
    if options.out:
        options.out.write_text(text)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="128x128x75 voxels, windows of 32")
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--scans", type=int, default=3)
    parser.add_argument("--steps", type=int, default=500, help="of training")
    parser.add_argument("--paths", nargs="+", choices=list(TITLES), default=list(TITLES)[1:])
    parser.add_argument("--seconds", type=float, default=300, help="that a path may take")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()) / "resvox-benchmark")
    parser.add_argument("--prepare", action="store_true", help="make scans and networks alone")
    parser.add_argument("--out", type=pathlib.Path, help="write the Markdown here")
    parser.add_argument("--json", type=pathlib.Path, help="write the numbers here")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.folder = 0
    return options


def in_process(options: argparse.Namespace, path: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", path, "--work", str(options.work), "--device", options.device]
    command += ["--classes", str(options.classes), "--scans", str(options.scans)]
    command += ["--small"] if options.small else []
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=options.seconds)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {options.seconds:.0f} s"}
    except subprocess.CalledProcessError as error:
        return {"failed": f"exit code {error.returncode}"}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def label_map(options: argparse.Namespace, path: str) -> np.ndarray:
    from resvox.volumes import read_volume

    return read_volume(result(options, path) / scans(options)[-1].name).array


def report(options: argparse.Namespace, rows: dict[str, dict[str, Any]]) -> str:
    plain = rows.get("monai-amp") or rows.get("monai")
    reference = label_map(options, REFERENCE) if REFERENCE in rows else None
    lines = [
        "| path | engine | read, preprocess | network | restore, write | total s | MONAI / this: total, network "
        "| GPU GB | GPU busy | main memory, peak GB | labels = float32 in main memory (least Dice) |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for path, row in rows.items():
        first, network, last = stages(row)
        same, ratios = "-", "-"
        if plain is not None:
            ratios = f"**{plain['total'] / row['total']:.1f}**, {stages(plain)[1] / network:.1f}"
        if reference is not None:
            share, dice = agreement(label_map(options, path), reference)
            same = f"{100 * share:.3f} % ({dice:.4f})"
        lines.append(
            f"| {TITLES[path]} | {row['engine']} | {first:.2f} | {network:.2f} | {last:.2f} | {row['total']:.1f} "
            f"| {ratios} | {row['card_gb']:.1f} | {row['utilisation']:.0f} % | {row['peak_gb']:.1f} | {same} |"
        )
    what = "small scans of 128x128x75" if options.small else "CTs of 512x512x300"
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "monai", "numpy"))
    head = [
        f"## {options.scans} {what} voxels, {options.classes} classes, windows of {roi(options)} cubed, overlap 0.5",
        "",
        f"{datetime.date.today()}; {card_name(options.device)}; {versions}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores. Stages in seconds, of the last scan; the total is that of all scans, "
        "including loading the model.",
        "",
    ]
    return "\n".join([*head, *lines, ""])


def stages(row: dict[str, Any]) -> tuple[float, float, float]:
    """Seconds of the last scan: until it is prepared, in the network, and after it."""
    seconds = row["stages"][-1]
    first = sum(seconds.get(name, 0.0) for name in ("read, preprocess", "read", "preprocess"))
    return first, seconds["network"], sum(seconds.get(name, 0.0) for name in ("restore", "labels", "write"))


def card_name(device: str) -> str:
    import torch

    return torch.cuda.get_device_name() if device != "cpu" else "a processor"


if __name__ == "__main__":
    main()
