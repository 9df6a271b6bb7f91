"""The former place of the rules for mirroring, importable as before."""

from resvox.training.plans.sides import names_a_side, safe_mirror_axes

__all__ = ["names_a_side", "safe_mirror_axes"]
