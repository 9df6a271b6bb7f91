"""What nnU-Net's float16 arrays can change: a bound per voxel, from the spacing of float16 numbers alone.

nnU-Net adds the weighted logits of windows in one float16 array and the weights in another, and divides the first by
the second in float16; folds are averaged in float16; the spline resampling rounds its results to float16. Each of these
results is off by half the distance of neighbouring float16 numbers at most. In the corners of a scan a weight is the
smallest number that float16 has, of which every sum is a multiple: logits are rounded to about whole numbers there.

With L the logits without these roundings and E their bounds, nnU-Net can choose class b where ours is a only if
L[a] - L[b] <= E[a] + E[b]; for regions, if |L| <= E of a region.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from resvox.inference import EnsembleEngine, WindowCount
from resvox.inference.sliding_window import WindowedScan
from resvox.prediction.nnunet.whole import whole_logits
from resvox.prediction.predictor import by_slices, mirror_axes_of, overlap_of, stream
from resvox.prediction.segmenter import Segmenter
from resvox.preprocessing.nnunet import Resize

SMALLEST = -14  # exponent of the smallest normal float16; below it numbers have equal distances
FLOAT32 = 2.0**-22  # products and sums of float32 that are rounded to float16 afterwards, relative
# The convolutions that nnU-Net ran were those of another processor perhaps; relative to the largest logit.
CONVOLUTIONS = 1e-5


@dataclass(frozen=True, kw_only=True)
class Explained:
    """The voxels of one scan whose label is not nnU-Net's, beside those where float16 may decide.

    Attributes:
        voxels: of the scan.
        differing: have another label.
        possible: may have another label by the bounds.
        unexplained: have another label although the bounds exclude it.
        widest: the largest margin of our logits among the differing ones.
        beyond: the largest excess of nnU-Net's logits over their bounds; below 0 where all are within.
        own_error: of our float32 logits beside sums in float64, relative to the largest logit.
    """

    voxels: int
    differing: int
    possible: int
    unexplained: int
    widest: float
    beyond: float
    own_error: float


def half_spacing(values):
    """Half the distance of neighbouring float16 numbers at each of these."""
    exponents = np.frexp(np.abs(values, dtype=np.float64))[1] - 1
    return np.ldexp(1.0, np.maximum(np.where(values == 0, SMALLEST, exponents), SMALLEST) - 11)


def bounded_logits(prepared, engine, card, options):
    """(classes, *spatial) float64 logits on the network's grid without float16, and what float16 changes at most."""
    engines = engine.engines if isinstance(engine, EnsembleEngine) else (engine,)
    made = [_bounded(prepared, each, card, options) for each in engines]
    logits, bound = (np.sum([pair[n] for pair in made], axis=0) for n in (0, 1))
    if len(made) > 1:
        bound = (bound + half_spacing(np.abs(logits) + bound)) / len(made)
        logits = logits / len(made)
        bound += half_spacing(np.abs(logits) + bound)
    return logits, bound


def _bounded(prepared, engine, card, options):
    windows = card.inference
    roi, axes, predict = windows.roi_size, mirror_axes_of(windows, options), engine
    if len(roi) < prepared.grid.spatial_dims:
        roi, axes, predict = by_slices(roi, axes, engine)
    scan = WindowedScan(
        prepared.array, predict, roi_size=roi, overlap=overlap_of(windows, options), mode="half-gaussian",
        sigma_scale=0.125, sw_batch_size=1, padding_mode="constant", cval=0.0, mirror_axes=axes, placement="even",
    )  # fmt: skip
    size = scan.padded.shape[1:]
    weights, sums, off = np.zeros(size), None, None
    half_weights = np.zeros(size, np.float16)  # nnU-Net's own: they do not depend on the scan
    for batch, outputs in scan.outputs(scan.starts):
        if sums is None:
            sums, off = (np.zeros((outputs.shape[1], *size)) for _ in range(2))
        box = tuple(slice(start, start + length) for start, length in zip(batch[0], scan.roi, strict=True))
        place = (slice(None), *box)
        sums[place] += outputs[0].astype(np.float64) * scan.weights
        reached = np.abs(sums[place]) + off[place]
        off[place] += half_spacing(reached) + FLOAT32 * reached
        weights[box] += scan.weights
        half_weights[box] += scan.weights.astype(np.float16)
    logits, divisor = sums / weights, half_weights.astype(np.float64)
    bound = off / divisor + np.abs(sums) * np.abs(1 / divisor - 1 / weights)
    bound += half_spacing(np.abs(logits) + bound) + CONVOLUTIONS * np.abs(logits).max()
    inner = [slice(pad[0], length - pad[1]) for pad, length in zip(scan.pads, size, strict=True)]
    return logits[(slice(None), *inner)], bound[(slice(None), *inner)]


