"""Sliding-window inference: a large volume, window by window."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from resvox.errors import InferenceError
from resvox.inference.blending import importance_map
from resvox.inference.mirroring import Predictor, mirrored
from resvox.inference.windows import padding, per_axis, window_size, window_starts

# MONAI uses the names of torch for padding; NumPy has other names for two of them.
PADDING_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def sliding_window_inference(
    array: np.ndarray,
    predictor: Predictor,
    *,
    roi_size: int | Sequence[int | None],
    overlap: float | Sequence[float] = 0.5,
    mode: str = "gaussian",
    sigma_scale: float | Sequence[float] = 0.125,
    sw_batch_size: int = 1,
    padding_mode: str = "constant",
    cval: float = 0.0,
    mirror_axes: Sequence[int] = (),
    placement: str = "stepped",
    progress: Callable[[int, int], object] | None = None,
) -> np.ndarray:
    """Logits of a whole volume from a predictor for windows.

    Argument names and, with the same arguments, results equal those of
    ``monai.inferers.sliding_window_inference`` (whose defaults are ``overlap=0.25, mode="constant"``). Where windows
    overlap, the result is their weighted mean.

    Args:
        array: ``(channels, *spatial)``, 2 or 3 spatial axes, any size from 1 voxel up.
        predictor: ``(batch, channels, *roi)`` float32 to ``(batch, classes, *roi)``, both numpy, e.g. a
            ``TorchEngine``. Its first output defines the number of classes.
        roi_size: the window in voxels, one value or one per axis; ``None`` or -1 for a whole axis.
        overlap: fraction of a window shared with its neighbour, at least 0 and below 1, one value or one per
            axis.
        mode: ``"gaussian"``, ``"constant"`` or ``"half-gaussian"``, see
            :func:`resvox.inference.blending.importance_map`.
        sigma_scale: the Gaussian's standard deviation as a fraction of the window.
        sw_batch_size: windows per call of the predictor.
        padding_mode: ``"constant"``, ``"reflect"``, ``"replicate"`` or ``"circular"``: the padding, on
            both sides, of an axis that is shorter than the window; the result is cropped back.
        cval: the value of ``"constant"`` padding.
        mirror_axes: spatial axes of test-time mirroring, see :func:`resvox.inference.mirroring.mirrored`.
        placement: ``"stepped"`` as MONAI, or ``"even"`` as nnU-Net, see :mod:`resvox.inference.windows`.
        progress: called as ``progress(done, total)`` in windows, first with 0, then after every batch.

    Returns:
        ``(classes, *spatial)`` float32, the spatial size of ``array``.

    Raises:
        InferenceError: arguments that are not valid, or an output of the predictor with a wrong type, shape, number of
            classes or with values that are not finite.
    """
    scan = WindowedScan(
        array,
        predictor,
        roi_size=roi_size,
        overlap=overlap,
        mode=mode,
        sigma_scale=sigma_scale,
        sw_batch_size=sw_batch_size,
        padding_mode=padding_mode,
        cval=cval,
        mirror_axes=mirror_axes,
        placement=placement,
    )
    blend = None
    report = progress or (lambda done, total: None)
    report(0, len(scan.starts))
    done = 0
    for batch, logits in scan.outputs(scan.starts):
        if blend is None:
            blend = _Blend(logits.shape[1], scan.padded.shape[1:], scan.weights)
        for start, window in zip(batch, logits, strict=True):
            blend.add(start, window)
        done += len(batch)
        report(done, len(scan.starts))
    assert blend is not None  # there is at least one window
    return _crop(blend.mean(), scan.pads)


class WindowedScan:
    """A padded volume, the positions of its windows and their weights; arguments as in `sliding_window_inference`.

    Raises:
        InferenceError: arguments that are not valid.
    """

    def __init__(
        self,
        array: np.ndarray,
        predictor: Predictor,
        *,
        roi_size: int | Sequence[int | None],
        overlap: float | Sequence[float],
        mode: str,
        sigma_scale: float | Sequence[float],
        sw_batch_size: int,
        padding_mode: str,
        cval: float,
        mirror_axes: Sequence[int],
        placement: str,
    ) -> None:
        image_size = _spatial_size(array)
        self.roi, overlaps = _check_window(roi_size, overlap, image_size)
        _check_batch_size(sw_batch_size)
        self.batch_size = sw_batch_size
        self.weights = importance_map(self.roi, mode=mode, sigma_scale=sigma_scale)
        self.predict = mirrored(_checked(predictor), mirror_axes, len(image_size))
        self.pads = padding(image_size, self.roi)
        self.padded = _pad(array, self.pads, padding_mode, cval)
        self.starts = window_starts(self.padded.shape[1:], self.roi, overlaps, placement=placement)

    def outputs(
        self, starts: Sequence[tuple[int, ...]], *, ahead: bool = False
    ) -> Iterator[tuple[Sequence[tuple[int, ...]], np.ndarray]]:
        """Batches of starts and their logits (batch, classes, *roi), valid until the next batch is requested.

        ``ahead``: the next batch is computed in a thread while the caller works on this one.
        """
        batches = [starts[first : first + self.batch_size] for first in range(0, len(starts), self.batch_size)]
        if not ahead:
            for batch in batches:
                yield batch, self._output(batch)
            return
        with ThreadPoolExecutor(1) as pool:
            waiting = [pool.submit(self._output, batch) for batch in batches[:1]]
            for number, batch in enumerate(batches, start=1):
                logits = waiting.pop().result()
                waiting += [pool.submit(self._output, following) for following in batches[number : number + 1]]
                yield batch, logits

    def _output(self, batch: Sequence[tuple[int, ...]]) -> np.ndarray:
        return self.predict(_cut(self.padded, batch, self.roi))


def padded_for(array: np.ndarray, roi: Sequence[int], *, mode: str, cval: float) -> np.ndarray:
    """A scan (channels, *spatial) with what is missing to a window of ``roi`` voxels added on both sides of each axis.

    Args:
        mode: a padding mode of `sliding_window_inference`; ``cval`` is the value of "constant".
    """
    return _pad(array, padding(array.shape[1:], roi), mode, cval)


class _Blend:
    """The weighted mean of windows: a sum per class and a sum of weights, over the whole volume."""

    def __init__(self, classes: int, image_size: Sequence[int], weights: np.ndarray) -> None:
        self.weights = weights
        self.sums = np.zeros((classes, *image_size), np.float32)
        self.weight_sums = np.zeros(tuple(image_size), np.float32)

    def add(self, start: Sequence[int], logits: np.ndarray) -> None:
        if logits.shape[0] != self.sums.shape[0]:
            raise InferenceError(
                f"a window with {logits.shape[0]} classes after windows with {self.sums.shape[0]}",
                expected="the same number of classes for every window",
            )
        box = _box(start, self.weights.shape)
        self.sums[(slice(None), *box)] += logits * self.weights
        self.weight_sums[box] += self.weights

    def mean(self) -> np.ndarray:
        """The blended logits; computed in place, so that no window can be added after it."""
        self.sums /= self.weight_sums
        return self.sums


def _cut(array: np.ndarray, starts: Sequence[tuple[int, ...]], roi: tuple[int, ...]) -> np.ndarray:
    """The windows at ``starts``, ``(batch, channels, *roi)`` float32; only these are copied."""
    windows = np.empty((len(starts), array.shape[0], *roi), np.float32)
    for index, start in enumerate(starts):
        windows[index] = array[(slice(None), *_box(start, roi))]
    return windows


def _box(start: Sequence[int], size: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))


def _pad(array: np.ndarray, pads: Sequence[tuple[int, int]], mode: str, cval: float) -> np.ndarray:
    if mode not in PADDING_MODES:
        raise InferenceError(f"padding_mode={mode!r}", expected=" or ".join(map(repr, PADDING_MODES)))
    if not any(map(sum, pads)):
        return array
    if mode == "constant":
        # cval may be -1000.5 in a volume of unsigned integers: the padded volume has the type of windows, float32.
        return np.pad(array.astype(np.float32), [(0, 0), *pads], constant_values=cval)
    padded: np.ndarray = np.pad(array, [(0, 0), *pads], mode=PADDING_MODES[mode])  # type: ignore[call-overload]
    return padded


def _crop(array: np.ndarray, pads: Sequence[tuple[int, int]]) -> np.ndarray:
    if not any(map(sum, pads)):
        return array
    box = tuple(slice(before, size - after) for (before, after), size in zip(pads, array.shape[1:], strict=True))
    return np.ascontiguousarray(array[(slice(None), *box)])  # a view would keep the padded sums alive


def _checked(predictor: Predictor) -> Predictor:
    """The predictor, with a check of each output before it is added."""

    def predict(windows: np.ndarray) -> np.ndarray:
        logits = predictor(windows)
        if not isinstance(logits, np.ndarray):
            raise InferenceError(
                f"a predictor that returned {type(logits).__module__}.{type(logits).__name__}",
                expected="a numpy array of shape (batch, classes, *roi)",
                fix="wrap a torch module in resvox.inference.TorchEngine",
            )
        expected = (windows.shape[0], "classes", *windows.shape[2:])
        fits = logits.ndim == windows.ndim and logits.shape[1] >= 1
        if not fits or (logits.shape[0], *logits.shape[2:]) != (windows.shape[0], *windows.shape[2:]):
            raise InferenceError(
                f"a predictor that returned {logits.shape} for windows of {windows.shape}",
                expected=f"({', '.join(map(str, expected))})",
                fix="a network whose output has its input's size, and a roi_size divisible by its strides",
            )
        _check_finite(logits, windows)
        return logits

    return predict


def _check_finite(logits: np.ndarray, windows: np.ndarray) -> None:
    with np.errstate(all="ignore"):
        if np.isfinite(logits.sum()):  # a NaN or infinity shows in the sum, which is much cheaper to compute
            return
    bad = int(logits.size - np.isfinite(logits).sum())
    if not bad:  # the sum itself overflowed
        return
    sick = not np.isfinite(windows).all()
    raise InferenceError(
        f"{bad} logits that are NaN or infinite" + (" from a window that holds such values itself" if sick else ""),
        expected="finite logits",
        fix="clean the volume" if sick else "look for NaN among the weights, or predict in float32",
    )


def _spatial_size(array: np.ndarray) -> tuple[int, ...]:
    if not isinstance(array, np.ndarray) or array.ndim not in (3, 4) or 0 in array.shape:
        shape = array.shape if isinstance(array, np.ndarray) else type(array).__name__
        raise InferenceError(
            f"a volume of shape {shape}",
            expected="a numpy array (channels, *spatial) with 2 or 3 spatial axes, none of them empty",
            fix="add the channel axis with array[None], and leave out the batch axis",
        )
    return array.shape[1:]


def _check_window(
    roi_size: int | Sequence[int | None], overlap: float | Sequence[float], image_size: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    roi = window_size(roi_size, image_size)
    overlaps = per_axis(overlap, len(image_size), name="overlap")
    if not all(0 <= fraction < 1 for fraction in overlaps):
        raise InferenceError(f"overlap={overlap}", expected="fractions of a window, at least 0 and below 1")
    return roi, overlaps


def _check_batch_size(sw_batch_size: int) -> None:
    if isinstance(sw_batch_size, bool) or not isinstance(sw_batch_size, int) or sw_batch_size < 1:
        raise InferenceError(f"sw_batch_size={sw_batch_size!r}", expected="a whole number of windows, at least 1")
