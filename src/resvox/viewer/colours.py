"""One colour per label, distinguishable by colour-blind readers too."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable

# Okabe and Ito's palette (2008, "Color Universal Design") without its black, which is a scan's background;
# ordered so that the first five stay furthest apart under every common kind of colour blindness.
PALETTE = ("#56B4E9", "#D55E00", "#F0E442", "#CC79A7", "#0072B2", "#E69F00", "#009E73")


def label_colours(names: Iterable[str]) -> dict[str, str]:
    """A colour ``"#rrggbb"`` for every name, in order; ``"background"`` gets black and does not count.

    The first seven come from Okabe and Ito's palette; further ones are the same seven, alternately
    lighter and darker, so a colour repeats only after 35 labels.
    """
    colours: dict[str, str] = {}
    turn = 0
    for name in names:
        if name == "background":
            colours[name] = "#000000"
            continue
        colours[name] = _colour(turn)
        turn += 1
    return colours


def rgb(colour: str) -> tuple[float, float, float]:
    """``"#rrggbb"`` as three numbers from 0 to 1."""
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))  # type: ignore[return-value]


def _colour(turn: int) -> str:
    base = PALETTE[turn % len(PALETTE)]
    shift = (0.0, 0.18, -0.18, 0.3, -0.28)[turn // len(PALETTE) % 5]
    hue, lightness, saturation = colorsys.rgb_to_hls(*rgb(base))
    red, green, blue = colorsys.hls_to_rgb(hue, min(max(lightness + shift, 0.12), 0.9), saturation)
    return "#" + "".join(f"{round(part * 255):02X}" for part in (red, green, blue))
