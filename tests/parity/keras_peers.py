"""Keras's own ResNets, and medicai's as its facts describe them, small and with random weights."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers as kl
from keras.src.applications import resnet as applications

DEPTHS = (2, 2, 3, 2)
WIDTHS = (8, 16, 24, 32)


def applications_net(version, size, top=True):
    """keras.applications' own functions with fewer channels."""
    stack = applications.stack_residual_blocks_v1 if version == 1 else applications.stack_residual_blocks_v2

    def stages(x):
        strides = (1, 2, 2, 2) if version == 1 else (2, 2, 2, 1)
        for number, (width, depth, stride) in enumerate(zip(WIDTHS, DEPTHS, strides, strict=True)):
            x = stack(x, width, depth, stride1=stride, name=f"conv{number + 2}")
        return x

    return applications.ResNet(stages, version == 2, True, include_top=top, weights=None, input_shape=(*size, 3),
                               classes=5, classifier_activation=None)  # fmt: skip


def drawn(model, seed=0):
    """The model with every variable drawn."""
    generator = np.random.default_rng(seed)
    for variable in model.weights:
        shape, name = tuple(variable.shape), variable.path.split("/")[-1]
        if name == "kernel":
            value = generator.normal(0, (2 / np.prod(shape[:-1])) ** 0.5, shape)
        elif name == "moving_variance":
            value = generator.uniform(0.5, 1.5, shape)
        elif name == "gamma":
            value = generator.uniform(0.4, 0.9, shape)
        else:
            value = generator.normal(0, 0.1, shape)
        variable.assign(value.astype(np.float32))
    return model


class SqueezeExcitation(kl.Layer):
    """medicai's gate: two convolutions inside of one layer."""

    def __init__(self, channels, dims, **base):
        super().__init__(**base)
        conv, mean = (kl.Conv2D, kl.GlobalAveragePooling2D) if dims == 2 else (kl.Conv3D, kl.GlobalAveragePooling3D)
        self.global_pool = mean(keepdims=True)
        self.conv1 = conv(max(1, channels // 16), 1, activation="relu")
        self.conv2 = conv(channels, 1, activation="sigmoid")

    def build(self, shape):
        self.conv1.build((None, *[1] * (len(shape) - 2), shape[-1]))
        self.conv2.build((None, *[1] * (len(shape) - 2), self.conv1.filters))

    def call(self, x):
        return x * self.conv2(self.conv1(self.global_pool(x)))


class Medicai:
    """A residual network with medicai's names and order of operations, as docs and facts describe it."""

    def __init__(self, dims, *, block="basic", version="v1", gated=False):
        self.dims, self.block, self.version, self.gated = dims, block, version, gated
        names = {"conv": "Conv", "pad": "ZeroPadding", "pool": "MaxPooling", "mean": "AveragePooling"}
        self.kinds = {word: getattr(kl, f"{name}{dims}D") for word, name in names.items()}

    def conv(self, x, width, kernel, stride, name):
        if stride > 1 and kernel > 1:
            x = self.kinds["pad"]((kernel - 1) // 2, name=f"{name.removesuffix('conv')}pad")(x)
        padding = "valid" if stride > 1 else "same"
        return self.kinds["conv"](width, kernel, strides=stride, padding=padding, use_bias=False, name=name)(x)

    def norm(self, x, name, *, relu=True):
        x = kl.BatchNormalization(epsilon=1e-5, momentum=0.9, name=name)(x)
        return kl.ReLU()(x) if relu else x

    def __call__(self, size, depths=(2, 1, 2, 1), classes=5):
        image = x = keras.Input((*size, 3))
        if self.version == "vd":
            for number, (width, stride) in enumerate(((32, 2), (32, 1), (64, 1)), start=1):
                x = self.norm(self.conv(x, width, 3, stride, f"conv{number}_conv"), f"conv{number}_bn")
        else:
            x = self.conv(x, 64, 7, 2, "conv1_conv")
            x = x if self.version == "v2" else self.norm(x, "conv1_bn")
        far = float("-inf") if self.version == "v2" else 0.0
        x = keras.ops.pad(x, [[0, 0], *[[1, 1]] * self.dims, [0, 0]], constant_values=far)
        x = self.kinds["pool"](3, strides=2)(x)
        for stage, (width, depth) in enumerate(zip(WIDTHS, depths, strict=True)):
            for index in range(depth):
                stride = 2 if stage and not index else 1
                x = self.residual(x, width, stride, f"stack{stage}_block{index}", first=not index)
        if self.version == "v2":
            x = self.norm(x, "post_bn")
        x = keras.ops.mean(x, axis=tuple(range(1, self.dims + 1)))
        return keras.Model(image, kl.Dense(classes, name="predictions")(x))

    def residual(self, x, width, stride, name, *, first):
        preact = self.version == "v2"
        out = width * (4 if self.block == "bottleneck" else 1)
        active = self.norm(x, f"{name}_pre_activation_bn") if preact else x
        shortcut = x
        if first:
            pooled = self.version == "vd" and stride > 1
            shortcut = self.kinds["mean"](2, strides=2, padding="same")(active) if pooled else active
            shortcut = self.kinds["conv"](out, 1, strides=1 if pooled else stride, use_bias=False,
                                          name=f"{name}_0_conv")(shortcut)  # fmt: skip
            shortcut = shortcut if preact else self.norm(shortcut, f"{name}_0_bn", relu=False)
        sizes = [(width, 1, 1), (width, 3, stride), (out, 1, 1)] if self.block == "bottleneck" else [
            (width, 3, stride), (width, 3, 1)]  # fmt: skip
        y = active
        for number, (channels, kernel, step) in enumerate(sizes, start=1):
            y = self.conv(y, channels, kernel, step, f"{name}_{number}_conv")
            last = number == len(sizes)
            if last and self.gated:
                y = SqueezeExcitation(channels, self.dims, name=f"{name}_squeeze_excitation")(y)
            if not (last and preact):
                y = self.norm(y, f"{name}_{number}_bn", relu=not last)
        y = kl.Add()([shortcut, y])
        return y if preact else kl.ReLU()(y)


FLAT, DEEP = [(64, 64), (65, 71)], [(17, 32, 40)]
PEERS = {
    "applications-v1": (lambda size: applications_net(1, size), FLAT, "keras.applications"),
    "applications-v1-notop": (lambda size: applications_net(1, size, top=False), FLAT[1:], "keras.applications"),
    "applications-v2": (lambda size: applications_net(2, size), FLAT, "keras.applications"),
    "medicai-v1-3d": (Medicai(3), DEEP, "medicai"),
    "medicai-se": (Medicai(2, gated=True), FLAT[1:], "medicai"),
    "medicai-vd": (Medicai(2, block="bottleneck", version="vd"), FLAT[1:], "medicai"),
    "medicai-v2": (Medicai(2, block="bottleneck", version="v2"), FLAT[1:], "medicai"),
}
