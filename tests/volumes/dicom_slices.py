"""DICOM slices made up for tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


def make_slice(
    pixels: np.ndarray,
    *,
    position: Sequence[float] | None,
    orientation: Sequence[float] = (1, 0, 0, 0, 1, 0),
    spacing: Sequence[float] = (1.0, 1.0),
    series_uid: str = "1.2.3.4",
    number: int | None = 1,
    description: str = "chest",
    slope: float = 1.0,
    intercept: float = 0.0,
    thickness: float = 99.0,
) -> FileDataset:
    """One CT slice; its thickness tag lies on purpose."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    ds.Modality, ds.SeriesInstanceUID, ds.StudyInstanceUID = "CT", series_uid, "1.2.3"
    ds.SeriesDescription, ds.SeriesNumber, ds.PatientID = description, number, "p"
    if position is not None:
        ds.ImagePositionPatient = [f"{v:.6f}"[:16] for v in position]
        ds.ImageOrientationPatient = [f"{v:.8f}"[:16] for v in orientation]
    ds.PixelSpacing, ds.SliceThickness = [f"{v:.6f}" for v in spacing], str(thickness)
    ds.RescaleSlope, ds.RescaleIntercept = str(slope), str(intercept)
    ds.Rows, ds.Columns, ds.SamplesPerPixel = *pixels.shape, 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.PixelData = np.ascontiguousarray(pixels, np.int16).tobytes()
    return ds
