"""Recipes: by whose rules a plan is made."""

from __future__ import annotations

import math
from dataclasses import dataclass

from resvox.errors import PlanError

RECIPES = ("resvox", "nnunet")
PRESETS = ("M", "L", "XL")
DEFAULT_RECIPE = RECIPES[0]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Whose rules make a plan, and for which memory.

    Args:
        name: one of `RECIPES`.
        preset: of "nnunet": the planner for residual encoders of 8 (M), 24 (L) or 40 GB (XL).
        memory_gb: of "nnunet": of the GPU; None is that of the preset.

    Raises:
        PlanError: an unknown name, or preset and memory with another recipe.
    """

    name: str = DEFAULT_RECIPE
    preset: str | None = None
    memory_gb: float | None = None

    def __post_init__(self) -> None:
        if self.name not in RECIPES:
            raise PlanError(f"recipe={self.name!r}", expected=f"one of {', '.join(RECIPES)}")
        if self.preset is not None and self.preset not in PRESETS:
            raise PlanError(f"preset={self.preset!r}", expected=f"one of {', '.join(PRESETS)}")
        if self.memory_gb is not None and not (math.isfinite(self.memory_gb) and self.memory_gb > 0):
            raise PlanError(f"memory_gb={self.memory_gb}", expected="more than 0")
        if self.name == DEFAULT_RECIPE and (self.preset, self.memory_gb) != (None, None):
            raise PlanError(
                f"preset={self.preset!r}, memory_gb={self.memory_gb} with recipe={self.name!r}",
                expected="a recipe that plans for memory",
                fix="add --recipe nnunet",
            )
