"""The fields of NIfTI headers as the standard defines them (nifti1.h, nifti2.h), and the types of their voxels.

nibabel is not used to read and write scans: its import takes longer than reading most of them, for it imports pydicom
and formats of surfaces too. The tests compare both ways with nibabel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from resvox.errors import VolumeError

NIFTI1 = np.dtype(
    [
        ("sizeof_hdr", "<i4"),
        ("data_type", "S10"),
        ("db_name", "S18"),
        ("extents", "<i4"),
        ("session_error", "<i2"),
        ("regular", "S1"),
        ("dim_info", "u1"),
        ("dim", "<i2", (8,)),
        ("intent_p1", "<f4"),
        ("intent_p2", "<f4"),
        ("intent_p3", "<f4"),
        ("intent_code", "<i2"),
        ("datatype", "<i2"),
        ("bitpix", "<i2"),
        ("slice_start", "<i2"),
        ("pixdim", "<f4", (8,)),
        ("vox_offset", "<f4"),
        ("scl_slope", "<f4"),
        ("scl_inter", "<f4"),
        ("slice_end", "<i2"),
        ("slice_code", "u1"),
        ("xyzt_units", "u1"),
        ("cal_max", "<f4"),
        ("cal_min", "<f4"),
        ("slice_duration", "<f4"),
        ("toffset", "<f4"),
        ("glmax", "<i4"),
        ("glmin", "<i4"),
        ("descrip", "S80"),
        ("aux_file", "S24"),
        ("qform_code", "<i2"),
        ("sform_code", "<i2"),
        ("quatern_b", "<f4"),
        ("quatern_c", "<f4"),
        ("quatern_d", "<f4"),
        ("qoffset_x", "<f4"),
        ("qoffset_y", "<f4"),
        ("qoffset_z", "<f4"),
        ("srow_x", "<f4", (4,)),
        ("srow_y", "<f4", (4,)),
        ("srow_z", "<f4", (4,)),
        ("intent_name", "S16"),
        ("magic", "S4"),
    ]
)
NIFTI2 = np.dtype(
    [
        ("sizeof_hdr", "<i4"),
        ("magic", "S8"),
        ("datatype", "<i2"),
        ("bitpix", "<i2"),
        ("dim", "<i8", (8,)),
        ("intent_p1", "<f8"),
        ("intent_p2", "<f8"),
        ("intent_p3", "<f8"),
        ("pixdim", "<f8", (8,)),
        ("vox_offset", "<i8"),
        ("scl_slope", "<f8"),
        ("scl_inter", "<f8"),
        ("cal_max", "<f8"),
        ("cal_min", "<f8"),
        ("slice_duration", "<f8"),
        ("toffset", "<f8"),
        ("slice_start", "<i8"),
        ("slice_end", "<i8"),
        ("descrip", "S80"),
        ("aux_file", "S24"),
        ("qform_code", "<i4"),
        ("sform_code", "<i4"),
        ("quatern_b", "<f8"),
        ("quatern_c", "<f8"),
        ("quatern_d", "<f8"),
        ("qoffset_x", "<f8"),
        ("qoffset_y", "<f8"),
        ("qoffset_z", "<f8"),
        ("srow_x", "<f8", (4,)),
        ("srow_y", "<f8", (4,)),
        ("srow_z", "<f8", (4,)),
        ("slice_code", "<i4"),
        ("xyzt_units", "<i4"),
        ("intent_code", "<i4"),
        ("intent_name", "S16"),
        ("dim_info", "u1"),
        ("unused_str", "S15"),
    ]
)
HEADERS = {fields.itemsize: fields for fields in (NIFTI1, NIFTI2)}  # 348 and 540 bytes, which are their first field
CODES = {
    "uint8": 2,
    "int16": 4,
    "int32": 8,
    "float32": 16,
    "float64": 64,
    "int8": 256,
    "uint16": 512,
    "uint32": 768,
    "int64": 1024,
    "uint64": 1280,
}
COLOURS = {128: 3, 2304: 4}  # RGB and RGBA, of 8 bits each
OTHERS = {0: "none", 1: "binary", 32: "complex64", 255: "all", 1536: "float128", 1792: "complex128", 2048: "complex256"}
LONGEST = np.iinfo(np.int16).max  # voxels along an axis
MILLIMETRES_AND_SECONDS = 2 + 8
SCANNER = 1  # code of a qform or sform: positions in the scanner
NO_EXTENSION = bytes(4)  # between a header and the voxels

Matrix = npt.NDArray[np.float64]


def encoded_header(
    sizes: tuple[int, ...], stored: np.dtype[Any], affine: Matrix, *, intent: int = 0, description: bytes = b""
) -> bytes:
    """A NIfTI-1 header with what follows it up to the voxels, little endian.

    Args:
        sizes: voxels along x, y, z and the axes beyond.
        stored: type of the numbers.
        affine: index x, y, z to RAS in mm; without shear. It is written as sform and as qform.
        intent: NIfTI's intent code.
        description: up to 79 bytes.

    Raises:
        VolumeError: a type that NIfTI does not have, or an axis that is too long for it.
    """
    if max(sizes) > LONGEST:
        raise VolumeError(f"an axis of {max(sizes)} voxels", expected=f"at most {LONGEST}", fix="another format")
    if stored.name not in CODES:
        raise VolumeError(f"numbers of type {stored.name}", expected=", ".join(CODES), fix="convert them")
    fields = np.zeros((), NIFTI1)
    fields["sizeof_hdr"], fields["magic"], fields["vox_offset"] = NIFTI1.itemsize, b"n+1", NIFTI1.itemsize + 4
    fields["dim"] = [len(sizes), *sizes, *(1,) * (7 - len(sizes))]
    fields["datatype"], fields["bitpix"] = CODES[stored.name], 8 * stored.itemsize
    fields["scl_slope"], fields["xyzt_units"] = 1, MILLIMETRES_AND_SECONDS
    fields["intent_code"], fields["descrip"] = intent, description
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    rotation = affine[:3, :3] / spacing
    handedness = 1.0 if np.linalg.det(rotation) > 0 else -1.0
    fields["pixdim"] = [handedness, *spacing, 1, 1, 1, 1]
    fields["qform_code"] = fields["sform_code"] = SCANNER
    parts = quaternion_of(rotation * [1, 1, handedness])
    for name, value in zip(("quatern_b", "quatern_c", "quatern_d"), parts[1:], strict=True):
        fields[name] = value
    for name, value in zip(("qoffset_x", "qoffset_y", "qoffset_z"), affine[:3, 3], strict=True):
        fields[name] = value
    for name, row in zip(("srow_x", "srow_y", "srow_z"), affine, strict=False):
        fields[name] = row
    return fields.tobytes() + NO_EXTENSION


def quaternion_of(rotation: Matrix) -> Matrix:
    """The unit quaternion (a, b, c, d), a at least 0, of a rotation matrix.

    The largest of the four is computed from the diagonal, the others from sums and differences of the other elements,
    so that nothing is divided by a small number.
    """
    trace = float(np.trace(rotation))
    squares = np.array([1 + trace, *(1 - trace + 2 * np.diag(rotation))])  # 4 a^2, 4 b^2, 4 c^2, 4 d^2
    largest = int(np.argmax(squares))
    twisted = rotation - rotation.T
    plain = rotation + rotation.T
    products = np.array(  # 4 times the product of each two parts
        [
            [squares[0], twisted[2, 1], twisted[0, 2], twisted[1, 0]],
            [twisted[2, 1], squares[1], plain[0, 1], plain[0, 2]],
            [twisted[0, 2], plain[0, 1], squares[2], plain[1, 2]],
            [twisted[1, 0], plain[0, 2], plain[1, 2], squares[3]],
        ]
    )
    parts: Matrix = products[largest] / np.linalg.norm(products[largest])
    return parts if parts[0] >= 0 else -parts


def rotation_of(quaternion: Matrix) -> Matrix:
    """The rotation matrix of a unit quaternion (a, b, c, d)."""
    a, b, c, d = (float(part) for part in quaternion)
    return np.array(
        [
            [1 - 2 * (c * c + d * d), 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), 1 - 2 * (b * b + d * d), 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), 1 - 2 * (b * b + c * c)],
        ]
    )
