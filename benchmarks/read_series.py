"""Time of `read_volume` on an uncompressed DICOM series: ``python benchmarks/read_series.py [--slices 300]``.

The series is generated (CT-like header, 16 bits, rescale -1024). Each run is a process of its own with the files in the
page cache; the table gives the fastest and the median run. To compare two versions, run it with each one's ``src`` in
PYTHONPATH and the same ``--folder``.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
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
    """Print the seconds and the peak memory (MB) of one reading in this process."""
    from resvox.volumes import read_volume

    start = time.perf_counter()
    volume = read_volume(folder)
    seconds = time.perf_counter() - start
    assert volume.array.ndim == 3
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, volume.array.dtype)


def main() -> None:
    """Write the series where it is missing, and time it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None, help="where the series is, or is to be written")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        time_one(options.folder)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary, "series")
        if not folder.exists():
            write_series(folder, options.slices, options.size)
        runs = []
        for _ in range(options.runs):
            command = [sys.executable, __file__, "--one", "--folder", str(folder)]
            words = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            runs.append((float(words[0]), float(words[1]), words[2]))
    seconds = [run[0] for run in runs]
    print("| slices | fastest (s) | median (s) | peak memory (MB) | type |\n|---|---|---|---|---|")
    print(
        f"| {options.slices} x {options.size} x {options.size} | {min(seconds):.2f} | {statistics.median(seconds):.2f} "
        f"| {max(run[1] for run in runs):.0f} | {runs[0][2]} |"
    )


if __name__ == "__main__":
    main()