def resized_bound(resize, logits, bound):
    """Logits and bounds on the scan's grid. Linear resampling has no negative weights, so bounds are resampled too."""
    if resize.source.shape == resize.shape:
        return logits, bound
    moved, wide = (resize.inverse(each.astype(np.float32), "scores").astype(np.float64) for each in (logits, bound))
    if resize.scores.method == "spline":
        wide = wide + half_spacing(np.abs(moved) + wide)
    return moved, wide


def explained(model, volume, labels, logits=None, **options):
    """How our default label map of a scan differs from nnU-Net's.

    Args:
        model: the model folder.
        volume: the scan.
        labels: nnU-Net's label map.
        logits: nnU-Net's (classes, *spatial) float16 on the network's grid, or None.
        options: of `Segmenter`.
    """
    default = Segmenter(model, engine="torch-plain", precision="float32", **options)
    exact = Segmenter(model, exact=True, **options)
    prepared = exact.prepare(volume)
    plain, bound = bounded_logits(prepared, exact.engine, exact.card, exact.options)
    beyond = 0.0 if logits is None else float((np.abs(logits.astype(np.float64) - plain) - bound).max())
    if exact.card.cascade is None:  # another label in the first stage is another input of the second
        prepared = default.prepare(volume)
    slices = stream(
        prepared, default.engine, default.card.inference, default.options, count=WindowCount(), progress=None,
        independent=default.card.regions is not None,
    )  # fmt: skip
    ours = whole_logits(prepared, slices)
    off = np.abs(ours - plain)
    resize = prepared.steps[-1]
    assert isinstance(resize, Resize)
    scores, bound = resized_bound(resize, ours, bound + off)
    made = default.segment_prepared(prepared).label_map.array
    own, theirs = (_cropped(prepared, each) for each in (made, np.asarray(labels).reshape(made.shape)))
    margin, possible = _margins(scores, bound, default.card)
    differing = own != theirs
    outside = int((made != labels.reshape(made.shape)).sum() - differing.sum())
    return Explained(
        voxels=made.size,
        differing=int(differing.sum()) + outside,
        possible=int(possible.sum()),
        unexplained=int((differing & ~_may_be(scores, bound, theirs, default.card, possible)).sum()) + outside,
        widest=float(margin[differing].max(initial=0.0)),
        beyond=beyond,
        own_error=float(off.max() / np.abs(plain).max()),
    )


def _cropped(prepared, label_map):
    """A label map of the scan on the grid before resampling."""
    array = label_map[np.newaxis]
    for step in prepared.steps[:-1]:
        array = step.forward(array, "labels")
    return array[0]


def _margins(logits, bound, card):
    """The margin with which a label was chosen, and where another one may be chosen."""
    if card.class_order is not None:
        distance = np.abs(logits)
        return distance.min(axis=0), (distance <= bound).any(axis=0)
    order = np.sort(logits, axis=0)
    first = logits.argmax(axis=0)[np.newaxis]
    best, its_bound = (np.take_along_axis(each, first, axis=0) for each in (logits, bound))
    others = best - logits <= its_bound + bound
    np.put_along_axis(others, first, values=False, axis=0)
    return order[-1] - order[-2], others.any(axis=0)


def _may_be(logits, bound, labels, card, possible):
    """Where float16 may have decided for these labels."""
    if card.class_order is not None:
        return possible
    values = list(card.labels_by_class.values())
    classes = np.searchsorted(values, labels)[np.newaxis]
    first = logits.argmax(axis=0)[np.newaxis]
    took = [np.take_along_axis(each, classes, axis=0)[0] for each in (logits, bound)]
    best = [np.take_along_axis(each, first, axis=0)[0] for each in (logits, bound)]
    return best[0] - took[0] <= best[1] + took[1]
