"""Leaves, spelled in Keras, channels last. Nothing here decides a number. The twin of ``torch/layers.py``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import keras

from resvox.blueprint import leaves as lf
from resvox.blueprint.blocks import ZeroPadShortcut
from resvox.blueprint.node import Node, Sequence, join
from resvox.errors import BlueprintError
from resvox.keras.initialize import bias_initializer, kernel_initializer
from resvox.keras.operations import AveragePool, CutTo, DropPath, GroupNorm, LinearUpsample, MaxPool, ZeroPad

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
class Place:
    """Where in the blueprint a layer stands, and the dtype policy it is made with."""

    dtype: keras.DTypePolicy
    path: str = ""

    def at(self, name: str) -> Place:
        """A child's place."""
        return replace(self, path=join(self.path, name))

    @property
    def full_precision(self) -> Place:
        """The same place, computing in float32 where the policy computes in 16 bits: heads end there."""
        short = self.dtype.compute_dtype in ("float16", "bfloat16")
        return replace(self, dtype=keras.DTypePolicy("float32")) if short else self

    @property
    def name(self) -> str:
        """The name of the Keras layer: its path, with ``_`` because Keras refuses or breaks on the others."""
        return self.path.replace(".", "_")

    @property
    def base(self) -> dict[str, Any]:
        """What every layer is told."""
        return {"name": self.name, "dtype": self.dtype}

    @property
    def spatial(self) -> dict[str, Any]:
        """What every layer over space is told: channels are last, whatever the user's Keras prefers."""
        return {**self.base, "data_format": "channels_last"}


def layer(node: Node | None, place: Place, x: Tensor) -> Tensor:
    """A leaf or a sequence of leaves applied to ``x``; an absent one passes it on."""
    if node is None:
        return x
    if isinstance(node, Sequence):
        for name, item in node.children():
            x = layer(item, place.at(name), x)
        return x
    spell = _SPELLINGS.get(type(node))
    if spell is None:
        raise BlueprintError(f"{type(node).__name__} as a layer", expected="a leaf that Keras spells")
    return spell(node, place, x)


def through(node: Node, names: tuple[str, ...], place: Place, x: Tensor) -> Tensor:
    """The named children of a node, one after another."""
    for name in names:
        x = layer(getattr(node, name), place.at(name), x)
    return x


def _conv(node: lf.Conv, place: Place, x: Tensor) -> Tensor:
    dims = node.spatial_dims
    # Keras's "same" pads both sides alike where nothing strides; with a stride it does not on even sizes.
    same = max(node.stride) == 1 and all(
        2 * p == d * (k - 1) for p, d, k in zip(node.padding, node.dilation, node.kernel, strict=True)
    )
    if not same and max(node.padding) > 0:
        x = ZERO_PADDING[dims](node.padding, **place.at("pad").spatial)(x)
    # Keras takes either a stride or a dilation; a stride is the same as picking voxels afterwards.
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
        **place.spatial,
    )(x)
    return ZeroPad(strides=node.stride, **place.at("pick").base)(x) if picks else x


def _transposed_conv(node: lf.TransposedConv, place: Place, x: Tensor) -> Tensor:
    dims = node.spatial_dims
    x = TRANSPOSED_CONV[dims](
        node.out_channels,
        node.kernel,
        strides=node.stride,
        padding="valid",
        use_bias=node.bias,
        kernel_initializer=kernel_initializer(node),
        bias_initializer=bias_initializer(node),
        **place.spatial,
    )(x)
    return CROPPING[dims](node.padding, **place.at("crop").spatial)(x) if max(node.padding) > 0 else x


def _norm(node: lf.Norm, place: Place, x: Tensor) -> Tensor:
    gamma = keras.initializers.Constant(node.initial_weight)
    if node.kind == "batch":
        return kl.BatchNormalization(
            axis=-1,
            # PyTorch weighs the new batch, Keras the old average
            momentum=1.0 - node.momentum,
            epsilon=node.eps,
            center=node.affine,
            scale=node.affine,
            gamma_initializer=gamma,
            **place.base,
        )(x)
    return GroupNorm(
        groups=node.groups if node.kind == "group" else -1,
        axis=-1,
        epsilon=node.eps,
        center=node.affine,
        scale=node.affine,
        gamma_initializer=gamma,
        **place.base,
    )(x)


