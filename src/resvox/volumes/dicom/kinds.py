"""Kinds of DICOM files that hold no scan, by their SOP class."""

from __future__ import annotations

import re

STANDARD_CLASSES = "1.2.840.10008."
STORAGE = "1.2.840.10008.5.1.4.1.1."
# The start of a SOP class, and the kind of the file. These files are skipped in a folder.
NOT_SCANS = {
    "1.2.840.10008.1.3.10": "a DICOM directory (DICOMDIR)",
    f"{STORAGE}481.": "a radiotherapy object (structure set, dose or plan)",
    "1.2.840.10008.5.1.4.34.": "a radiotherapy object (delivery instruction)",
    f"{STORAGE}66.4": "a DICOM segmentation (SEG)",
    f"{STORAGE}66.7": "a DICOM segmentation (SEG)",
    f"{STORAGE}66": "raw data, a registration, a surface or fibre tracks",
    f"{STORAGE}68.": "a surface scan",
    f"{STORAGE}88.": "a structured report",
    f"{STORAGE}11.": "a presentation state",
    f"{STORAGE}104.": "an encapsulated document",
    f"{STORAGE}9.": "a waveform",
    f"{STORAGE}4.2": "a spectroscopy",
    f"{STORAGE}67": "a real-world value mapping",
    f"{STORAGE}77.1.4.": "a video",
    f"{STORAGE}78.": "an eye measurement",
    f"{STORAGE}79.1": "an eye measurement",
    f"{STORAGE}80.1": "an eye measurement",
    f"{STORAGE}90.": "an assessment of an image",
    f"{STORAGE}91.": "annotations of an image",
    f"{STORAGE}200.": "a protocol",
    "1.2.840.10008.5.1.4.38.": "a hanging protocol",
    "1.2.840.10008.5.1.4.39.": "a colour palette",
    "1.2.840.10008.5.1.4.43.": "an implant template",
    "1.2.840.10008.5.1.4.44.": "an implant template",
    "1.2.840.10008.5.1.4.45.": "an implant template",
    "1.3.12.2.1107.5.9.1": "a Siemens object without pixels (CSA non-image)",
    "1.3.46.670589.11.0.0.12.": "a Philips object without pixels",
    "1.2.840.113619.4.": "a GE object without pixels",
}


def kind_of_sop_class(sop_class: str) -> str | None:
    """The kind of a file of this SOP class if it holds no scan ("a structured report"), or None."""
    return next((name for start, name in NOT_SCANS.items() if sop_class.startswith(start)), None)


def is_private_class(sop_class: str) -> bool:
    """True for a well-formed SOP class that is not one of the standard's."""
    return bool(re.fullmatch(r"[0-9]+(\.[0-9]+)+", sop_class)) and not sop_class.startswith(STANDARD_CLASSES)
