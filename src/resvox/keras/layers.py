"""Leaves of a blueprint as Keras layers, channels last. The twin of ``torch/layers.py``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import keras

from resvox.blueprint import leaves as lf
from resvox.blueprint.blocks import ZeroPadShortcut
from resvox.blueprint.monai.networks import OutputPaddedConv, PReLU
from resvox.blueprint.node import Node, Sequence, join
from resvox.errors import BlueprintError
from resvox.keras.initialize import bias_initializer, kernel_initializer
from resvox.keras.operations import (
    AveragePool,
    CutTo,
    DropPath,
    GroupNorm,
    LinearUpsample,
    MaxPool,
    SharedPReLU,
    ZeroPad,
)

kl = keras.layers
CONV = {2: kl.Conv2D, 3: kl.Conv3D}
TRANSPOSED_CONV = {2: kl.Conv2DTranspose, 3: kl.Conv3DTranspose}
ZERO_PADDING = {2: kl.ZeroPadding2D, 3: kl.ZeroPadding3D}
CROPPING = {2: kl.Cropping2D, 3: kl.Cropping3D}
NEAREST = {2: kl.UpSampling2D, 3: kl.UpSampling3D}
GLOBAL_AVERAGE = {2: kl.GlobalAveragePooling2D, 3: kl.GlobalAveragePooling3D}
GLOBAL_MAX = {2: kl.GlobalMaxPooling2D, 3: kl.GlobalMaxPooling3D}

Tensor = Any  # a keras.KerasTensor


@dataclass(frozen=True, kw_only=True)
class LayerScope:
    """The path of a layer in the blueprint, and its dtype policy."""

    dtype: keras.DTypePolicy
    path: str = ""

    def at(self, name: str) -> LayerScope:
        """The scope of a child."""
        return replace(self, path=join(self.path, name))

    @property
    def full_precision(self) -> LayerScope:
        """The same scope in float32 where the policy computes in 16 bits; used for the outputs of heads."""
        short = self.dtype.compute_dtype in ("float16", "bfloat16")
        return replace(self, dtype=keras.DTypePolicy("float32")) if short else self

    @property
    def name(self) -> str:
        """The name of the Keras layer: its path with ``_`` for characters that Keras does not support."""
        return self.path.replace(".", "_")

    @property
    def base(self) -> dict[str, Any]:
        """Arguments of every layer."""
        return {"name": self.name, "dtype": self.dtype}

    @property
    def spatial(self) -> dict[str, Any]:
        """Arguments of every spatial layer: channels last, whatever the configuration of Keras."""
        return {**self.base, "data_format": "channels_last"}


def layer(node: Node | None, scope: LayerScope, x: Tensor) -> Tensor:
    """Apply a leaf or a sequence of leaves to ``x``; None returns ``x``."""
    if node is None:
        return x
    if isinstance(node, Sequence):
        for name, item in node.children():
            x = layer(item, scope.at(name), x)
        return x
    spell = _SPELLINGS.get(type(node))
    if spell is None:
        raise BlueprintError(f"{type(node).__name__} as a layer", expected="a leaf of a blueprint")
    return spell(node, scope, x)


def through(node: Node, names: tuple[str, ...], scope: LayerScope, x: Tensor) -> Tensor:
    """Apply the named children of a node in sequence."""
    for name in names:
        x = layer(getattr(node, name), scope.at(name), x)
    return x


def _conv(node: lf.Conv, scope: LayerScope, x: Tensor) -> Tensor:
    dims = node.spatial_dims
    # "same" of Keras pads both sides equally without a stride; with one, not for even sizes.
    same = max(node.stride) == 1 and all(
        2 * p == d * (k - 1) for p, d, k in zip(node.padding, node.dilation, node.kernel, strict=True)
    )
    if not same and max(node.padding) > 0:
        x = ZERO_PADDING[dims](node.padding, **scope.at("pad").spatial)(x)
    # Keras supports a stride or a dilation; a stride equals subsampling afterwards.
    picks = max(node.stride) > 1 and max(node.dilation) > 1
    x = CONV[dims](
        node.out_channels,
        node.kernel,
        strides=(1,) * dims if picks else node.stride,
        padding="same" if same else "valid",
        dilation_rate=node.dilation,
        groups=node.groups,
        use_bias=node.bias,
        kernel_initializer=kernel_initializer(node),
        bias_initializer=bias_initializer(node),
        **scope.spatial,
    )(x)
    return ZeroPad(strides=node.stride, **scope.at("pick").base)(x) if picks else x


def _transposed_conv(node: lf.TransposedConv, scope: LayerScope, x: Tensor) -> Tensor:
    dims = node.spatial_dims
    x = TRANSPOSED_CONV[dims](
        node.out_channels,
        node.kernel,
        strides=node.stride,
        padding="valid",
        use_bias=node.bias,
        kernel_initializer=kernel_initializer(node),
        bias_initializer=bias_initializer(node),
        **scope.spatial,
    )(x)
    return CROPPING[dims](node.padding, **scope.at("crop").spatial)(x) if max(node.padding) > 0 else x


def _output_padded_conv(node: OutputPaddedConv, scope: LayerScope, x: Tensor) -> Tensor:
    dims = node.spatial_dims
    # Keras's output of n voxels ends at stride * n or behind it, less the padding in front; where that is too early,
    # a voxel of zeros at the far border, which adds nothing but the bias, makes it longer.
    beyond = [max(k - s, 0) - p for k, s, p in zip(node.kernel, node.stride, node.padding, strict=True)]
    if min(beyond) < 0:
        x = ZERO_PADDING[dims]([(0, int(b < 0)) for b in beyond], **scope.at("pad").spatial)(x)
    x = TRANSPOSED_CONV[dims](
        node.out_channels,
        node.kernel,
        strides=node.stride,
        padding="valid",
        use_bias=node.bias,
        kernel_initializer=kernel_initializer(node),
        bias_initializer=bias_initializer(node),
        **scope.spatial,
    )(x)
    crop = [(p, b if b >= 0 else b + s) for p, b, s in zip(node.padding, beyond, node.stride, strict=True)]
    return CROPPING[dims](crop, **scope.at("crop").spatial)(x) if max(map(max, crop)) > 0 else x


def _norm(node: lf.Norm, scope: LayerScope, x: Tensor) -> Tensor:
    gamma = keras.initializers.Constant(node.initial_weight)
    if node.kind == "batch":
        return kl.BatchNormalization(
            axis=-1,
            # momentum is the weight of the new batch in PyTorch, of the old average in Keras
            momentum=1.0 - node.momentum,
            epsilon=node.eps,
            center=node.affine,
            scale=node.affine,
            gamma_initializer=gamma,
            **scope.base,
        )(x)
    return GroupNorm(
        groups=node.groups if node.kind == "group" else -1,
        axis=-1,
        epsilon=node.eps,
        center=node.affine,
        scale=node.affine,
        gamma_initializer=gamma,
        **scope.base,
    )(x)


def _activation(node: lf.Activation, scope: LayerScope, x: Tensor) -> Tensor:
    if node.kind == "identity":
        return x
    if node.kind == "leaky_relu":
        return kl.LeakyReLU(negative_slope=node.slope, **scope.base)(x)
    if node.kind == "elu":
        return kl.ELU(alpha=node.slope, **scope.base)(x)
    return kl.Activation(node.kind, **scope.base)(x)


def _max_pool(node: lf.MaxPool, scope: LayerScope, x: Tensor) -> Tensor:
    return MaxPool(pool_size=node.kernel, strides=node.stride, padding=node.padding, **scope.base)(x)


def _zero_padded_max_pool(node: lf.ZeroPaddedMaxPool, scope: LayerScope, x: Tensor) -> Tensor:
    x = ZERO_PADDING[len(node.padding)](node.padding, **scope.at("pad").spatial)(x)
    return MaxPool(pool_size=node.kernel, strides=node.stride, padding=(0,) * len(node.padding), **scope.base)(x)


def _average_pool(node: lf.AveragePool, scope: LayerScope, x: Tensor) -> Tensor:
    return AveragePool(pool_size=node.kernel, strides=node.stride, **scope.base)(x)


def _global_average_pool(node: lf.GlobalAveragePool, scope: LayerScope, x: Tensor) -> Tensor:
    return GLOBAL_AVERAGE[node.spatial_dims](**scope.spatial)(x)


def _upsample(node: lf.Upsample, scope: LayerScope, x: Tensor) -> Tensor:
    if max(node.scale) == 1:
        return x
    if node.mode == "nearest":
        return NEAREST[len(node.scale)](node.scale, **scope.spatial)(x)
    return LinearUpsample(scale=node.scale, **scope.base)(x)


def _linear(node: lf.Linear, scope: LayerScope, x: Tensor) -> Tensor:
    return kl.Dense(
        node.out_features,
        use_bias=node.bias,
        kernel_initializer=kernel_initializer(node),
        bias_initializer=bias_initializer(node),
        **scope.base,
    )(x)


def _drop_path(node: lf.DropPath, scope: LayerScope, x: Tensor) -> Tensor:
    return DropPath(rate=node.rate, **scope.base)(x)


def _zero_pad(node: ZeroPadShortcut, scope: LayerScope, x: Tensor) -> Tensor:
    extra = node.out_channels - node.in_channels
    return ZeroPad(strides=node.stride, extra_channels=extra, **scope.base)(x)


_SPELLINGS: dict[type[Node], Callable[[Any, LayerScope, Tensor], Tensor]] = {
    lf.Conv: _conv,
    lf.TransposedConv: _transposed_conv,
    OutputPaddedConv: _output_padded_conv,
    PReLU: lambda node, scope, x: SharedPReLU(initial_slope=node.initial_slope, **scope.base)(x),
    lf.Norm: _norm,
    lf.Activation: _activation,
    lf.MaxPool: _max_pool,
    lf.ZeroPaddedMaxPool: _zero_padded_max_pool,
    lf.AveragePool: _average_pool,
    lf.GlobalAveragePool: _global_average_pool,
    lf.Upsample: _upsample,
    lf.Linear: _linear,
    lf.DropPath: _drop_path,
    lf.Dropout: lambda node, scope, x: kl.Dropout(node.rate, **scope.base)(x),
    lf.Identity: lambda node, scope, x: x,
    ZeroPadShortcut: _zero_pad,
}


def add(scope: LayerScope, x: Tensor, y: Tensor) -> Tensor:
    """Add the branch and the shortcut of a block."""
    return kl.Add(**scope.at("add").base)([x, y])


def multiply(scope: LayerScope, x: Tensor, weight: Tensor) -> Tensor:
    """Multiply a map by weights per channel."""
    return kl.Multiply(**scope.at("multiply").base)([x, weight])


def concatenate(scope: LayerScope, *maps: Tensor) -> Tensor:
    """Concatenate maps along the channels."""
    return kl.Concatenate(axis=-1, **scope.at("join").base)(list(maps))


def cut_to(scope: LayerScope, x: Tensor, reference: Tensor) -> Tensor:
    """Crop ``x`` at the far end of each axis to the spatial size of ``reference``."""
    size, wanted = x.shape[1:-1], reference.shape[1:-1]
    if None not in size and size == wanted:
        return x
    return CutTo(**scope.at("cut").base)([x, reference])


def spatial_mean(scope: LayerScope, x: Tensor) -> Tensor:
    """Global average pooling that keeps the axes, for gates."""
    return GLOBAL_AVERAGE[len(x.shape) - 2](keepdims=True, **scope.at("mean").spatial)(x)


def global_max_pool(scope: LayerScope, x: Tensor) -> Tensor:
    """The largest value over space: (batch, \\*size, channels) to (batch, channels)."""
    return GLOBAL_MAX[len(x.shape) - 2](**scope.spatial)(x)
