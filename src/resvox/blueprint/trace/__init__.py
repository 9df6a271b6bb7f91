"""Tracing a network without tensors: shapes, parameters, FLOPs and receptive fields, from the blueprint alone.

Floating-point operations count as PyTorch's ``FlopCounterMode`` does: two for every multiply-add of
convolutions, linear layers and attention, nothing for the rest. The receptive field follows the strongest path
of convolutions and poolings (Araujo et al., Distill 2019). It leaves out what depends on the whole map: the gate of
a squeeze-and-excitation block and the attention of a transformer.
"""

from __future__ import annotations

# each module registers the rules of its nodes
from resvox.blueprint.trace import (
    blocks,
    dense,
    encoders,
    leaves,
    monai_networks,
    segmenters,
    staged_networks,
    trans_unet,
    transformers,
)
from resvox.blueprint.trace.dispatch import trace
from resvox.blueprint.trace.recording import FeatureMap, Stage

__all__ = [
    "FeatureMap",
    "Stage",
    "blocks",
    "dense",
    "encoders",
    "leaves",
    "monai_networks",
    "segmenters",
    "staged_networks",
    "trace",
    "trans_unet",
    "transformers",
]
