"""What `resvox predict` takes besides the network: a small scan, from a shell, with the compiled network in the cache.

    python benchmarks/start_up.py                           # ten runs, median
    python benchmarks/start_up.py --imports                 # also the slowest imports of one run
    python benchmarks/start_up.py --against ../resvox-old   # the same of an older checkout, in turns

prints Markdown, and writes it with --out FILE. The scan is a CT of 128x128x34 voxels out of noise, the network a small
U-Net; the first run compiles it and is not counted. Each run is a process of its own, timed from its start to its end;
the seconds of the network are those of its line in predict.jsonl. Bytecode is written to a folder of the benchmark,
whatever PYTHONDONTWRITEBYTECODE is: an installed package has it, too.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

METADATA = {
    "preprocessing": {
        "orientation": "SPL",
        "spacing_mm": [10.0, 3.0, 3.0],
        "crop": "none",
        "normalization": [{"kind": "window", "low": -1000, "high": 1000}],
    },
    "labels": {"background": 0, "lung": 1, "bone": 2},
    "channel_names": ["CT"],
    "inference": {"roi_size": [16, 64, 64], "overlap": 0.5},
    "task": "segmentation",
}
HERE = pathlib.Path(__file__).resolve().parent
PACKAGES = ("torch", "monai", "scipy", "pydicom", "SimpleITK", "nibabel", "openvino", "numpy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--imports", action="store_true", help="list the slowest imports of one run")
    parser.add_argument("--against", type=pathlib.Path, metavar="CHECKOUT", help="of an older commit")
    parser.add_argument("--out", type=pathlib.Path, help="write the Markdown here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        subprocess.run([sys.executable, "-c", MAKE, folder, json.dumps(METADATA)], check=True)
        checkouts = {"": None} if options.against is None else {"before": options.against.resolve(), "now": HERE.parent}
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
        for name, checkout in checkouts.items():
            predict(work, f"first{name}", name, checkout)
        for number in range(options.runs):
            for name, checkout in checkouts.items() if number % 2 else reversed(checkouts.items()):
                runs[name].append(predict(work, f"run{name}{number}", name, checkout))
        text = report(runs)
        if options.imports:
            text += imports(work, list(checkouts)[-1], list(checkouts.values())[-1])
    print(text)
    if options.out:
        options.out.write_text(text)


MAKE = """
import json, sys
import numpy as np, torch
import resvox
from resvox.volumes import Volume, write_volume
torch.manual_seed(0)
network = resvox.create_model("unet", encoder_name="resnet18", spatial_dims=3, in_channels=1, num_classes=3)
resvox.save_model(network, f"{sys.argv[1]}/model.safetensors", metadata=json.loads(sys.argv[2]))
values = np.random.default_rng(0).integers(-1000, 1000, (34, 128, 128)).astype(np.int16)
write_volume(Volume(values, spacing_mm=(10.0, 3.0, 3.0)), f"{sys.argv[1]}/ct.nii.gz")
"""


def command(
    work: pathlib.Path, out: str, name: str, checkout: pathlib.Path | None, *flags: str
) -> tuple[list[str], dict[str, str]]:
    """The line and the environment of a prediction with a checkout; None is the resvox that is imported here."""
    line = [sys.executable, *flags, "-m", "resvox", "predict", str(work / "model.safetensors"), str(work / "ct.nii.gz")]
    environment = {
        **os.environ,
        "RESVOX_CACHE": str(work / f"cache{name}"),
        "PYTHONPYCACHEPREFIX": str(work / "bytecode"),
        "PYTHONDONTWRITEBYTECODE": "",
        **({} if checkout is None else {"PYTHONPATH": str(checkout / "src")}),
    }
    return [*line, "-o", str(work / out)], environment


def predict(work: pathlib.Path, out: str, name: str, checkout: pathlib.Path | None) -> dict[str, float]:
    line, environment = command(work, out, name, checkout)
    start = time.perf_counter()
    subprocess.run(line, check=True, env=environment, capture_output=True)
    total = time.perf_counter() - start
    logged = json.loads((work / out / "predict.jsonl").read_text())
    return {"total": total, "network": logged["seconds"]["network"], **{"engine " + logged["engine"]: 1.0}}


def report(runs: dict[str, list[dict[str, float]]]) -> str:
    rows = {
        "the whole process": [[run["total"] for run in each] for each in runs.values()],
        "the network": [[run["network"] for run in each] for each in runs.values()],
        "all else": [[run["total"] - run["network"] for run in each] for each in runs.values()],
    }
    first = next(iter(runs.values()))
    engine = next(name for name in first[0] if name.startswith("engine "))
    names = [f"seconds {name}".strip() for name in runs]
    lines = [
        f"{len(first)} runs, {engine}, Python {platform.python_version()}, {os.cpu_count()} cores, "
        f"load average at the end {os.getloadavg()[0]:.1f}\n",
        f"| median of | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
        *(
            f"| {words} | {' | '.join(f'{statistics.median(values):.2f}' for values in found)} |"
            for words, found in rows.items()
        ),
    ]
    return "\n".join([*lines, ""])


def imports(work: pathlib.Path, name: str, checkout: pathlib.Path | None) -> str:
    line, environment = command(work, "imports", name, checkout, "-X", "importtime")
    done = subprocess.run(line, check=True, env=environment, capture_output=True, text=True)
    rows = [row.split("|") for row in done.stderr.splitlines() if row.startswith("import time:") and "us" not in row]
    spent = {name.strip(): int(cumulative) / 1e6 for _, cumulative, name in rows}
    lines = [f"| {name} | {spent[name]:.2f} |" if name in spent else f"| {name} | - |" for name in PACKAGES]
    return "\n".join(["\n| import, with all that it imports | seconds |", "|---|---|", *lines, ""])


if __name__ == "__main__":
    main()
