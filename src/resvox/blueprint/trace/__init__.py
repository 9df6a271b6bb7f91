"""A network walked without a tensor: shapes, parameters, operations, receptive fields, from the blueprint alone.

Floating-point operations count as PyTorch's ``FlopCounterMode`` does: two for every multiply-add of
convolutions, linear layers and attention, nothing for the rest. The receptive field follows the strongest path
of convolutions and poolings (Araujo et al., Distill 2019); what sees everything, the gate of a
squeeze-and-excitation and the attention of a transformer, is left out of it.
"""

from __future__ import annotations

# each registers what it walks
from resvox.blueprint.trace import blocks, dense, encoders, leaves, segmenters, trans_unet, transformers
from resvox.blueprint.trace.dispatch import trace
from resvox.blueprint.trace.signal import Signal, Stage

__all__ = [
    "Signal",
    "Stage",
    "blocks",
    "dense",
    "encoders",
    "leaves",
    "segmenters",
    "trace",
    "trans_unet",
    "transformers",
]
