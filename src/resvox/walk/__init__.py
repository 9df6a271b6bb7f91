"""A network told step by step, from its blueprint alone.

The room is called ``walk`` so that ``resvox.walkthrough`` is the function and never this folder.
"""

from resvox.catalog.text_options import parse_options, parse_shape
from resvox.walk.walkthrough import Walkthrough, walkthrough

__all__ = ["Walkthrough", "parse_options", "parse_shape", "walkthrough"]
