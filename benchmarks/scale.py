"""Many scans on Ray with an S3 server (moto), beside a plain folder; kills, faults, parts, and what a large CT costs.

    make .venv-fleet/installed
    .venv-fleet/bin/python benchmarks/scale.py                        # all parts, then benchmarks/scale.md
    .venv-fleet/bin/python benchmarks/scale.py --part kills --kills 10  # one part; each adds to the same figures

Each part keeps its figures in --state, and the page is written from that folder alone: a part that is not in it
disappears from the page. Parts can be run one by one, and a part that was interrupted again.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
from scaling.bench import (
    ENGINE,
    ROOT,
    WITH_PEAK,
    WITH_STORE,
    Bench,
    faulty,
    like_a_ct,
    make_model,
    make_scans,
    of_folder,
)
from scaling.disturbances import kills, shards


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


PARTS = {"throughput": throughput, "many": many, "rows": rows, "kills": kills, "shards": shards, "ct": ct}


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
            PARTS[part](bench, args)
    finally:
        bench.close()
    figures = json.loads((bench.state / "figures.json").read_text())
    (ROOT / "benchmarks/scale.md").write_text(page(figures))


if __name__ == "__main__":
    main()
