"""Model, scans, the S3 server, and how commands are run."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
SOURCES = str(ROOT / "src")
sys.path[:0] = [SOURCES, str(ROOT / "tests")]  # the environment with Ray has the packages of the tests, not this one
from fleet.faulty import faulty  # noqa: E402
from fleet.store import s3_server  # noqa: E402

import resvox  # noqa: E402

__all__ = [
    "ENGINE", "ROOT", "WITH_PEAK", "WITH_STORE", "Bench", "faulty", "like_a_ct", "make_model", "make_scans",
    "of_folder", "shown_by",
]  # fmt: skip

KEYS = {"AWS_ACCESS_KEY_ID": "test-key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
ENGINE = ("--engine", "torch", "--precision", "float32", "--device", "cpu")
RESVOX = "import sys; from resvox.cli import main; main()"
WITH_STORE = """
import sys, ray
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=sys.argv.pop(1))
from resvox.cli.app import app
import resvox.cli
app(standalone_mode=False)
from ray._private.internal_api import memory_summary
print("STORE", memory_summary(stats_only=True).replace(chr(10), " "))
"""
# ru_maxrss would start at the memory of this process, which a child keeps across exec
WITH_PEAK = """
from resvox.cli.app import app
import resvox.cli
app(standalone_mode=False)
print("PEAK", next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def make_model(path: Path, *, roi: int = 32) -> Path:
    torch.manual_seed(0)
    network = resvox.create_model(
        "unet", encoder_name="resnet10", encoder_depth=3, decoder_filters=(16, 8, 8), widths=(8, 16, 16, 16),
        stem_width=8, spatial_dims=3, in_channels=1, num_classes=3,
    )  # fmt: skip
    window = {"kind": "window", "low": -1000.0, "high": 1000.0, "mean": 0.0, "std": 500.0}
    metadata = {
        "preprocessing": {"orientation": "SPL", "spacing_mm": None, "crop": "none", "normalization": [window]},
        "labels": {"background": 0, "a": 1, "b": 2}, "channel_names": ["CT"], "task": "segmentation",
        "inference": {"roi_size": [roi] * 3, "overlap": 0.25, "mirror_axes": []},
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    resvox.save_model(network, path, metadata=metadata)
    return path


def make_scans(folder: Path, count: int, shape: tuple[int, ...]) -> Path:
    """Scans of noise, no two alike; those that are there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        path = folder / f"c{number:05d}.nii.gz"
        if not path.exists():
            array = np.random.default_rng(number).integers(-900, 900, shape).astype(np.int16)
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)
    return folder


class Bench:
    """Folders, the S3 server, and how commands are run."""

    def __init__(self, state: Path) -> None:
        self.state = state
        state.mkdir(parents=True, exist_ok=True)
        self.held = contextlib.ExitStack()
        self.port = self.held.enter_context(s3_server())
        self.endpoint = f"http://127.0.0.1:{self.port}"
        os.environ.update(KEYS, AWS_ENDPOINT_URL=self.endpoint)
        import s3fs

        self.client = s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)

    def close(self) -> None:
        self.held.close()

    def start(self, *words: object, code: str = RESVOX, endpoint: str = "", **more: object) -> subprocess.Popen[str]:
        environment = {
            **os.environ, "PYTHONPATH": SOURCES, "OMP_NUM_THREADS": "1",
            "AWS_ENDPOINT_URL": endpoint or self.endpoint, "RESVOX_SCRATCH": str(self.state / "scratch"),
        }  # fmt: skip
        log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (read after the end of the process)
        child = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, words)], env=environment, text=True, stdout=log,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        child.log = log  # type: ignore[attr-defined]
        return child

    def run(self, *words: object, **more: str) -> str:
        child = self.start(*words, **more)  # type: ignore[arg-type]
        code, shown = child.wait(), shown_by(child)
        assert code == 0, shown[-3000:]
        return shown

    def bucket(self, folder: Path) -> str:
        """A bucket with the scans of a folder and their manifest."""
        name = f"bucket-{random.randrange(10**9)}"
        self.client.mkdir(name)
        rows = []
        for path in sorted(folder.glob("*.nii.gz")):
            self.client.pipe_file(f"{name}/scans/{path.name}", path.read_bytes())
            row = {"id": path.name.removesuffix(".nii.gz"), "uri": f"scans/{path.name}", "bytes": path.stat().st_size}
            rows.append(f"{json.dumps(row)}\n")
        self.client.pipe_file(f"{name}/all.jsonl", "".join(rows).encode())
        return name

    def results(self, bucket: str) -> dict[str, bytes]:
        found = [path for path in self.client.find(f"{bucket}/out") if "/.resvox/" not in path]
        return {path.rpartition("/")[2]: bytes(self.client.cat_file(path)) for path in found}

    def count(self, bucket: str) -> int:
        """How many results there are."""
        return sum("/.resvox/" not in path for path in self.client.find(f"{bucket}/out"))

    def plain(self, model: Path, folder: Path, out: Path) -> float:
        """Seconds of `predict` from a folder to a folder with two processes."""
        shutil.rmtree(out, ignore_errors=True)
        began = time.perf_counter()
        self.run("predict", model, folder, "-o", out, *ENGINE, "--processes", 2)
        return time.perf_counter() - began

    def words(self, model: Path, bucket: str) -> tuple[object, ...]:
        ray = ("--cluster", "ray", "--workers", 2, "--profile")
        return ("predict", model, f"s3://{bucket}/all.jsonl", "-o", f"s3://{bucket}/out", *ENGINE, *ray)

    def keep(self, part: str, figures: dict[str, object]) -> None:
        path = self.state / "figures.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        known[part] = {**figures, "load": round(os.getloadavg()[0]), "date": time.strftime("%Y-%m-%d")}
        path.write_text(json.dumps(known, indent=2))
        print(part, json.dumps(figures), flush=True)


def shown_by(child: subprocess.Popen[str]) -> str:
    log = child.log  # type: ignore[attr-defined]
    log.seek(0)
    return str(log.read())


def of_folder(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.nii.gz")}


def like_a_ct(number: int) -> np.ndarray:
    """A body with organs and noise, 512 x 512 x 300 voxels, int16."""
    rng = np.random.default_rng(number)
    x, y = np.meshgrid(np.linspace(-1, 1, 512), np.linspace(-1, 1, 512), indexing="ij")
    body = (x / 0.8) ** 2 + (y / 0.6) ** 2 < 1
    slices = []
    for z in range(300):
        organ = (x - 0.3) ** 2 + (y / 0.8) ** 2 < 0.08 * (1 + np.sin(z / 50))
        tissue = np.where(organ, 60, 20) + rng.normal(0, 12, (512, 512))
        slices.append(np.where(body, tissue, -1000 + rng.normal(0, 3, (512, 512))).astype(np.int16))
    return np.stack(slices, axis=2)
