"""What distinguishes two DICOM planes at one position, so that an error can state how to separate them."""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset

from resvox.errors import VolumeError
from resvox.volumes.dicom.attributes import groups_of, read_dataset, shown
from resvox.volumes.dicom.header import Plane

# Attributes that number the volumes of a series, and the meaning of these volumes.
DISTINCTIONS = {
    "EchoTime": "echoes",
    "EffectiveEchoTime": "echoes",
    "EchoNumbers": "echoes",
    "TemporalPositionIdentifier": "time points",
    "TemporalPositionIndex": "time points",
    "TemporalPositionTimeOffset": "time points",
    "TriggerTime": "phases of the heart",
    "NominalCardiacTriggerDelayTime": "phases of the heart",
    "NominalPercentageOfCardiacPhase": "phases of the heart",
    "DiffusionBValue": "diffusion weightings",
    "InversionTime": "inversion times",
    "FlipAngle": "flip angles",
    "StackID": "stacks",
    "ComplexImageComponent": "parts of complex numbers",
    "ImageType": "kinds of images",
    "ConvolutionKernel": "reconstruction kernels",
    "KVP": "tube voltages",
    "AcquisitionNumber": "acquisitions",
    "AcquisitionTime": "acquisitions",
    "ContentTime": "acquisitions",
    "DimensionIndexValues": "volumes",
}
GROUP_DEPTH = 3  # in the functional groups: the macro of a frame, and one level below
FOLDER = "put the files of one volume in a folder of their own"
SPLIT = "split the file into one per volume, e.g. with dcm2niix"


def difference_between(first: Plane, second: Plane) -> tuple[str, str]:
    """How two planes at one position differ, as the end of a sentence, and the fix."""
    fix = SPLIT if first.path == second.path else FOLDER
    try:
        one, other = _attributes(first), _attributes(second)
    except VolumeError:  # the message about the position matters more than a damaged attribute
        return "", fix
    if first.path != second.path and one.get("SOPInstanceUID") and one["SOPInstanceUID"] == other.get("SOPInstanceUID"):
        return ", the same image twice (one SOPInstanceUID)", "remove one of the two"
    for name, what in DISTINCTIONS.items():
        a, b = one.get(name), other.get(name)
        if a is not None and b is not None and a != b:
            return f", with {name} {shown(a)} and {shown(b)}: several {what} in one series", fix
    return ", several echoes, phases or time points in one series, or a slice exported twice", fix


def _attributes(plane: Plane) -> dict[str, str]:
    dataset = read_dataset(plane.path, ("SOPInstanceUID", *DISTINCTIONS, "PerFrameFunctionalGroupsSequence"))
    _, each = groups_of(dataset, plane.path)
    found: dict[str, str] = {}
    holders = [dataset, *([each[plane.index]] if plane.index < len(each) else [])]
    for holder in holders:
        _collect(holder, found, GROUP_DEPTH)
    return found


def _collect(holder: Dataset, found: dict[str, str], depth: int) -> None:
    for tag in sorted(holder.keys()):
        try:
            element: Any = holder[tag]
        except Exception:  # an attribute that cannot be decoded distinguishes nothing
            continue
        if element.VR == "SQ":
            if depth > 0 and element.keyword != "PerFrameFunctionalGroupsSequence":
                for item in element.value:
                    _collect(item, found, depth - 1)
        elif element.keyword in DISTINCTIONS or element.keyword == "SOPInstanceUID":
            found.setdefault(element.keyword, str(element.value))
