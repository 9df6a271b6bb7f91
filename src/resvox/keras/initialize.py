"""Initial values as the blueprint says, in Keras's initializers. The twin of ``torch/initialize.py``."""

from __future__ import annotations

import math

import keras

from resvox.blueprint import leaves as lf

Initializer = keras.initializers.Initializer


def kernel_initializer(leaf: lf.Conv | lf.TransposedConv | lf.Linear) -> Initializer:
    """Of a kernel: He et al. (arXiv:1502.01852) before a norm, uniform over the fan-in elsewhere, or zeros."""
    init = leaf.init if isinstance(leaf, lf.Conv) else "uniform_fan_in"
    if init == "zeros":
        return keras.initializers.Zeros()
    if init == "he_fan_out":
        return keras.initializers.VarianceScaling(scale=2.0, mode="fan_out", distribution="untruncated_normal")
    # variance 1 / (3 fan_in) is a uniform between -1 / sqrt(fan_in) and 1 / sqrt(fan_in)
    return keras.initializers.VarianceScaling(scale=1.0 / 3.0, mode="fan_in", distribution="uniform")


def bias_initializer(leaf: lf.Conv | lf.TransposedConv | lf.Linear) -> Initializer:
    """Of a bias: the bounds of a uniform kernel, else zeros."""
    if isinstance(leaf, lf.Conv) and leaf.init != "uniform_fan_in":
        return keras.initializers.Zeros()
    bound = 1.0 / math.sqrt(_fan_in(leaf))
    return keras.initializers.RandomUniform(-bound, bound)


def _fan_in(leaf: lf.Conv | lf.TransposedConv | lf.Linear) -> int:
    if isinstance(leaf, lf.Linear):
        return leaf.in_features
    if isinstance(leaf, lf.TransposedConv):
        # PyTorch counts the fan-in of a transposed kernel on its second axis; its twin does as well.
        return leaf.out_channels * math.prod(leaf.kernel)
    return leaf.in_channels // leaf.groups * math.prod(leaf.kernel)
