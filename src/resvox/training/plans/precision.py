"""The precisions of training and their names: Lightning Fabric's, which plans hold, and those of prediction."""

from __future__ import annotations

from enum import Enum


class Precision(str, Enum):
    """The arithmetic of training. Values are the words of plans; names are the words of prediction."""

    auto = "auto"
    float32 = "32-true"
    bfloat16 = "bf16-mixed"
    float16 = "16-mixed"

    @property
    def for_inference(self) -> str:
        """What an inference engine calls it."""
        return self.name