def _activation(node: lf.Activation, place: Place, x: Tensor) -> Tensor:
    if node.kind == "identity":
        return x
    if node.kind == "leaky_relu":
        return kl.LeakyReLU(negative_slope=node.slope, **place.base)(x)
    if node.kind == "elu":
        return kl.ELU(alpha=node.slope, **place.base)(x)
    return kl.Activation(node.kind, **place.base)(x)


def _max_pool(node: lf.MaxPool, place: Place, x: Tensor) -> Tensor:
    return MaxPool(pool_size=node.kernel, strides=node.stride, padding=node.padding, **place.base)(x)


def _zero_padded_max_pool(node: lf.ZeroPaddedMaxPool, place: Place, x: Tensor) -> Tensor:
    x = ZERO_PADDING[len(node.padding)](node.padding, **place.at("pad").spatial)(x)
    return MaxPool(pool_size=node.kernel, strides=node.stride, padding=(0,) * len(node.padding), **place.base)(x)


def _average_pool(node: lf.AveragePool, place: Place, x: Tensor) -> Tensor:
    return AveragePool(pool_size=node.kernel, strides=node.stride, **place.base)(x)


def _global_average_pool(node: lf.GlobalAveragePool, place: Place, x: Tensor) -> Tensor:
    return GLOBAL_AVERAGE[node.spatial_dims](**place.spatial)(x)


def _upsample(node: lf.Upsample, place: Place, x: Tensor) -> Tensor:
    if max(node.scale) == 1:
        return x
    if node.mode == "nearest":
        return NEAREST[len(node.scale)](node.scale, **place.spatial)(x)
    return LinearUpsample(scale=node.scale, **place.base)(x)


def _linear(node: lf.Linear, place: Place, x: Tensor) -> Tensor:
    return kl.Dense(
        node.out_features,
        use_bias=node.bias,
        kernel_initializer=kernel_initializer(node),
        bias_initializer=bias_initializer(node),
        **place.base,
    )(x)


def _drop_path(node: lf.DropPath, place: Place, x: Tensor) -> Tensor:
    return DropPath(rate=node.rate, **place.base)(x)


def _zero_pad(node: ZeroPadShortcut, place: Place, x: Tensor) -> Tensor:
    extra = node.out_channels - node.in_channels
    return ZeroPad(strides=node.stride, extra_channels=extra, **place.base)(x)


_SPELLINGS: dict[type[Node], Callable[[Any, Place, Tensor], Tensor]] = {
    lf.Conv: _conv,
    lf.TransposedConv: _transposed_conv,
    lf.Norm: _norm,
    lf.Activation: _activation,
    lf.MaxPool: _max_pool,
    lf.ZeroPaddedMaxPool: _zero_padded_max_pool,
    lf.AveragePool: _average_pool,
    lf.GlobalAveragePool: _global_average_pool,
    lf.Upsample: _upsample,
    lf.Linear: _linear,
    lf.DropPath: _drop_path,
    lf.Dropout: lambda node, place, x: kl.Dropout(node.rate, **place.base)(x),
    lf.Identity: lambda node, place, x: x,
    ZeroPadShortcut: _zero_pad,
}


def add(place: Place, x: Tensor, y: Tensor) -> Tensor:
    """The residual sum."""
    return kl.Add(**place.at("add").base)([x, y])


def multiply(place: Place, x: Tensor, weight: Tensor) -> Tensor:
    """Channels weighed."""
    return kl.Multiply(**place.at("multiply").base)([x, weight])


def concatenate(place: Place, *maps: Tensor) -> Tensor:
    """Maps joined along the channels."""
    return kl.Concatenate(axis=-1, **place.at("join").base)(list(maps))


def cut_to(place: Place, x: Tensor, reference: Tensor) -> Tensor:
    """The near corner of ``x`` with the spatial size of ``reference``: the one rule for sizes that do not divide."""
    size, wanted = x.shape[1:-1], reference.shape[1:-1]
    if None not in size and size == wanted:
        return x
    return CutTo(**place.at("cut").base)([x, reference])


def spatial_mean(place: Place, x: Tensor) -> Tensor:
    """Mean over space that keeps the axes: what a gate looks at."""
    return GLOBAL_AVERAGE[len(x.shape) - 2](keepdims=True, **place.at("mean").spatial)(x)


def global_max_pool(place: Place, x: Tensor) -> Tensor:
    """The largest value over space: (batch, \\*size, channels) to (batch, channels)."""
    return GLOBAL_MAX[len(x.shape) - 2](**place.spatial)(x)
