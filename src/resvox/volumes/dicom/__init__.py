"""DICOM files and series as volumes: attributes read by pydicom, every frame with its own position and values."""

from resvox.volumes.dicom.files import Series, is_dicom, list_series
from resvox.volumes.dicom.reading import choose_series, read_dicom

__all__ = ["Series", "choose_series", "is_dicom", "list_series", "read_dicom"]
