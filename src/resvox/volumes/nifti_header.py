"""Contents of a NIfTI header, by one rule: sizes, voxel type, scaling, and the position of the voxels.

The rule is written out in docs/axes-and-units.md. Positions are those that nibabel gives, wherever nibabel gives a
rectangular grid: the sform counts before the qform, and without either the header holds no orientation. Repairs,
and contents that readers interpret differently, become remarks.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from resvox.errors import VolumeError
from resvox.volumes.grid import ORTHONORMAL_TOLERANCE
from resvox.volumes.nifti_fields import CODES, COLOURS, HEADERS, OTHERS, rotation_of

Matrix = npt.NDArray[np.float64]

SINGLE_MAGIC, PAIR_MAGIC = (b"n+1", b"n+2"), (b"ni1", b"ni2")
FORM_CODES = range(6)  # of qform and sform: unknown, scanner, aligned, Talairach, MNI, other template
UNITS_MM = {1: ("metres", 1000.0), 3: ("micrometres", 0.001)}  # spatial units of xyzt_units that are not millimetres
VECTOR_INTENTS = (1005, 1006, 1007, 2003, 2004)  # several numbers per voxel, along the fifth axis
THREE_D_MARK = b"3-D"  # in `descrip`: a volume of one slice with channels, which otherwise looks like a 2-D image
QUATERNION_TOLERANCE = 1e-3
SIZE_TOLERANCE = 0.01  # of a voxel, between sform and pixdim
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True, kw_only=True)
class NiftiHeader:
    """A NIfTI header in this package's conventions.

    Args:
        sizes: voxels along x, y, z (or x, y) and what lies beyond, as in the file.
        spatial_dims: 2 or 3.
        is_vector: the axes beyond the spatial ones are components of each voxel.
        stored: the type of the stored numbers, with its byte order.
        components: numbers per voxel of an RGB or RGBA type, else 1.
        slope, intercept: real value = slope * stored + intercept; (1, 0) for none.
        offset: where the voxels begin in their file.
        spacing_mm, origin_mm, direction: as in `Volume`.
        remarks: repairs, and contents that readers interpret differently.
    """

    sizes: tuple[int, ...]
    spatial_dims: int
    is_vector: bool
    stored: np.dtype[Any]
    components: int
    slope: float
    intercept: float
    offset: int
    spacing_mm: tuple[float, ...]
    origin_mm: tuple[float, ...]
    direction: Matrix
    remarks: tuple[str, ...] = field(default=())

    @property
    def voxels(self) -> int:
        """Numbers in the file, components counted."""
        return math.prod(self.sizes) * self.components


def parse_header(data: bytes, path: Path, *, pair: bool) -> NiftiHeader:
    """The header at the beginning of a file.

    Args:
        data: the first 540 bytes of the file, or fewer.
        path: named in errors.
        pair: whether the voxels lie in a file of their own (``.img``).

    Raises:
        VolumeError: not NIfTI, or a header that describes no image on a rectangular grid.
    """
    fields, order = _fields(data, path, pair)
    sizes = _sizes(fields, path)
    intent, is_one_slice = int(fields["intent_code"]), len(sizes) > 2 and sizes[2] == 1
    is_vector = intent in VECTOR_INTENTS and len(sizes) == 5 and sizes[3] == 1
    is_marked = bytes(fields["descrip"].tobytes()).startswith(THREE_D_MARK)
    spatial_dims = 2 if len(sizes) == 2 or (is_vector and is_one_slice and not is_marked) else 3
    stored, components = _stored_type(int(fields["datatype"]), order, path)
    slope, intercept = _scaling(fields, path)
    remarks: list[str] = []
    if int(fields["bitpix"]) != stored.itemsize * components * 8:
        remarks.append(
            f"its header gives {int(fields['bitpix'])} bits per voxel for type {stored.name}; the type counts"
        )
    spacing, origin, direction = _position(fields, sizes, spatial_dims, path, remarks)
    return NiftiHeader(
        sizes=sizes,
        spatial_dims=spatial_dims,
        is_vector=is_vector,
        stored=stored,
        components=components,
        slope=slope,
        intercept=intercept,
        offset=_offset(fields, len(fields.tobytes()), path, pair),
        spacing_mm=spacing,
        origin_mm=origin,
        direction=direction,
        remarks=tuple(remarks),
    )


def _fields(data: bytes, path: Path, pair: bool) -> tuple[Any, str]:
    """The header's record of named fields, and its byte order."""
    for order in "<>":
        size = struct.unpack_from(f"{order}i", data)[0] if len(data) >= 4 else 0
        if size in HEADERS and len(data) >= size:
            fields = np.frombuffer(data[:size], HEADERS[size].newbyteorder(order))[0]  # type: ignore[arg-type]
            magic = bytes(fields["magic"].tobytes())[:3]
            if magic not in SINGLE_MAGIC + PAIR_MAGIC:
                raise VolumeError(
                    "an Analyze 7.5 header, which does not distinguish left from right",
                    expected="a NIfTI image",
                    fix="convert it to NIfTI with a program that knows its sides",
                    path=path,
                )
            if (magic in PAIR_MAGIC) != pair:
                raise VolumeError(
                    f"a NIfTI header for {'a pair of files' if not pair else 'a single file'}",
                    expected=".hdr beside .img" if not pair else ".nii or .nii.gz",
                    fix="rename it",
                    path=path,
                )
            return fields, order
    raise VolumeError("no NIfTI header in it", expected="a NIfTI image", fix="check what it is", path=path)


