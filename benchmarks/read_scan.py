"""Seconds to read a 512x512x300 int16 .nii.gz, beside an earlier commit of this repository.

Both versions read the same file in turn, each in a process of its own, so that a busy machine slows both alike.
Writes benchmarks/read_scan.md.

    python benchmarks/read_scan.py [COMMIT] [TURNS]
"""

from __future__ import annotations

import io
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import nibabel
import numpy as np

ROOT = Path(__file__).parents[1]
COMMIT = "041da23"  # the last one that read NIfTI with ITK
SIZES = (512, 512, 300)
CHILD = """
import sys, time
from resvox.volumes import read_volume
read_volume(sys.argv[1])  # imports, and the file into the system's cache
for _ in range(int(sys.argv[2])):
    start = time.perf_counter()
    volume = read_volume(sys.argv[1])
    print(time.perf_counter() - start)
assert volume.array.shape == (300, 512, 512) and volume.array.dtype == "int16"
"""


def make_scan(path: Path) -> None:
    """A body of noise in air: compresses to about half, as a CT does."""
    rng = np.random.default_rng(0)
    scan = np.full(SIZES, -1024, np.int16)
    scan[64:-64, 96:-96] = rng.normal(40, 25, (SIZES[0] - 128, SIZES[1] - 192, SIZES[2]))
    nibabel.save(nibabel.Nifti1Image(scan, np.diag([-0.8, -0.8, 1.0, 1.0])), path)


def seconds(source: Path, scan: Path, reads: int) -> list[float]:
    """Seconds of each of `reads` readings by the package in `source`."""
    environment = {**os.environ, "PYTHONPATH": str(source)}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, scan, str(reads)], capture_output=True, text=True, check=True, env=environment
    )
    return [float(line) for line in done.stdout.split()]


def main(commit: str = COMMIT, turns: str = "5") -> None:
    """Measure, print and write the table."""
    with tempfile.TemporaryDirectory() as folder:
        scan = Path(folder, "scan.nii.gz")
        make_scan(scan)
        archive = subprocess.run(["git", "archive", commit, "src"], cwd=ROOT, capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
            packed.extractall(Path(folder, "old"), filter="data")
        sources = {commit: Path(folder, "old", "src"), "this version": ROOT / "src"}
        found: dict[str, list[float]] = {name: [] for name in sources}
        for _ in range(int(turns)):
            for name, source in sources.items():
                found[name] += seconds(source, scan, 3)
        megabytes = scan.stat().st_size / 1e6
    lines = [
        "# Reading a scan",
        "",
        f"`read_volume` of 512x512x300 int16 voxels in a .nii.gz of {megabytes:.0f} MB; {turns} turns of 3 readings",
        f"each, interleaved, {os.cpu_count()} processors.",
        "",
        "| version | median s | fastest s |",
        "| --- | --- | --- |",
        *(f"| {name} | {statistics.median(times):.2f} | {min(times):.2f} |" for name, times in found.items()),
    ]
    text = "\n".join(lines) + "\n"
    (ROOT / "benchmarks" / "read_scan.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
