"""Random DICOM series and multi-frame files, with the values and geometry they mean, or the fault planted in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom import uid
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from scipy.spatial.transform import Rotation

NATIVE = (
    uid.ExplicitVRLittleEndian,
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
)
COMPRESSED = (uid.RLELossless, uid.JPEG2000Lossless, uid.JPEGLSLossless)
FAULTS = {  # what is planted, and what the refusal must say
    "direction": "different directions",
    "pixel spacing": "different pixel spacings",
    "missing slice": "a gap of",
    "twice": "two slices at one position",
    "tilt": "gantry tilt",
    "uneven": "unevenly spaced",
    "no position": "without a position",
    "no orientation": "without an orientation",
    "no spacing": "without a pixel spacing",
}

LACKING = {  # the attribute that is left out, and its macro in an enhanced file
    "no position": ("ImagePositionPatient", "PlanePositionSequence"),
    "no orientation": ("ImageOrientationPatient", "PlaneOrientationSequence"),
    "no spacing": ("PixelSpacing", "PixelMeasuresSequence"),
}


@dataclass(kw_only=True)
class Generated:
    """What was written to `path`; arrays are in the order of the positions along the normal.

    `odd` is the number of the slice at fault, in that order, and `name` what the message must call it.
    """

    path: Path
    values: np.ndarray  # (slices, rows, columns) or (3, slices, rows, columns), as the standard's formula has them
    spacing_mm: tuple[float, float, float]
    origin_mm: np.ndarray
    direction: np.ndarray
    files: list[Path]
    fault: str | None = None
    name: str = ""
    story: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class _Slice:
    stored: np.ndarray
    position: np.ndarray
    orientation: np.ndarray
    spacing: tuple[float, float]
    slope: float | None
    intercept: float | None
    table: tuple[int, np.ndarray, int] | None  # first value, entries, bits


def generate(folder: Path, seed: int) -> Generated:
    """A series of files or one multi-frame file in `folder`, another for each seed."""
    random = np.random.default_rng(seed)
    story: dict[str, Any] = {
        "multi_frame": bool(random.integers(2)),
        "count": int(random.integers(3, 7)),
        "colour": random.random() < 0.1,
        "syntax": (NATIVE + COMPRESSED)[random.integers(7)],
        "signed": bool(random.integers(2)),
        "bits": int(random.integers(9, 17)),
        "values": str(random.choice(["none", "integers", "floats", "table"], p=[0.15, 0.3, 0.4, 0.15])),
        "fault": str(random.choice(list(FAULTS))) if random.random() < 0.3 else None,
    }
    spare = 16 - story["bits"]
    odd_bits = story["syntax"] in (*NATIVE, uid.RLELossless) and random.random() < 0.3 and not story["colour"]
    story["shift"] = int(random.integers(0, spare + 1)) if odd_bits else 0
    slices, step = _slices(random, story)
    first = slices[0]
    along, down = first.orientation.reshape(2, 3)
    normal = np.cross(along, down)
    made = Generated(
        path=folder,
        values=np.stack([_physical(one) for one in slices], axis=-3),
        spacing_mm=(step, *first.spacing),
        origin_mm=first.position,
        direction=np.stack([normal, down, along], axis=1),
        files=[],
        story=story,
    )
    odd = _plant(story["fault"], slices, random, step * normal, along)
    made.fault = story["fault"]
    _write(made, slices, odd, random)
    return made


def _slices(random: np.random.Generator, story: dict[str, Any]) -> tuple[list[_Slice], float]:
    matrix = Rotation.random(random_state=int(random.integers(1 << 30))).as_matrix()
    if random.random() < 0.3:
        matrix = np.eye(3)
    orientation = np.concatenate([matrix[:, 0], matrix[:, 1]])
    spacing = tuple(round(float(v), 4) for v in random.uniform(0.4, 3, 2))
    step, origin = round(float(random.uniform(0.5, 6)), 3), random.uniform(-200, 200, 3)
    jpeg = story["syntax"] in (uid.JPEG2000Lossless, uid.JPEGLSLossless)
    least = 32 if jpeg else 4  # for the encoder's six resolutions
    rows, columns = (int(n) for n in random.integers(least, least + 8, 2))
    shape = (rows, columns, 3) if story["colour"] else (rows, columns)
    bits, signed = story["bits"], story["signed"]
    low, high = (-(1 << (bits - 1)), 1 << (bits - 1)) if signed else (0, 1 << bits)
    if story["colour"]:
        story.update(bits=8, signed=False, values="none")
        low, high = 0, 256
    shared = bool(random.integers(2))
    slices = []
    for k in range(story["count"]):
        slope = intercept = table = None
        if story["values"] == "integers":
            slope, intercept = float(random.integers(1, 4)), float(random.integers(-2000, 2000))
        elif story["values"] == "floats":
            slope, intercept = round(float(random.uniform(0.01, 3)), 6), round(float(random.uniform(-50, 50)), 4)
        elif story["values"] == "table":
            depth = int(random.choice([8, 16]))
            lowest = 0 if bits == 16 else low // 2  # pydicom, the reference, subtracts it in 16 bits
            start = int(random.integers(lowest, lowest + 40))
            table = (start, random.integers(0, 1 << depth, 64).astype(np.uint16), depth)
        if shared and slices:
            slope, intercept, table = slices[0].slope, slices[0].intercept, slices[0].table
        stored = random.integers(low, high, shape)
        if jpeg:
            stored = stored[:8].repeat(6, axis=0)[:rows]  # an encoder's buffer is too small for noise
        position = origin + k * step * np.cross(matrix[:, 0], matrix[:, 1])
        slices.append(
            _Slice(
                stored=stored,
                position=position,
                orientation=orientation,
                spacing=spacing,  # type: ignore[arg-type]
                slope=slope,
                intercept=intercept,
                table=table,
            )
        )
    return slices, step


def _physical(one: _Slice) -> np.ndarray:
    """The standard's formula (PS3.3 C.11.1) in float64."""
    if one.table is not None:
        first, entries, _ = one.table
        return entries[np.clip(one.stored - first, 0, len(entries) - 1)].astype(float)
    if one.stored.ndim == 3:
        return np.moveaxis(one.stored, -1, 0).astype(float)
    values = one.stored.astype(float)
    return values if one.slope is None else values * one.slope + one.intercept


