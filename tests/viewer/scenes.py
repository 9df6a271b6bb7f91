"""A scan with one box as its label, and readers of what a page holds."""

from __future__ import annotations

import base64
import gzip
import json

import nibabel
import numpy as np

from resvox.volumes import Volume


def ball(shape=(12, 16, 20), *, spacing_mm=(3.0, 2.0, 1.0), value=5, **geometry) -> tuple[Volume, Volume]:
    """A scan in Hounsfield units with one bright box, and its label map."""
    array = np.full(shape, -900, np.int16)
    label = np.zeros(shape, np.uint8)
    inside = tuple(slice(n // 4, n // 2) for n in shape)
    array[inside], label[inside] = 300, value
    return (
        Volume(array, spacing_mm=spacing_mm, **geometry),
        Volume(label, spacing_mm=spacing_mm, **geometry),
    )


def page_data(page: str) -> dict:
    start = page.index('id="scene">') + len('id="scene">')
    return json.loads(page[start : page.index("</script>", start)])


def image_of(text: str) -> nibabel.Nifti1Image:
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))
