"""Time and memory of `read_volume` on an uncompressed DICOM series: ``python benchmarks/read_series.py``.

The series is generated (CT-like header, 12 of 16 bits, rescale -1024). Every run is a process of its own, with the
files in the page cache. ``--against SRC`` times the ``src`` folder of another checkout too, turn by turn with this one.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

PRIVATE_ELEMENTS = 60  # scanners write a hundred attributes and more; reading them is part of the work


def write_series(folder: Path, slices: int, size: int) -> None:
    """A CT series with as many attributes per file as scanners write."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 4096, (size, size)).astype(np.uint16)
    series, study = generate_uid(), generate_uid()
    for k in range(slices):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        dataset.Modality, dataset.SeriesInstanceUID, dataset.StudyInstanceUID = "CT", series, study
        dataset.SeriesNumber, dataset.InstanceNumber, dataset.PatientID = 1, k + 1, "phantom"
        dataset.ImagePositionPatient = [-180, -180, 1.25 * k]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing, dataset.SliceThickness = [0.7, 0.7], 1.25
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
        dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = size, size, 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
        block = dataset.private_block(0x0029, "BENCHMARK", create=True)
        for element in range(PRIVATE_ELEMENTS):
            block.add_new(element, "LO", f"attribute {element}")
        dataset.PixelData = np.roll(pixels, k).tobytes()
        dataset.save_as(folder / f"{k:04d}.dcm", enforce_file_format=True)


def time_one(folder: Path) -> None:
    """Print the seconds, the peak memory (MB) and the type of one reading in this process."""
    from resvox.volumes import read_volume

    start = time.perf_counter()
    volume = read_volume(folder)
    seconds = time.perf_counter() - start
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, volume.array.dtype)


def run_one(folder: Path, source: Path) -> tuple[float, float, str]:
    """One reading in a new process with `source` first in its path."""
    command = [sys.executable, __file__, "--one", "--folder", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(source)}
    words = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.split()
    return float(words[0]), float(words[1]), words[2]


def report(slices: int, size: int, runs: dict[str, list[tuple[float, float, str]]]) -> str:
    """The table, one row for each version."""
    rows = [
        f"| {name} | {min(run[0] for run in found):.2f} | {statistics.median(run[0] for run in found):.2f} "
        f"| {max(run[1] for run in found):.0f} | {found[0][2]} |"
        for name, found in runs.items()
    ]
    return "\n".join(
        [
            "# Reading a DICOM series",
            "",
            f"{slices} uncompressed slices of {size} x {size}, each run in a process of its own (`python",
            "benchmarks/read_series.py`), the versions turn by turn.",
            "",
            f"{datetime.date.today().isoformat()}; pydicom {pydicom.__version__}, Python {platform.python_version()}.",
            "",
            "| version | fastest (s) | median (s) | peak memory (MB) | type |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def main() -> None:
    """Write the series where it is missing, and time it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--folder", type=Path, default=None, help="where the series is, or is to be written")
    parser.add_argument("--against", type=Path, default=None, help="the src folder of another checkout")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        time_one(options.folder)
        return
    here = Path(__file__).resolve().parent
    sources = {"this one": here.parent / "src", **({"the other": options.against} if options.against else {})}
    runs: dict[str, list[tuple[float, float, str]]] = {name: [] for name in sources}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary, "series")
        if not folder.exists():
            write_series(folder, options.slices, options.size)
        for _ in range(options.runs):
            for name, source in sources.items():
                runs[name].append(run_one(folder, source))
    text = report(options.slices, options.size, runs)
    (here / "read_series.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
