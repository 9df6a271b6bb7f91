"""A task of TotalSegmentator step by step with nibabel and scipy; each model is one call of our runner of nnU-Net."""

from __future__ import annotations

import nibabel
import numpy as np
from scipy import ndimage

from resvox.prediction.segmenter import Segmenter
from resvox.prediction.totalsegmentator.table import task_of
from resvox.volumes import read_volume

RAS = nibabel.orientations.axcodes2ornt("RAS")


def reference(task, scan, results, folder, *, run="default", order=1, subset=None, **options):
    """The label map (x, y, z) of a scan.

    Args:
        task: its name.
        scan: a NIfTI file.
        results: the folder of the weights.
        folder: for files between the steps.
        order: of the splines.
        subset: names of labels.
        options: of each model, such as ``exact=True``.
    """
    image = nibabel.load(scan)
    made = _predict(task, image, results, folder, run, order, subset, options)
    if subset is not None:
        values = [task_of(task).labels[name] for name in subset]
        made = np.where(np.isin(made, values), made, 0)
    return made


def _predict(task, image, results, folder, run, order, subset, options):
    found = task_of(task).run(run)
    crop = found.crop
    if crop is None and subset is not None:
        rule = task_of(task).subset_crop
        crop = type(rule)(task=rule.task, run=rule.run, labels=tuple(subset), addon_mm=rule.addon_mm)
    data, affine = image.get_fdata(), image.affine
    box = (slice(None),) * 3
    if crop is not None:
        rough = _predict(crop.task, image, results, folder, crop.run, order, None, options)
        mask = np.isin(rough, [task_of(crop.task).labels[name] for name in crop.labels])
        if not mask.any():
            return np.zeros(image.shape, np.uint8)
        more = (np.array([crop.addon_mm] * 3) / image.header.get_zooms()).astype(int)
        there = np.argwhere(mask)
        box = tuple(
            slice(max(low, 0), high)
            for low, high in zip(there.min(axis=0) - more, there.max(axis=0) + 1 + more, strict=True)
        )
        affine = affine @ np.array([[1, 0, 0, box[0].start], [0, 1, 0, box[1].start], [0, 0, 1, box[2].start],
                                    [0, 0, 0, 1]])  # fmt: skip
        data = data[box].astype(np.int32)
    before = nibabel.as_closest_canonical(nibabel.Nifti1Image(data, affine))
    seen = before if found.spacing_mm is None else _respaced(before, found.spacing_mm, order)
    labels = np.zeros(seen.shape, np.uint8)
    for model in found.models:
        if subset is None or set(subset) & set(model.labels):
            own = _of_model(results / model.dataset / model.folder, seen, found, folder, options)
            for place, name in enumerate(model.labels):
                labels[own == place + 1] = task_of(task).labels[name]
    labels = _cleaned(labels, found, task_of(task).labels, seen.header.get_zooms())
    if labels.shape != before.shape:
        zoom = np.array(before.shape) / np.array(labels.shape)
        labels = ndimage.zoom(labels, zoom, order=0, mode="nearest")
    back = nibabel.orientations.ornt_transform(RAS, nibabel.io_orientation(image.affine))
    whole = np.zeros(image.shape, np.uint8)
    whole[box] = nibabel.orientations.apply_orientation(labels, back)
    return whole


def _respaced(image, spacing_mm, order):
    zooms = np.array(image.header.get_zooms())
    factors = zooms / np.array(spacing_mm)
    if np.array_equal(zooms, np.array(spacing_mm)):
        return image
    made = ndimage.zoom(image.get_fdata(), factors, order=order, mode="nearest").astype(np.int32)
    affine = image.affine.copy()
    affine[:3, :3] /= factors
    return nibabel.Nifti1Image(made, affine)


def _of_model(path, image, found, folder, options):
    nibabel.save(image, folder / "seen.nii.gz")
    settings = {"folds": found.folds, "mirror": False, "overlap": round(1 - found.step, 12), **options}
    return Segmenter(path, **settings).segment(read_volume(folder / "seen.nii.gz")).label_map.array.T


def _cleaned(labels, found, values, zooms):
    for rule in found.clean:
        value = values[rule.label]
        components, count = ndimage.label(labels == value)
        sizes = [int((components == number).sum()) for number in range(1, count + 1)]
        for number, size in enumerate(sizes, start=1):
            if rule.up_to_mm3 is None:
                is_small = number != 1 + sizes.index(max(sizes))
            else:
                is_small = size <= rule.up_to_mm3 / float(np.prod(zooms))
            if is_small:
                labels[components == number] = 0
    return labels
