"""The leaves: single operations with every number resolved. Sizes are per axis, in the order (D,) H, W."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from resvox.blueprint.node import Node, TensorSpec
from resvox.errors import BlueprintError

Axes = tuple[int, ...]

ACTIVATIONS = ("identity", "relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "softmax", "tanh")
NORMS = ("batch", "instance", "group")
INITS = ("he_fan_out", "uniform_fan_in", "zeros")


def require(condition: bool, got: str, expected: str, fix: str = "") -> None:
    """Raise BlueprintError(got, expected, fix) if the condition does not hold."""
    if not condition:
        raise BlueprintError(got, expected=expected, fix=fix)


def is_number(value: object) -> bool:
    """Whether this is a finite int or float; bool is rejected."""
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def is_whole(value: object, least: int) -> bool:
    """Whether this is an int of at least ``least``; bool is rejected."""
    return type(value) is int and value >= least


def _positive(owner: str, **values: int | Axes) -> None:
    for name, value in values.items():
        numbers = value if isinstance(value, tuple) else (value,)
        good = bool(numbers) and all(is_whole(number, 1) for number in numbers)
        require(good, f"{owner} {name}={value!r}", "whole numbers of at least 1")


def _not_negative(owner: str, padding: Axes) -> None:
    good = all(is_whole(number, 0) for number in padding)
    require(good, f"{owner} padding={padding!r}", "whole numbers of at least 0")


def _same_rank(owner: str, **values: Axes) -> None:
    ranks = {len(value) if isinstance(value, tuple) else 0 for value in values.values()}
    require(len(ranks) == 1 and ranks <= {2, 3}, f"{owner} {values}", "2 or 3 numbers each, one per axis")


@dataclass(frozen=True, kw_only=True)
class Conv(Node):
    """Convolution with explicit symmetric zero padding. Weight (out, in / groups, \\*kernel).

    ``init``: ``he_fan_out`` before a norm (He et al., arXiv:1502.01852), ``uniform_fan_in`` for a layer that
    no norm follows, ``zeros`` where a residual branch is to start at 0.
    """

    in_channels: int
    out_channels: int
    kernel: Axes
    stride: Axes
    padding: Axes
    dilation: Axes
    groups: int = 1
    bias: bool = False
    init: str = "he_fan_out"

    def __post_init__(self) -> None:
        require(self.init in INITS, f"convolution init={self.init!r}", "one of " + ", ".join(INITS))
        _positive("convolution", in_channels=self.in_channels, out_channels=self.out_channels, groups=self.groups)
        _positive("convolution", kernel=self.kernel, stride=self.stride, dilation=self.dilation)
        _same_rank(
            "convolution",
            kernel=self.kernel,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
        )
        _not_negative("convolution", self.padding)
        require(
            self.in_channels % self.groups == 0 and self.out_channels % self.groups == 0,
            f"convolution of {self.in_channels} to {self.out_channels} channels in {self.groups} groups",
            "channels that the number of groups divides",
            "choose another groups= or width_per_group=",
        )

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return len(self.kernel)

    def output_size(self, size: Axes) -> Axes:
        """Spatial size after the operation."""
        return tuple(
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(size, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        )

    def own_tensors(self) -> Iterator[tuple[str, TensorSpec]]:
        """The weights of the layer, and its running statistics if it has any."""
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel)
        yield "weight", TensorSpec(shape=shape, role="parameter")
        if self.bias:
            yield "bias", TensorSpec(shape=(self.out_channels,), role="parameter")


@dataclass(frozen=True, kw_only=True)
class TransposedConv(Node):
    """Up-convolution without output padding: output size (n - 1) * stride - 2 * padding + kernel.

    Weight (in, out, \\*kernel). Kernel equal to stride, or 4 / 2 / 1, doubles a size exactly.
    """

    in_channels: int
    out_channels: int
    kernel: Axes
    stride: Axes
    padding: Axes
    bias: bool = True

    def __post_init__(self) -> None:
        _positive("transposed convolution", in_channels=self.in_channels, out_channels=self.out_channels)
        _positive("transposed convolution", kernel=self.kernel, stride=self.stride)
        _same_rank("transposed convolution", kernel=self.kernel, stride=self.stride, padding=self.padding)
        _not_negative("transposed convolution", self.padding)
        self.check_multiple()

    def check_multiple(self) -> None:
        """The condition under which a size is multiplied exactly."""
        require(
            all(k - 2 * p == s for k, s, p in zip(self.kernel, self.stride, self.padding, strict=True)),
            f"transposed convolution kernel={self.kernel}, stride={self.stride}, padding={self.padding}",
            "kernel - 2 * padding equal to stride, so that a size is multiplied exactly",
        )

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return len(self.kernel)

    def output_size(self, size: Axes) -> Axes:
        """Spatial size after the operation: each axis times its stride."""
        return tuple(n * s for n, s in zip(size, self.stride, strict=True))

    def own_tensors(self) -> Iterator[tuple[str, TensorSpec]]:
        """The weights of the layer, and its running statistics if it has any."""
        yield (
            "weight",
            TensorSpec(shape=(self.in_channels, self.out_channels, *self.kernel), role="parameter"),
        )
        if self.bias:
            yield "bias", TensorSpec(shape=(self.out_channels,), role="parameter")


@dataclass(frozen=True, kw_only=True)
class Norm(Node):
    """Normalization over channels. ``groups`` is used by group norm alone (0 elsewhere).

    ``momentum`` is PyTorch's: the weight of the new batch in the running statistics (Keras's is 1 - momentum).
    ``initial_weight`` is 0 where a residual branch is to start at 0.
    """

    kind: str
    channels: int
    eps: float
    momentum: float
    affine: bool = True
    groups: int = 0
    initial_weight: float = 1.0

    def __post_init__(self) -> None:
        require(self.kind in NORMS, f"norm={self.kind!r}", "one of " + ", ".join(NORMS))
        _positive("norm", channels=self.channels)
        require(is_number(self.eps) and self.eps > 0, f"norm eps={self.eps!r}", "a positive number")
        good = is_number(self.momentum) and 0 < self.momentum <= 1
        require(good, f"norm momentum={self.momentum!r}", "a number above 0 and at most 1")
        require(type(self.affine) is bool, f"norm affine={self.affine!r}", "True or False")
        require(is_number(self.initial_weight), f"norm initial_weight={self.initial_weight!r}", "a number")
        if self.kind == "group":
            require(
                type(self.groups) is int and self.groups >= 1 and self.channels % self.groups == 0,
                f"group norm with num_groups={self.groups!r} over {self.channels} channels",
                "a number that divides the channels",
                "leave num_groups out to take the largest divisor up to 32",
            )

    def own_tensors(self) -> Iterator[tuple[str, TensorSpec]]:
        """The weights of the layer, and its running statistics if it has any."""
        if self.affine:
            for name in ("weight", "bias"):
                yield name, TensorSpec(shape=(self.channels,), role="parameter")
        if self.kind == "batch":
            for name in ("running_mean", "running_var"):
                yield name, TensorSpec(shape=(self.channels,), role="statistic")


@dataclass(frozen=True, kw_only=True)
class Activation(Node):
    """A pointwise function (softmax: over channels). ``slope`` is used by leaky_relu and elu alone."""

    kind: str
    slope: float = 0.0

    def __post_init__(self) -> None:
        require(self.kind in ACTIVATIONS, f"activation={self.kind!r}", "one of " + ", ".join(ACTIVATIONS))
        require(is_number(self.slope), f"activation slope={self.slope!r}", "a number")


@dataclass(frozen=True, kw_only=True)
class MaxPool(Node):
    """Max pooling padded with -inf, so that a window at the border uses values of the map alone."""

    kernel: Axes
    stride: Axes
    padding: Axes

    def __post_init__(self) -> None:
        _positive("max pooling", kernel=self.kernel, stride=self.stride)
        _same_rank("max pooling", kernel=self.kernel, stride=self.stride, padding=self.padding)
        _not_negative("max pooling", self.padding)

    def output_size(self, size: Axes) -> Axes:
        """Spatial size after the operation."""
        return tuple(
            (n + 2 * p - k) // s + 1 for n, k, s, p in zip(size, self.kernel, self.stride, self.padding, strict=True)
        )


@dataclass(frozen=True, kw_only=True)
class ZeroPaddedMaxPool(MaxPool):
    """Max pooling padded with zeros, as in keras.applications: differs where a border window is all negative."""


@dataclass(frozen=True, kw_only=True)
class AveragePool(Node):
    """Average pooling, windows starting at every stride-th voxel: a size n becomes ceil(n / stride), as in timm.

    Along an axis that strides, kernel and stride are equal, and a partial window at the far border averages the voxels
    that it holds. Along an axis that dilates instead (``output_stride``) the stride is 1 and the map is zero-padded.
    """

    kernel: Axes
    stride: Axes

    def __post_init__(self) -> None:
        _positive("average pooling", kernel=self.kernel, stride=self.stride)
        _same_rank("average pooling", kernel=self.kernel, stride=self.stride)
        require(
            all(s in (1, k) for k, s in zip(self.kernel, self.stride, strict=True)),
            f"average pooling kernel={self.kernel}, stride={self.stride}",
            "a stride of the kernel or of 1 along each axis",
        )

    def output_size(self, size: Axes) -> Axes:
        """Spatial size after the operation."""
        return tuple(-(-n // s) for n, s in zip(size, self.stride, strict=True))


@dataclass(frozen=True, kw_only=True)
class GlobalAveragePool(Node):
    """Mean over all spatial axes: (batch, channels, \\*size) becomes (batch, channels)."""

    spatial_dims: int

    def __post_init__(self) -> None:
        require(self.spatial_dims in (2, 3), f"spatial_dims={self.spatial_dims!r}", "2 or 3")


@dataclass(frozen=True, kw_only=True)
class Upsample(Node):
    """Interpolation by a whole factor per axis: ``nearest``, or ``linear`` with half-pixel centres."""

    scale: Axes
    mode: str

    def __post_init__(self) -> None:
        _positive("upsampling", scale=self.scale)
        require(self.mode in ("nearest", "linear"), f"upsampling mode={self.mode!r}", "'nearest' or 'linear'")

    def output_size(self, size: Axes) -> Axes:
        """Spatial size after the operation."""
        return tuple(n * s for n, s in zip(size, self.scale, strict=True))


@dataclass(frozen=True, kw_only=True)
class Linear(Node):
    """Fully connected layer. Weight (out, in)."""

    in_features: int
    out_features: int
    bias: bool = True

    def __post_init__(self) -> None:
        _positive("linear layer", in_features=self.in_features, out_features=self.out_features)

    def own_tensors(self) -> Iterator[tuple[str, TensorSpec]]:
        """The weights of the layer, and its running statistics if it has any."""
        yield "weight", TensorSpec(shape=(self.out_features, self.in_features), role="parameter")
        if self.bias:
            yield "bias", TensorSpec(shape=(self.out_features,), role="parameter")


@dataclass(frozen=True, kw_only=True)
class DropPath(Node):
    """Stochastic depth (arXiv:1603.09382): in training, a residual branch is dropped with probability ``rate``."""

    rate: float

    def __post_init__(self) -> None:
        good = is_number(self.rate) and 0 <= self.rate < 1
        require(good, f"drop path rate={self.rate!r}", "a number from 0 to below 1")


@dataclass(frozen=True, kw_only=True)
class Dropout(Node):
    """In training, values are set to 0 with probability ``rate`` and the others are scaled up."""

    rate: float

    def __post_init__(self) -> None:
        good = is_number(self.rate) and 0 <= self.rate < 1
        require(good, f"dropout rate={self.rate!r}", "a number from 0 to below 1")


@dataclass(frozen=True, kw_only=True)
class Identity(Node):
    """No operation; it keeps a position of a sequence, so that the names after it equal those of other libraries."""
