"""From a CT to its label map: MONAI's pipeline and resvox's, with the same network and weights, in one run.

    python benchmarks/predict_vs_peers.py            # 512x512x300, minutes
    python benchmarks/predict_vs_peers.py --small    # a fourth of it along each axis
    python benchmarks/predict_vs_peers.py --folder   # 200 small scans instead of a large one
    python benchmarks/predict_vs_peers.py --speed    # also with --speed balanced and fast
    python benchmarks/predict_vs_peers.py --paths monai resvox-int8    # int8, calibrated on the source scan
    python benchmarks/predict_vs_peers.py --old DIR --paths resvox-old resvox    # an older checkout against this one

prints Markdown, and writes it with --out FILE. The scan is the chest CT that slicerio ships, resampled to the size
needed; the network is a U-Net on resnet18 trained on it for two minutes (lungs and bones), so that label maps can be
compared. Each path runs in a process of its own, alternately; peak memory is the process's.
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

import numpy as np
from prediction.agreement import agreement
from prediction.case import model_path, prepare, result, roi, scans, source_scan
from prediction.contenders import CHILDREN
from prediction.measure import processor

PATHS = ("monai", "monai-amp", "resvox-plain", "resvox-float32", "resvox-bfloat16", "resvox")
# A batch of one scan takes the verdict of the run before: the first of two --repeats measures, the second is counted.
BFLOAT16_PATHS = ("monai-amp", "resvox-bfloat16")  # minutes without units for it; there only by name
SPEED_PATHS = ("resvox-balanced-float32", "resvox-fast-float32", "resvox-balanced", "resvox-fast")  # with --speed
LOW_PATHS = ("resvox-int8", "resvox-balanced-int8", "resvox-balanced-bfloat16")  # only by name: without the guard
OLD_PATHS = ("resvox-old-plain", "resvox-old-float32", "resvox-old")  # only with --old
HERE = pathlib.Path(__file__).resolve()
TITLES = {
    "monai": "MONAI, float32",
    "monai-amp": "MONAI, bfloat16 autocast",
    "resvox-plain": "resvox, plain torch, float32",
    "resvox-float32": "resvox, engine auto, float32",
    "resvox-bfloat16": "resvox, bfloat16, no guard",
    "resvox": "resvox, engine auto",
    "resvox-balanced-float32": "resvox, engine auto, float32, --speed balanced",
    "resvox-fast-float32": "resvox, engine auto, float32, --speed fast",
    "resvox-balanced": "resvox, engine auto, --speed balanced",
    "resvox-fast": "resvox, engine auto, --speed fast",
    "resvox-int8": "resvox, int8, no guard",
    "resvox-balanced-int8": "resvox, int8, no guard, --speed balanced",
    "resvox-balanced-bfloat16": "resvox, bfloat16, no guard, --speed balanced",
    "resvox-old-plain": "resvox before, plain torch, float32",
    "resvox-old-float32": "resvox before, engine auto, float32",
    "resvox-old": "resvox before, engine auto",
}


def main() -> None:
    options = arguments()
    if options.child:
        print(json.dumps(CHILDREN[options.child.split("-")[0]](options)))
        return
    options.work.mkdir(parents=True, exist_ok=True)
    prepare(options, options.train_device or options.device)
    if any("int8" in path for path in options.paths) and not quantize(options):
        options.paths = [path for path in options.paths if "int8" not in path]
    rows = []
    for turn in range(options.repeats):
        for path in options.paths:
            row = in_process(options, path)
            rows.append({"path": path, "turn": turn, **row})
            print(json.dumps(rows[-1]), flush=True)
    text = report(options, rows)
    print(text)
    if options.out:
        options.out.write_text(text)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="128x128x75 voxels, windows of 32")
    parser.add_argument("--folder", type=int, nargs="?", const=200, default=0, help="so many small scans")
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--steps", type=int, default=120, help="of training")
    parser.add_argument(
        "--paths", nargs="+", choices=[*PATHS, *SPEED_PATHS, *LOW_PATHS, *OLD_PATHS], help="one may be named twice"
    )
    parser.add_argument("--speed", action="store_true", help="also the paths with --speed balanced and fast")
    parser.add_argument("--old", type=pathlib.Path, help="a checkout of an older commit, for the paths resvox-old...")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--train-device", help="of the training before; that of --device if not given")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()) / "resvox-benchmark")
    parser.add_argument("--out", type=pathlib.Path, help="write the Markdown here")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    able = [path for path in PATHS if path not in BFLOAT16_PATHS or options.device != "cpu" or "bf16" in processor()]
    options.paths = options.paths or [
        *able,
        *(SPEED_PATHS if options.speed else []),
        *(["resvox-old"] if options.old else []),
    ]
    if options.old is None and set(options.paths) & set(OLD_PATHS):
        parser.error("the paths resvox-old... need --old CHECKOUT")
    return options


def quantize(options: argparse.Namespace) -> bool:
    """`resvox export --precision int8`, calibrated on the training scan; whether it was written."""
    command = [
        sys.executable,
        "-m",
        "resvox",
        "export",
        str(model_path(options)),
        "--format",
        "openvino",
        "--overwrite",
    ]
    command += ["--precision", "int8", "--calibrate", str(source_scan())]
    return subprocess.run(command, check=False, stdout=sys.stderr).returncode == 0


def source_of(options: argparse.Namespace, path: str) -> dict[str, str]:
    """The environment in which a path's process finds its resvox; each checkout keeps its own compiled networks."""
    if options.old is None:
        return dict(os.environ)
    old = path in OLD_PATHS
    checkout = options.old.resolve() if old else HERE.parents[1]
    cache = options.work / ("cache-old" if old else "cache")
    return {**os.environ, "PYTHONPATH": str(checkout / "src"), "RESVOX_CACHE": str(cache)}