def _sizes(fields: Any, path: Path) -> tuple[int, ...]:
    count = int(fields["dim"][0])
    sizes = tuple(int(size) for size in fields["dim"][1 : max(count, 0) + 1])
    if not 2 <= count <= 7 or min(sizes) < 1:
        raise VolumeError(f"NIfTI header with sizes {sizes}", expected="2 to 7 axes of at least 1 voxel", path=path)
    return sizes


def _offset(fields: Any, header_bytes: int, path: Path, pair: bool) -> int:
    offset = float(fields["vox_offset"])
    least = 0 if pair else header_bytes
    if not math.isfinite(offset) or not (least <= offset < 1e9) or offset != int(offset):
        if offset == 0:
            return (
                header_bytes + 4
            )  # some programs leave it empty: the usual place, after 4 bytes that say "no extension"
        raise VolumeError(
            f"NIfTI header whose voxels begin at byte {offset:g}", expected=f"{least} or later", path=path
        )
    return int(offset)


def _stored_type(code: int, order: str, path: Path) -> tuple[np.dtype[Any], int]:
    if code in COLOURS:
        return np.dtype("u1"), COLOURS[code]
    if code in OTHERS:
        raise VolumeError(
            f"numbers of type {OTHERS[code]}",
            expected="integers or floats of up to 64 bits",
            fix="convert it",
            path=path,
        )
    name = next((name for name, known in CODES.items() if known == code), None)
    if name is None:
        raise VolumeError(f"NIfTI data type {code}", expected="integers or floating point numbers", path=path)
    return np.dtype(name).newbyteorder(order), 1  # type: ignore[arg-type]


def _scaling(fields: Any, path: Path) -> tuple[float, float]:
    """Slope and intercept; a slope of 0 or NaN means that nothing is scaled, whatever the intercept holds."""
    slope, intercept = float(fields["scl_slope"]), float(fields["scl_inter"])
    if slope == 0 or not math.isfinite(slope):
        return 1.0, 0.0
    if not math.isfinite(intercept):
        raise VolumeError(f"NIfTI header with slope {slope:g} and intercept {intercept}", expected="numbers", path=path)
    return slope, intercept


def _position(
    fields: Any, sizes: tuple[int, ...], dims: int, path: Path, remarks: list[str]
) -> tuple[tuple[float, ...], tuple[float, ...], Matrix]:
    """Spacing (array order), origin (LPS) and direction (LPS rows, array-order columns)."""
    affine = _affine(fields, sizes, path, remarks)
    unit = UNITS_MM.get(int(fields["xyzt_units"]) & 7)
    if unit is not None:
        affine = affine * [[unit[1]], [unit[1]], [unit[1]], [1.0]]
        remarks.append(f"its header measures in {unit[0]}; converted to mm")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    axes = RAS_TO_LPS @ (affine[:3, :3] / spacing)
    origin = RAS_TO_LPS @ affine[:3, 3]
    if dims == 2:
        if np.abs(axes[2, :2]).max() > ORTHONORMAL_TOLERANCE:
            raise VolumeError(
                "a 2-D image that is not in the x, y plane of the world (sagittal, coronal or tilted)",
                expected="an image in that plane, or a volume",
                fix="save it as a volume of one slice, with a third axis of size 1",
                path=path,
            )
        axes, spacing, origin = axes[:2, :2], spacing[:2], origin[:2]
    return tuple(spacing[::-1].tolist()), tuple(origin.tolist()), np.ascontiguousarray(axes[:, ::-1])


def _affine(fields: Any, sizes: tuple[int, ...], path: Path, remarks: list[str]) -> Matrix:
    """From (x, y, z) indices to RAS, in the header's unit: sform before qform before none, as nibabel."""
    sform_code, qform_code = (_code(fields, name, remarks) for name in ("sform_code", "qform_code"))
    sform = _sform(fields) if sform_code else None
    qform = _qform(fields, sizes) if qform_code else None
    if sform is not None:
        _refuse_sheared(sform, "sform", path)
        _compare(fields, sizes, sform, qform, remarks)
        return sform
    if sform_code:
        if qform is None:
            raise VolumeError("an sform without three directions", expected="an orientation", fix=_SET_FORM, path=path)
        remarks.append("its sform is not an orientation; the qform is used")
    if qform is not None:
        return qform
    spacing = _pixdim(fields, sizes)
    if qform_code or spacing is None:
        raise VolumeError(
            f"NIfTI header with spacing {tuple(float(mm) for mm in fields['pixdim'][1 : min(len(sizes), 3) + 1])}"
            if spacing is None
            else "a qform whose quaternion is not a rotation",
            expected="numbers above 0 mm" if spacing is None else "an orientation",
            fix="" if spacing is None else _SET_FORM,
            path=path,
        )
    remarks.append(
        "its header holds no orientation (qform_code and sform_code are 0): x is taken to run from right to left, "
        "y to anterior, z to superior, as nibabel does; programs disagree about this, so check left and right"
    )
    affine = np.diag([-spacing[0], spacing[1], spacing[2], 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array([*sizes, 1, 1][:3]) - 1) / 2)
    return affine


