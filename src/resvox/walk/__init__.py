"""A step-by-step table of a network, from its blueprint alone.

The package is called ``walk`` so that ``resvox.walkthrough`` is always the function and never this package.
"""

from resvox.catalog.text_options import parse_options, parse_shape
from resvox.walk.walkthrough import Walkthrough, walkthrough

__all__ = ["Walkthrough", "parse_options", "parse_shape", "walkthrough"]
