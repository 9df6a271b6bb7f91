"""Options and shapes as text, such as ``norm=group`` and ``1,3,214,214`` from a command line."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

from resvox.errors import BlueprintError

_WORDS: dict[str, Any] = {"true": True, "false": False, "none": None}


def parse_shape(text: str) -> tuple[int, ...]:
    """``"1,3,214,214"`` or ``"1x3x214x214"`` as numbers.

    Raises:
        BlueprintError: the text is not a list of whole numbers.
    """
    try:
        return tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        raise BlueprintError(
            f"--input {text!r}", expected="batch,channels,H,W or batch,channels,D,H,W", fix="such as 1,3,214,214"
        ) from None


def parse_options(texts: Iterable[str]) -> dict[str, Any]:
    """``["norm=group", "strides=1,2,2,2,2"]`` as arguments: numbers, tuples, true, false and none; else the text.

    Raises:
        BlueprintError: a word without ``=``, or a name given twice.
    """
    options: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name.isidentifier():
            raise BlueprintError(f"{text!r}", expected="option=value", fix="such as norm=group or num_classes=3")
        if name in options:
            raise BlueprintError(f"{name}= twice", expected="each option once")
        options[name] = _value(value)
    return options


def _value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text  # a plain word such as group