def _plant(
    fault: str | None, slices: list[_Slice], random: np.random.Generator, step: np.ndarray, along: np.ndarray
) -> int:
    """Break the slices in place; the number of the slice at fault."""
    odd = int(random.integers(1, len(slices)))
    one = slices[odd]
    if fault == "direction":
        one.orientation = np.concatenate([one.orientation[3:], -one.orientation[:3]])
    elif fault == "pixel spacing":
        one.spacing = (one.spacing[0] * 1.5, one.spacing[1])
    elif fault == "twice":
        one.position = slices[odd - 1].position
    elif fault == "missing slice":
        for later in slices[2:]:
            later.position = later.position + 2 * step
        odd = 2
    elif fault == "uneven":
        for later in slices[2:]:
            later.position = later.position + 0.4 * step
        odd = 2
    elif fault == "tilt":
        for k, each in enumerate(slices):
            each.position = each.position + 2.0 * k * along
    return odd


def _text(values: Sequence[float] | np.ndarray) -> list[str]:
    return [f"{float(v):.10f}"[:16] for v in values]


def _macro(**attributes: Any) -> list[Dataset]:
    item = Dataset()
    for name, value in attributes.items():
        setattr(item, name, value)
    return [item]


def _table_item(table: tuple[int, np.ndarray, int], signed: bool) -> Dataset:
    first, entries, depth = table
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if signed else "US", [len(entries), first, depth])
    item.ModalityLUTType = "US"
    item.add_new("LUTData", "US", [int(v) for v in entries])
    return item


def _fill_values(holder: Dataset, one: _Slice, signed: bool) -> None:
    if one.table is not None:
        holder.ModalityLUTSequence = [_table_item(one.table, signed)]
    elif one.slope is not None:
        holder.RescaleSlope, holder.RescaleIntercept, holder.RescaleType = str(one.slope), str(one.intercept), "US"


def _base(story: dict[str, Any], stored: Sequence[np.ndarray], random: np.random.Generator) -> FileDataset:
    meta = FileMetaDataset()
    multi = story["multi_frame"]
    meta.MediaStorageSOPClassUID = uid.EnhancedMRImageStorage if multi else uid.MRImageStorage
    meta.MediaStorageSOPInstanceUID = uid.generate_uid()
    meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian if story["syntax"] in COMPRESSED else story["syntax"]
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    ds.Modality, ds.SeriesInstanceUID, ds.StudyInstanceUID = "MR", "1.2.3.4", "1.2.3"
    ds.FrameOfReferenceUID, ds.PatientID, ds.SeriesNumber = "1.2.3.5", "p", 1
    ds.Rows, ds.Columns = stored[0].shape[:2]
    colour = story["colour"]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        ds.PlanarConfiguration = 0
    bits, shift = story["bits"], story["shift"]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8 if colour else 16, bits, bits - 1 + shift
    ds.PixelRepresentation = int(story["signed"])
    if multi:
        ds.NumberOfFrames = len(stored)
    pixels = np.stack(stored)
    if colour:
        ds.add_new("PixelData", "OB", pixels.astype(np.uint8).tobytes() + b"\0" * (pixels.size % 2))
        return ds
    mask = ((1 << bits) - 1) << shift
    raw = ((pixels << shift) & mask) | (random.integers(0, 1 << 16, pixels.shape) & ~mask & 0xFFFF)
    if story["syntax"] in (uid.JPEG2000Lossless, uid.JPEGLSLossless):
        raw = pixels & 0xFFFF  # an encoder takes whole numbers, sign extended
    order = ">" if story["syntax"] == uid.ExplicitVRBigEndian else "<"
    ds.add_new("PixelData", "OW", raw.astype(f"{order}u2").tobytes())
    return ds


