"""Operations without a layer in Keras, as registered layers, so that saved models can be loaded.

Inputs are (batch, \\*size, channels). Each layer defines its output shape, so that Keras need not trace it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

Shape = tuple[int | None, ...]

registered = keras.saving.register_keras_serializable(package="resvox")


def _pads(before: Sequence[int], after: Sequence[int]) -> list[list[int]]:
    spatial = [[near, far] for near, far in zip(before, after, strict=True)]
    return [[0, 0], *spatial, [0, 0]]


@registered
class MaxPool(keras.layers.Layer):
    """Max pooling padded with -inf on both sides; sizes are per axis."""

    def __init__(self, *, pool_size: Sequence[int], strides: Sequence[int], padding: Sequence[int], **base: Any):
        super().__init__(**base)
        self.pool_size, self.strides, self.padding = tuple(pool_size), tuple(strides), tuple(padding)

    def call(self, x: Any) -> Any:
        x = ops.pad(x, _pads(self.padding, self.padding), constant_values=float("-inf"))
        return ops.max_pool(x, self.pool_size, self.strides, padding="valid", data_format="channels_last")

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        size = tuple(
            None if n is None else (n + 2 * p - k) // s + 1
            for n, k, s, p in zip(input_shape[1:-1], self.pool_size, self.strides, self.padding, strict=True)
        )
        return (input_shape[0], *size, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        own = {"pool_size": self.pool_size, "strides": self.strides, "padding": self.padding}
        return {**super().get_config(), **own}


@registered
class AveragePool(keras.layers.Layer):
    """Average pooling; a partial window at the far border of an axis that strides averages its voxels.

    An axis of stride 1 with a wider window is zero-padded.
    """

    def __init__(self, *, strides: Sequence[int], pool_size: Sequence[int] | None = None, **base: Any):
        super().__init__(**base)
        self.strides = tuple(strides)
        self.pool_size = tuple(pool_size or strides)

    def call(self, x: Any) -> Any:
        beyond = [k - s for k, s in zip(self.pool_size, self.strides, strict=True)]
        if max(beyond) > 0:
            x = ops.pad(x, _pads([0] * len(beyond), beyond))
        # With stride - 1 zeros at the far border, a window starts wherever the map has a voxel.
        pads = _pads([0] * len(self.strides), [s - 1 for s in self.strides])
        share = self._pool(ops.pad(ops.ones_like(x[:1, ..., :1]), pads))
        return self._pool(ops.pad(x, pads)) / share

    def _pool(self, x: Any) -> Any:
        return ops.average_pool(x, self.pool_size, self.strides, padding="valid", data_format="channels_last")

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return _strided(input_shape, self.strides, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "strides": self.strides, "pool_size": self.pool_size}


@registered
class ZeroPad(keras.layers.Layer):
    """Every stride-th voxel, then channels of zeros: the parameter-free shortcut. Gradient flows through it."""

    def __init__(self, *, strides: Sequence[int], extra_channels: int = 0, **base: Any):
        super().__init__(**base)
        self.strides, self.extra_channels = tuple(strides), extra_channels

    def call(self, x: Any) -> Any:
        x = x[(slice(None), *(slice(None, None, s) for s in self.strides))]
        if self.extra_channels == 0:
            return x
        return ops.pad(x, [[0, 0]] * (1 + len(self.strides)) + [[0, self.extra_channels]])

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        channels = input_shape[-1]
        return _strided(input_shape, self.strides, None if channels is None else channels + self.extra_channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "strides": self.strides, "extra_channels": self.extra_channels}


def _strided(shape: Shape, strides: Sequence[int], channels: int | None) -> Shape:
    size = tuple(None if n is None else -(-n // s) for n, s in zip(shape[1:-1], strides, strict=True))
    return (shape[0], *size, channels)


@registered
class LinearUpsample(keras.layers.Layer):
    """Linear interpolation by a whole factor per axis with half-pixel centres, axis by axis.

    The same values as PyTorch's ``interpolate(..., align_corners=False)``, in any number of axes; the layer
    of Keras supports two.
    """

    def __init__(self, *, scale: Sequence[int], **base: Any):
        super().__init__(**base)
        self.scale = tuple(scale)

    def call(self, x: Any) -> Any:
        for axis, factor in enumerate(self.scale, start=1):
            if factor > 1:
                x = _stretch(x, axis, factor)
        return x

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        size = tuple(None if n is None else n * s for n, s in zip(input_shape[1:-1], self.scale, strict=True))
        return (input_shape[0], *size, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": self.scale}


def _stretch(x: Any, axis: int, factor: int) -> Any:
    """Enlarge one axis by ``factor``: every voxel becomes ``factor`` weighted means of it and a neighbour."""

    def part(start: int | None, stop: int | None) -> Any:
        return x[(*[slice(None)] * axis, slice(start, stop))]

    # the border is repeated beyond itself
    before = ops.concatenate([part(None, 1), part(None, -1)], axis=axis)
    after = ops.concatenate([part(1, None), part(-1, None)], axis=axis)
    mixtures = []
    for phase in range(factor):
        offset = (phase + 0.5) / factor - 0.5  # offset of the new centre from the old one, in old voxels
        neighbour = before if offset < 0 else after
        mixtures.append(x * (1 - abs(offset)) + neighbour * abs(offset))
    shape = list(ops.shape(x))
    shape[axis] = shape[axis] * factor
    return ops.reshape(ops.stack(mixtures, axis=axis + 1), shape)


@registered
class CutTo(keras.layers.Layer):
    """Crop the first map to the spatial size of the second, which may be known at run time only."""

    def call(self, inputs: Sequence[Any]) -> Any:
        x, reference = inputs
        size = ops.shape(reference)[1:-1]
        return x[(slice(None), *(slice(None, n) for n in size))]

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        x, reference = input_shape
        return (x[0], *reference[1:-1], x[-1])

    def get_config(self) -> dict[str, Any]:
        return super().get_config()  # given here because Keras infers it only without a dtype policy


@registered
class DropPath(keras.layers.Layer):
    """Stochastic depth: in training the branch of a sample is dropped with probability ``rate``, others are scaled."""

    def __init__(self, *, rate: float, seed: int | None = None, **base: Any):
        super().__init__(**base)
        self.rate, self.seed = rate, seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, x: Any, training: bool = False) -> Any:
        if not training:
            return x
        ones = ops.ones((ops.shape(x)[0], *[1] * (len(x.shape) - 1)), dtype=x.dtype)
        return x * keras.random.dropout(ones, self.rate, seed=self.seed_generator)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


@registered
class SharedPReLU(keras.layers.Layer):
    """Leaky ReLU with one learned slope for all channels (arXiv:1502.01852); Keras's has one slope per channel."""

    def __init__(self, *, initial_slope: float = 0.25, **base: Any):
        super().__init__(**base)
        self.initial_slope = initial_slope

    def build(self, input_shape: Shape) -> None:
        slope = keras.initializers.Constant(self.initial_slope)
        self.kernel = self.add_weight(name="kernel", shape=(1,), initializer=slope)

    def call(self, x: Any) -> Any:
        return ops.relu(x) - self.kernel * ops.relu(-x)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "initial_slope": self.initial_slope}


@registered
class GroupNorm(keras.layers.GroupNormalization):
    """Group norm whose variance is the mean of squared distances, as PyTorch's is.

    That of Keras computes the mean square minus the squared mean, which loses all digits, and can be negative, where
    a map is nearly constant and far from zero, such as air in a CT in Hounsfield units. -1: one group per channel.
    """

    def call(self, x: Any) -> Any:
        wide = ops.cast(x, keras.backend.result_type(x.dtype, "float32"))
        shape = ops.shape(wide)
        wide = ops.reshape(wide, (shape[0], -1, self.groups, wide.shape[-1] // self.groups))
        wide = wide - ops.mean(wide, axis=(1, 3), keepdims=True)
        variance = ops.mean(ops.square(wide), axis=(1, 3), keepdims=True)
        wide = ops.reshape(wide * ops.rsqrt(variance + self.epsilon), shape)
        if self.scale:
            wide = wide * ops.cast(self.gamma, wide.dtype)
        if self.center:
            wide = wide + ops.cast(self.beta, wide.dtype)
        return ops.cast(wide, self.compute_dtype)
