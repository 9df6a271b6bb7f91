"""Many scans on Ray with an S3 server (moto), beside a plain folder; kills, faults, parts, and what a large CT costs.

    make .venv-fleet/installed
    .venv-fleet/bin/python benchmarks/scale.py                        # all parts, then benchmarks/scale.md
    .venv-fleet/bin/python benchmarks/scale.py --part kills --kills 10  # one part; each adds to the same figures

Each part keeps its figures in --state, and the page is written from that folder alone: a part that is not in it
disappears from the page. Parts can be run one by one, and a part that was interrupted again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
SOURCES = str(ROOT / "src")
sys.path[:0] = [SOURCES, str(ROOT / "tests")]  # the environment with Ray has the packages of the tests, not this one
from fleet.faulty import faulty  # noqa: E402
from fleet.store import s3_server  # noqa: E402

import resvox  # noqa: E402

KEYS = {"AWS_ACCESS_KEY_ID": "test-key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
ENGINE = ("--engine", "torch", "--precision", "float32", "--device", "cpu")
PARTS = ("throughput", "many", "rows", "kills", "shards", "ct")
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


def throughput(bench: Bench, args: argparse.Namespace) -> None:
    """Seconds with many scans less those with two, so that starts do not count."""
    side = args.side
    model = make_model(bench.state / "model.safetensors")
    folders = [make_scans(bench.state / f"side{side}-{count}", count, (side,) * 3) for count in (2, args.timed)]
    buckets = [bench.bucket(folder) for folder in folders]
    plain, ray, shown = [], [], ""
    for folder, bucket in zip(folders, buckets, strict=True):
        plain.append(bench.plain(model, folder, bench.state / "plain-timed"))
        began = time.perf_counter()
        shown = bench.run(*bench.words(model, bucket))
        ray.append(time.perf_counter() - began)
    assert bench.results(buckets[1]) == of_folder(bench.state / "plain-timed")
    work = (plain[1] - plain[0], ray[1] - ray[0])
    bench.keep("throughput", {
        "scans": args.timed, "side": side, "plain_s": plain, "ray_s": ray, "ratio": round(work[0] / work[1], 3),
        "stages": stages(shown),
    })  # fmt: skip


def stages(shown: str) -> dict[str, float]:
    found = re.findall(r"^\s*(\w+)\s+([\d.]+)\s+\d+ %", shown, re.MULTILINE)
    return {name: float(seconds) for name, seconds in found}


def many(bench: Bench, args: argparse.Namespace) -> None:
    """All results equal, and nothing in Ray's object store."""
    model = make_model(bench.state / "tiny.safetensors", roi=8)
    folder = make_scans(bench.state / "tiny", args.scans, (5, 6, 7))
    plain = bench.plain(model, folder, bench.state / "plain-tiny")
    bucket = bench.bucket(folder)
    place = tempfile.mkdtemp(prefix="ray", dir=tempfile.gettempdir())  # the names of sockets must be short
    began = time.perf_counter()
    shown = bench.run(place, *bench.words(model, bucket), code=WITH_STORE)
    seconds = time.perf_counter() - began
    shutil.rmtree(place, ignore_errors=True)
    store = re.search(r"Plasma memory usage (\d+) MiB, (\d+) objects", shown)
    assert store is not None, shown[-2000:]
    equal = bench.results(bucket) == of_folder(bench.state / "plain-tiny")
    bench.keep("many", {
        "scans": args.scans, "equal": equal, "store_mib": int(store[1]), "store_objects": int(store[2]),
        "plain_s": round(plain, 1), "ray_s": round(seconds, 1), "stages": stages(shown),
    })  # fmt: skip


