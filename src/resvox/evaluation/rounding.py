"""Numbers as files hold them."""

from __future__ import annotations


def rounded(value: float | None) -> float | None:
    """Six decimals, or six significant digits where the number is below 0.1: an error of 1e-9 m2/s is not 0."""
    if value is None:
        return None
    number = float(value)
    return round(number, 6) if abs(number) >= 0.1 or number == 0 else float(f"{number:.6g}")


def mean(values: list[float | None]) -> float | None:
    """The mean of those that are defined; None where none is."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None