def _save(ds: FileDataset, path: Path, story: dict[str, Any]) -> None:
    syntax = story["syntax"]
    if syntax in COMPRESSED:
        ds.compress(syntax, generate_instance_uid=False)
    pydicom.dcmwrite(
        path,
        ds,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
        force_encoding=False,
        enforce_file_format=True,
    )


def _write(made: Generated, slices: list[_Slice], odd: int, random: np.random.Generator) -> None:
    order = random.permutation(len(slices))
    if made.story["multi_frame"]:
        if made.fault is None and np.flatnonzero(order == 0)[0] > np.flatnonzero(order == len(slices) - 1)[0]:
            order = order[::-1]  # a file keeps the sense of its frames; the first in space comes before the last here
        order = np.array([0, *[k for k in order if k not in (0, len(slices) - 1)], len(slices) - 1])
        _write_frames(made, slices, order, odd, random)
        return
    for number, k in enumerate(order):
        one = slices[k]
        ds = _base(made.story, [one.stored], random)
        ds.ImagePositionPatient, ds.ImageOrientationPatient = _text(one.position), _text(one.orientation)
        ds.PixelSpacing, ds.SliceThickness = _text(one.spacing), "99"
        if k == odd and made.fault in LACKING:
            delattr(ds, LACKING[made.fault][0])
        _fill_values(ds, one, made.story["signed"])
        path = made.path / f"{number:03d}"
        if k == odd:
            made.name = path.name
        _save(ds, path, made.story)
        made.files.append(path)


def _same_values(one: _Slice, other: _Slice) -> bool:
    return (one.slope, one.intercept) == (other.slope, other.intercept) and one.table is other.table


def _write_frames(
    made: Generated, slices: list[_Slice], order: np.ndarray, odd: int, random: np.random.Generator
) -> None:
    """One enhanced file; what all frames have in common stands in the shared groups, by chance."""
    ds = _base(made.story, [slices[k].stored for k in order], random)
    shared = Dataset()
    first = slices[0]
    common = {
        "PlaneOrientationSequence": all(np.array_equal(s.orientation, first.orientation) for s in slices),
        "PixelMeasuresSequence": all(s.spacing == first.spacing for s in slices),
        "PixelValueTransformationSequence": all(_same_values(s, first) for s in slices),
    }
    by_chance = {name: bool(random.integers(2)) for name in common}
    groups = []
    for number, k in enumerate(order):
        one, group = slices[k], Dataset()
        macros = {
            "PlaneOrientationSequence": _macro(ImageOrientationPatient=_text(one.orientation)),
            "PixelMeasuresSequence": _macro(PixelSpacing=_text(one.spacing), SliceThickness="99"),
        }
        if one.slope is not None or one.table is not None:
            macros["PixelValueTransformationSequence"] = _macro()
            _fill_values(macros["PixelValueTransformationSequence"][0], one, made.story["signed"])
        group.FrameContentSequence = _macro(
            StackID="1", InStackPositionNumber=number + 1, DimensionIndexValues=[number + 1]
        )
        group.PlanePositionSequence = _macro(ImagePositionPatient=_text(one.position))
        lacking = LACKING[made.fault][1] if k == odd and made.fault in LACKING else None
        if lacking == "PlanePositionSequence":
            del group.PlanePositionSequence
        for name, items in macros.items():
            at_fault = made.fault in LACKING
            holder = shared if common[name] and not at_fault and by_chance[name] else group
            if name != lacking:
                setattr(holder, name, items)
        groups.append(group)
        if k == odd:
            made.name = f"frame {number + 1}"
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = [shared], groups
    made.path = made.path / "frames.dcm"
    _save(ds, made.path, made.story)
    made.files.append(made.path)