def rows(bench: Bench, args: argparse.Namespace) -> None:
    """Peak memory of the driver for manifests of rows whose results exist."""
    model = make_model(bench.state / "tiny.safetensors", roi=8)
    scan = make_scans(bench.state / "one", 1, (5, 6, 7)) / "c00000.nii.gz"
    out, peaks = f"file://{bench.state}/rows-out", {}
    for count in (1, 2_000, 200_000):
        manifest = bench.state / f"{count}.csv"
        manifest.write_text("id,uri\n" + f"c00000,{scan}\n" * count)
        shown = bench.run(
            "predict", model, manifest, "-o", out, *ENGINE, "--cluster", "ray", "--workers", 2, code=WITH_PEAK
        )
        peaks[count] = round(int(shown.rpartition("PEAK")[2]) * 1024 / 1e6)
    bench.keep("rows", {"peak_mb": peaks})


def processes_of(session: int) -> dict[int, str]:
    """Processes of a session and their command lines."""
    found = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                if os.getsid(int(path.name)) == session:
                    found[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def victim(kind: str, child: subprocess.Popen[str], chance: random.Random) -> int | None:
    """The process to end: an actor at work, another process of the raylet or itself, or the driver."""
    if kind == "driver":
        return child.pid
    running = processes_of(child.pid)
    if kind == "actor":
        found = [pid for pid, words in running.items() if words.startswith("ray::Actor")]
    else:
        found = [pid for pid, words in running.items() if words.startswith("ray::IDLE") or "/raylet/raylet " in words]
    return chance.choice(sorted(found)) if found else None


def claims(bench: Bench, bucket: str) -> int:
    return len(bench.client.find(f"{bucket}/out/.resvox/claims"))


def kills(bench: Bench, args: argparse.Namespace) -> None:
    """Processes ended at random moments while a store is faulty; then every case is there once, none half."""
    model = make_model(bench.state / "tiny.safetensors", roi=8)
    folder = make_scans(bench.state / "tiny-kills", args.kill_scans, (5, 6, 7))
    bench.plain(model, folder, bench.state / "plain-kills")
    wanted, chance = of_folder(bench.state / "plain-kills"), random.Random(0)
    done: Counter[str] = Counter()
    half = runs = 0
    bucket = bench.bucket(folder)
    with faulty(bench.port, 0.05) as (address, faults):
        while sum(done.values()) < args.kills:
            kind = ("actor", "raylet", "driver")[sum(done.values()) % 3]
            child, runs = bench.start(*bench.words(model, bucket), endpoint=address), runs + 1
            while child.poll() is None and not claims(bench, bucket):
                time.sleep(0.1)
            while child.poll() is None and sum(done.values()) < args.kills:
                kind = ("actor", "raylet", "driver")[sum(done.values()) % 3]
                time.sleep(chance.uniform(0.1, 4.0))
                pid = victim(kind, child, chance)
                if pid is None:
                    continue
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    done[kind] += 1
            child.wait()
            kept = bench.results(bucket)
            half += sum(kept[name] != wanted.get(name) for name in kept)
            if len(kept) == len(wanted) and sum(done.values()) < args.kills:
                bucket = bench.bucket(folder)
        last = bench.start(*bench.words(model, bucket), "--retry-aside", endpoint=address)
        assert last.wait() == 0, shown_by(last)[-3000:]
    found = bench.results(bucket)
    records = bench.client.find(f"{bucket}/out/.resvox/done")
    bench.keep("kills", {
        "kills": dict(done), "runs": runs, "scans": len(wanted), "half": half, "lost": len(set(wanted) - set(found)),
        "different": sum(found[name] != wanted[name] for name in found), "records": len(records),
        "claims_left": claims(bench, bucket), "faults": dict(faults),
    })  # fmt: skip


def shards(bench: Bench, args: argparse.Namespace) -> None:
    """Seven parts, two of them killed and run again."""
    model = make_model(bench.state / "tiny.safetensors", roi=8)
    folder = make_scans(bench.state / "tiny-shards", args.shard_scans, (5, 6, 7))
    bench.plain(model, folder, bench.state / "plain-shards")
    bucket = bench.bucket(folder)
    words = ("predict", model, f"s3://{bucket}/all.jsonl", "-o", f"s3://{bucket}/out", *ENGINE)
    counts, cut = [], 0
    for part in range(1, 8):
        before = len(bench.results(bucket))
        child = bench.start(*words, "--shard", f"{part}/7")
        if part in (2, 5):
            while child.poll() is None and bench.count(bucket) < before + 3:
                time.sleep(0.01)
            child.kill()
            child.wait()
            cut += len(bench.results(bucket)) - before
        else:
            assert child.wait() == 0, shown_by(child)[-3000:]
            counts.append(len(bench.results(bucket)) - before)
    missing = len(of_folder(bench.state / "plain-shards")) - len(bench.results(bucket))
    for part in (2, 5):
        bench.run(*words, "--shard", f"{part}/7")
    bench.keep("shards", {
        "scans": args.shard_scans, "whole_parts": counts, "done_by_the_killed": cut,
        "missing_before_the_rerun": missing,
        "equal": bench.results(bucket) == of_folder(bench.state / "plain-shards"),
    })  # fmt: skip


def ct(bench: Bench, args: argparse.Namespace) -> None:
    """Stages, bytes and requests of large CTs: what the model of cost in docs/scale.md is checked against."""
    model = make_model(bench.state / "ct.safetensors", roi=96)
    folder = bench.state / "cts"
    folder.mkdir(exist_ok=True)
    for number in range(args.cts):
        if not (folder / f"ct{number}.nii.gz").exists():
            nibabel.save(nibabel.Nifti1Image(like_a_ct(number), np.eye(4)), folder / f"ct{number}.nii.gz")
    bucket = bench.bucket(folder)
    methods: Counter[str] = Counter()
    with faulty(bench.port, 0.0, methods=methods) as (address, _):
        shown = bench.run(
            "predict", model, f"s3://{bucket}/all.jsonl", "-o", f"s3://{bucket}/out", *ENGINE, "--profile",
            endpoint=address,
        )  # fmt: skip
    sizes = [path.stat().st_size for path in folder.glob("*.nii.gz")]
    hours = re.search(r"([\d.e+-]+) core hours for 1,000 scans", shown)
    bench.keep("ct", {
        "scans": args.cts, "mb_in": round(sum(sizes) / len(sizes) / 1e6, 1), "stages": stages(shown),
        "mb_out": round(sum(map(len, bench.results(bucket).values())) / args.cts / 1e6, 2),
        "core_hours_1000": float(hours[1]) if hours else None, "requests": dict(methods),
    })  # fmt: skip


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


def page(figures: dict[str, dict[str, object]]) -> str:
    lines = [
        "# Many scans: Ray and a store, kills, parts, and a large CT",
        "",
        "By `benchmarks/scale.py`, on 2 cores that the scans, Ray and the S3 server (moto) share.",
        "Times in seconds; load: the load average when the part ended. Above 3, times are those of a busy machine.",
        "Of the kills: `half` counts results that were neither absent nor equal to the plain ones at any check, `lost`",
        "cases without a result at the end, and `different` results at the end that are not equal.",
        "",
    ]
    for part in PARTS:
        if part in figures:
            lines += [f"## {part}", "", *(f"- {name}: {words(value)}" for name, value in figures[part].items()), ""]
    return "\n".join(lines)


def words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(f"{each:.1f}" if isinstance(each, float) else str(each) for each in value)
    return str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=PARTS, action="append")
    parser.add_argument("--state", type=Path, default=ROOT / "build/scale")
    parser.add_argument("--scans", type=int, default=2000)
    parser.add_argument("--timed", type=int, default=60)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--kill-scans", type=int, default=300)
    parser.add_argument("--shard-scans", type=int, default=210)
    parser.add_argument("--cts", type=int, default=2)
    args = parser.parse_args()
    bench = Bench(args.state.resolve())
    try:
        for part in args.part or PARTS:
            globals()[part](bench, args)
    finally:
        bench.close()
    figures = json.loads((bench.state / "figures.json").read_text())
    (ROOT / "benchmarks/scale.md").write_text(page(figures))


if __name__ == "__main__":
    main()
