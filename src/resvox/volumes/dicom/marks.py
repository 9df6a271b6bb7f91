"""How a DICOM file is recognised by its first bytes; pydicom is imported only where these are ambiguous."""

from __future__ import annotations

from pathlib import Path

from resvox.errors import VolumeError
from resvox.volumes.dicom.kinds import kind_of_sop_class
from resvox.volumes.formats import is_dicom_name

META_START = b"\x02\x00\x00\x00"  # the first attribute after the preamble
STARTS_WITHOUT_PREAMBLE = (b"\x08\x00", b"\x00\x08", b"\x02\x00")  # older files start with group 0008 or 0002 at once


def is_dicom(path: Path) -> bool:
    """True for a file with the DICOM preamble, or one without it whose header is that of a DICOM image.

    A file with a damaged preamble counts too, so that reading it raises an error and no slice is skipped.
    """
    with open(path, "rb") as stream:
        head = stream.read(136)
    if head[128:132] == b"DICM":
        return True
    if not (is_dicom_name(path) or path.suffix == ""):
        return False
    if head[132:136] == META_START:
        return True
    if head[:2] not in STARTS_WITHOUT_PREAMBLE:
        return False
    from resvox.volumes.dicom.header import NoScanError, read_header

    try:
        read_header(path)
    except NoScanError:
        return True
    except VolumeError:
        return False
    return True


def not_a_scan(path: Path) -> str | None:
    """The kind of a DICOM file that holds no scan ("a structured report"), or None."""
    with open(path, "rb") as stream:
        head = stream.read(1024)
    at = head.find(b"\x02\x00\x02\x00UI")  # MediaStorageSOPClassUID, in the part that is always little endian
    if at < 0:
        return None
    length = int.from_bytes(head[at + 6 : at + 8], "little")
    return kind_of_sop_class(head[at + 8 : at + 8 + length].decode("ascii", "replace").rstrip("\0 "))
