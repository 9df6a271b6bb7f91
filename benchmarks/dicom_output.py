"""DICOM output of a large label map: seconds, peak memory, and seconds for highdicom to open the file again.

``python benchmarks/dicom_output.py`` makes a series of 300 slices of 512 x 512 with 117 structures and writes
``benchmarks/dicom_output.md``. Each step runs in a process of its own, whose resident memory is measured above that of
its imports.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SLICES, SIDE, LABELS = 300, 512, 117
STEPS = ("labelmap", "binary", "rtstruct", "open labelmap", "open binary")


def make_series(folder: Path, slices: int, side: int) -> Path:
    """A CT series without structure; its slices are placed, which is what counts here."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    folder.mkdir(parents=True)
    series, frame = generate_uid(), generate_uid()
    pixels = np.zeros((side, side), np.int16).tobytes()
    for number in range(slices):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        one.SOPClassUID, one.SOPInstanceUID, one.Modality = CTImageStorage, meta.MediaStorageSOPInstanceUID, "CT"
        one.SeriesInstanceUID, one.StudyInstanceUID, one.FrameOfReferenceUID = series, "1.2.3", frame
        one.ImagePositionPatient, one.ImageOrientationPatient = [0, 0, float(number)], [1, 0, 0, 0, 1, 0]
        one.PixelSpacing, one.SliceThickness, one.SeriesNumber = [0.8, 0.8], 1.0, 1
        one.Rows = one.Columns = side
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
        one.PixelData = pixels
        one.save_as(folder / f"{number:04d}.dcm")
    return folder


def make_labels(slices: int, side: int, labels: int) -> np.ndarray:
    """Ellipsoids of many sizes, as organs and vertebrae are; the later ones cover the earlier."""
    rng = np.random.default_rng(0)
    array = np.zeros((slices, side, side), np.uint8)
    for value in range(1, labels + 1):
        radius = rng.uniform([0.03, 0.02, 0.02], [0.2, 0.12, 0.12]) * (slices, side, side)
        centre = rng.uniform(0.15, 0.85, 3) * (slices, side, side)
        low = np.maximum(np.floor(centre - radius), 0).astype(int)
        high = np.minimum(np.ceil(centre + radius) + 1, array.shape).astype(int)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        axes = np.ogrid[box]
        inside = sum(((axis - c) / r) ** 2 for axis, c, r in zip(axes, centre, radius, strict=True)) <= 1
        array[box][inside] = value
    return array


def step(name: str, folder: Path) -> None:
    """One step; prints seconds and megabytes above the imports as JSON."""
    import highdicom

    from resvox.delivery.naming import label_set
    from resvox.delivery.rtstruct import write_rtstruct
    from resvox.delivery.seg import write_seg
    from resvox.delivery.source import read_source
    from resvox.volumes import Volume

    array = np.load(folder / "labels.npy")
    labels = label_set({f"structure {value}": value for value in range(1, int(array.max()) + 1)})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    if name.startswith("open"):
        path = folder / f"{name.split()[1]}.dcm"
        opened = highdicom.seg.segread(path)
        back = np.asarray(opened.get_volume(combine_segments=True).array)
        assert set(np.unique(back)) == set(np.unique(array))
    else:
        source = read_source(folder / "series")
        path = folder / f"{name}.dcm"
        volume = Volume.on_grid(array, source.grid)
        if name == "rtstruct":
            write_rtstruct(volume, source, labels, path)
        else:
            write_seg(volume, source, labels, path, kind=name)
    seconds = time.perf_counter() - start
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps({"seconds": seconds, "megabytes": peak, "size": path.stat().st_size / 1e6}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="30 slices of 128 x 128; writes no page")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        step(given.step, given.folder)
        return
    slices, side = (30, 128) if given.small else (SLICES, SIDE)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_series(folder / "series", slices, side)
        np.save(folder / "labels.npy", make_labels(slices, side, LABELS))
        rows = []
        for each in STEPS:
            words = [sys.executable, __file__, "--step", each, "--folder", name]
            done = subprocess.run(words, capture_output=True, text=True, check=True, env={**os.environ})
            found = json.loads(done.stdout.splitlines()[-1])
            rows.append((each, found["seconds"], found["megabytes"], found["size"]))
            print(each, found, flush=True)
    if not given.small:
        write_page(rows)


def write_page(rows: list[tuple[str, float, float, float]]) -> None:
    """The table in Markdown."""
    lines = [
        "# DICOM output of a large label map",
        "",
        f"`python benchmarks/dicom_output.py`: {LABELS} structures on {SLICES} slices of {SIDE} x {SIDE}, "
        f'{os.cpu_count()} cores, Python {platform.python_version()}. "Open" is highdicom reading the file and',
        "combining the segments to one array. Memory is the peak above the imports and the label map.",
        "",
        "| step | seconds | peak MB | file MB |",
        "|---|---:|---:|---:|",
        *(f"| {name} | {seconds:.1f} | {megabytes:.0f} | {size:.1f} |" for name, seconds, megabytes, size in rows),
        "",
    ]
    Path(__file__).with_suffix(".md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