def in_process(options: argparse.Namespace, path: str) -> dict[str, object]:
    command = [sys.executable, __file__, "--child", path, "--work", str(options.work), "--device", options.device]
    command += ["--classes", str(options.classes), *(["--small"] if options.small else [])]
    command += ["--folder", str(options.folder)] if options.folder else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=source_of(options, path))
    return json.loads(done.stdout.strip().splitlines()[-1])


def label_map(options: argparse.Namespace, path: str) -> np.ndarray:
    from resvox.volumes import read_volume

    return read_volume(result(options, path) / scans(options)[0].name).array


def report(options: argparse.Namespace, rows: list[dict]) -> str:  # type: ignore[type-arg]
    best = {path: min((r for r in rows if r["path"] == path), key=lambda r: r["total"]) for path in options.paths}
    plain = best.get("monai")
    reference = label_map(options, "resvox-plain") if "resvox-plain" in best else None
    lines = [
        "| path | engine | read, preprocess | network | restore, write | total s | MONAI / this | CPU s | MONAI / this "
        "| peak GB (above imports) | labels = plain float32 (minimum Dice) |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for path, row in best.items():
        seconds = row["seconds"]
        first = sum(seconds.get(name, 0.0) for name in ("read, preprocess", "read", "preprocess"))
        last = sum(seconds.get(name, 0.0) for name in ("restore", "labels", "write"))
        ratio, ratio_cpu = (f"{plain[key] / row[key]:.1f}" if plain else "-" for key in ("total", "cpu"))
        same = "-"
        if reference is not None:
            share, dice = agreement(label_map(options, path), reference)
            same = f"{100 * share:.3f} % ({dice:.4f})"
        memory = f"{row['peak_gb']:.2f} ({row['peak_gb'] - row['own_gb']:.2f})"
        lines.append(
            f"| {TITLES[path]} | {row.get('engine', 'torch')} | {first:.1f} | {seconds.get('network', 0):.1f} "
            f"| {last:.1f} | {row['total']:.1f} | **{ratio}** | {row['cpu']:.0f} | {ratio_cpu} | {memory} | {same} |"
        )
    size = "x".join(map(str, label_map(options, options.paths[-1]).shape[::-1]))
    what = f"{options.folder} scans of {size}" if options.folder else f"a CT of {size} voxels"
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "monai", *extra_packages()))
    head = [
        f"## {what}, {options.classes} classes, windows of {roi(options)} cubed, overlap 0.5, on {options.device}",
        "",
        f"{datetime.date.today()}; {versions}, Python {platform.python_version()}; {processor()}, "
        f"{len(os.sched_getaffinity(0))} cores; load average at the end {os.getloadavg()[0]:.1f}; "
        f"minimum total of {options.repeats} runs.",
        "CPU s: seconds of the process over all cores, which other work on the machine changes less than the clock's.",
        "Stages of resvox overlap where there are several scans, so they may add up to more than the total.",
        "",
    ]
    return "\n".join([*head, *lines, "", *old_and_new(best)])


def old_and_new(best: dict[str, dict]) -> list[str]:  # type: ignore[type-arg]
    """A line for each pair of an older checkout's path and the same one of this."""
    pairs = [(path, path.replace("-old", "")) for path in OLD_PATHS]
    return [
        f"* {TITLES[new]}: before / now {best[old]['total'] / best[new]['total']:.2f} by the clock, "
        f"{best[old]['cpu'] / best[new]['cpu']:.2f} in CPU seconds.\n"
        for old, new in pairs
        if old in best and new in best
    ]


def extra_packages() -> list[str]:
    found = {each.metadata["Name"].lower() for each in importlib.metadata.distributions() if each.metadata["Name"]}
    return [name for name in ("openvino", "onnxruntime") if name in found]


if __name__ == "__main__":
    main()
