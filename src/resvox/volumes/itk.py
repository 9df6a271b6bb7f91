"""The only module that converts between SimpleITK's images and `Volume`: it reverses the axis order."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK

from resvox.errors import VolumeError
from resvox.volumes.grid import Grid
from resvox.volumes.volume import Volume

sitk: Any = SimpleITK  # its wrappers have no types
sitk.ProcessObject.SetGlobalWarningDisplay(
    False
)  # errors are raised by this package; warnings about headers of other programs are not useful


def reason(error: RuntimeError) -> str:
    """The reason in an ITK exception, without its C++ addresses."""
    lines = [line.strip() for line in str(error).splitlines()]
    lines = [line for line in lines if line and not line.startswith("Exception thrown")]
    nrrd = [line.removeprefix("[nrrd] ") for line in lines if line.startswith("[nrrd]")]
    errors = nrrd[::-1] or [line for line in lines if "ERROR" in line] or lines
    text = errors[0] if errors else "no reason given"
    for lead in ("ITK ERROR:", "sitk::ERROR:"):
        text = text.split(lead, 1)[-1]
    if "(0x" in text and "): " in text:
        text = text.split("): ", 1)[1]
    return text.strip() or "no reason given"


def read_image(path: str | os.PathLike[str], *, image_io: str = "") -> Any:
    """An ITK image of one file.

    Raises:
        VolumeError: ITK cannot read it; the file and ITK's reason are named.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(os.fspath(path))
    if image_io:
        reader.SetImageIO(image_io)
    try:
        return reader.Execute()
    except RuntimeError as error:
        text = reason(error)
        if "Unable to determine ImageIO" in text:
            text = "no image in a known format"
        if "orthonormal" in text:
            raise VolumeError(
                "its axes are sheared (not at right angles)",
                expected="orthogonal axes",
                fix="resample it onto a rectangular grid first",
                path=path,
            ) from None
        if "determinant is 0" in text:
            raise VolumeError(
                "a 2-D image that is not in the x, y plane of the world (sagittal, coronal or tilted)",
                expected="an image in that plane, or a volume",
                fix="save it as a volume of one slice, with a third axis of size 1",
                path=path,
            ) from None
        raise VolumeError(f"cannot be read ({text})", expected="a whole, undamaged image file", path=path) from None


def volume_of(image: Any) -> Volume:
    """A 2-D or 3-D ITK image as a `Volume`; vector pixels become channels in front, float64 becomes float32.

    Rescaled integers come as float64 too; a float64 copy of a large scan is gigabytes, so none is made. Values
    beyond float32 become infinite, which `read_volume` rejects.
    """
    view = sitk.GetArrayViewFromImage(image)
    with np.errstate(over="ignore"):
        array = view.astype(np.float32 if view.dtype == np.float64 else view.dtype)
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = np.moveaxis(array, -1, 0)
    return Volume(array, **geometry_of(image, image.GetDimension()))


def geometry_of(image: Any, dims: int) -> dict[str, Any]:
    """Spacing, origin and direction of the first `dims` ITK axes, in array order."""
    count = image.GetDimension()
    direction = np.reshape(image.GetDirection(), (count, count))[:dims, :dims]
    return {
        "spacing_mm": tuple(image.GetSpacing()[:dims][::-1]),
        "origin_mm": tuple(image.GetOrigin()[:dims]),
        "direction": np.ascontiguousarray(direction[:, ::-1]),
    }


def image_of(volume: Volume) -> Any:
    """A `Volume` as an ITK image; a channel axis becomes vector pixels."""
    array: npt.NDArray[Any] = volume.array
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    vector = array.ndim > volume.spatial_dims
    if vector:
        array = np.moveaxis(array, 0, -1)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array), isVector=vector)
    place(image, volume.grid)
    return image


def place(image: Any, grid: Grid) -> None:
    """Give an ITK image the geometry of a grid."""
    image.SetSpacing(grid.spacing_mm[::-1])
    image.SetOrigin(grid.origin_mm)
    image.SetDirection(grid.direction[:, ::-1].ravel().tolist())