_SET_FORM = "write a correct sform or qform into its header"


def _code(fields: Any, name: str, remarks: list[str]) -> int:
    code = int(fields[name])
    if code in FORM_CODES:
        return code
    remarks.append(f"{name} {code} is not a NIfTI code; taken for 0")
    return 0


def _sform(fields: Any) -> Matrix | None:
    """The sform, or None where it has no three independent directions."""
    affine = np.eye(4)
    for row, name in enumerate(("srow_x", "srow_y", "srow_z")):
        affine[row] = fields[name]
    if not np.isfinite(affine).all():
        return None
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    is_flat = lengths.min() == 0 or abs(np.linalg.det(affine[:3, :3] / lengths)) < ORTHONORMAL_TOLERANCE
    return None if is_flat else affine


def _qform(fields: Any, sizes: tuple[int, ...]) -> Matrix | None:
    """The qform, or None where its quaternion or spacing is not one; quaternions rounded above length 1 are scaled."""
    spacing = _pixdim(fields, sizes)
    vector = np.array([float(fields[f"quatern_{letter}"]) for letter in "bcd"])
    offset = np.array([float(fields[f"qoffset_{letter}"]) for letter in "xyz"])
    squares = float(vector @ vector)
    if spacing is None or not np.isfinite(offset).all() or not squares <= 1 + QUATERNION_TOLERANCE:
        return None
    rounding = 3 * float(np.finfo(fields["quatern_b"].dtype).eps)
    if squares > 1 - rounding:  # a half turn: the root of what rounding left of the real part would be 3e-4
        vector, squares = vector / math.sqrt(squares), 1.0
    affine = np.eye(4)
    rotation = rotation_of(np.array([math.sqrt(1 - squares), *vector]))
    flip = -1.0 if float(fields["pixdim"][0]) == -1 else 1.0
    affine[:3, :3] = rotation * (np.array(spacing) * [1, 1, flip])
    affine[:3, 3] = offset
    return affine


def _pixdim(fields: Any, sizes: tuple[int, ...]) -> tuple[float, float, float] | None:
    """The spacing of x, y and z without signs; 1 for an axis of one voxel that has none; None if one is missing."""
    found = []
    for size, value in zip([*sizes, 1, 1][:3], fields["pixdim"][1:4], strict=True):
        spacing = abs(float(value))
        if not math.isfinite(spacing) or spacing == 0:
            if size > 1:
                return None
            spacing = 1.0
        found.append(spacing)
    return found[0], found[1], found[2]


def _refuse_sheared(affine: Matrix, name: str, path: Path) -> None:
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    off = float(np.abs(axes.T @ axes - np.eye(3)).max())
    if off > ORTHONORMAL_TOLERANCE:
        raise VolumeError(
            f"its axes are sheared (not at right angles): the {name} is off by {off:.2g}",
            expected="orthogonal axes",
            fix="resample it onto a rectangular grid first, or set sform_code to 0 if its qform is right",
            path=path,
        )


def _compare(fields: Any, sizes: tuple[int, ...], sform: Matrix, qform: Matrix | None, remarks: list[str]) -> None:
    """Remarks where the sform, which counts, differs from the qform or from pixdim."""
    spacing = np.linalg.norm(sform[:3, :3], axis=0)
    if qform is not None:
        spans = [*sizes, 1, 1][:3]
        corners = np.array(
            [[x, y, z, 1] for x in (0, spans[0] - 1) for y in (0, spans[1] - 1) for z in (0, spans[2] - 1)]
        )
        off = float(np.abs(corners @ (sform - qform).T).max())
        if off > 0.1 * spacing.min():
            remarks.append(f"its qform and sform differ by up to {off:.3g} in the header's unit; the sform is used")
            return
    pixdim = _pixdim(fields, sizes)
    if pixdim is None or np.abs(np.array(pixdim) / spacing - 1)[: min(len(sizes), 3)].max() > SIZE_TOLERANCE:
        stored = " x ".join(f"{float(mm):.4g}" for mm in fields["pixdim"][1 : min(len(sizes), 3) + 1])
        used = " x ".join(f"{mm:.4g}" for mm in spacing[: min(len(sizes), 3)])
        remarks.append(f"its pixdim ({stored}) is not the spacing of its sform ({used}); the sform is used")
