"""The labels of a `dataset.json`: their values, regions that join several values, and the value that is left out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resvox.datasets.description import number, shown, whole
from resvox.errors import DatasetError, ResvoxError, suggest
from resvox.regions import LARGEST_VALUE, Regions

IGNORE = "ignore"  # nnU-Net's name of the label of voxels that were not annotated
EXAMPLE = 'labels {"background": 0, "liver": 1} or {"0": "background"}'


@dataclass(frozen=True, kw_only=True)
class LabelValues:
    """The labels of a dataset.

    Args:
        labels: ``{name: value}`` of every value of a label map but the ignored one, with the background.
        regions: where labels join several values: what a network learns in place of the labels.
        ignore: the value of voxels that were not annotated.
    """

    labels: Mapping[str, int]
    regions: Regions | None = None
    ignore: int | None = None


def read_label_values(described: Mapping[str, Any], source: Path) -> LabelValues:
    """The field ``labels``, with a background of 0, and ``regions_class_order``.

    ``{"liver": 1}`` (nnU-Net), ``{"1": "liver"}`` (MSD) and ``["background", "liver"]`` are one thing. A list of
    several values makes every label a region, and a label called "ignore" is left out, as nnU-Net has it.

    Raises:
        DatasetError: no labels, a name or a value two times, values that are not whole numbers, or regions without the
            order in which they are written.
    """
    given = described.get("labels")
    if isinstance(given, list) and given and all(isinstance(name, str) for name in given):
        given = {str(value): name for value, name in enumerate(given)}
    if not isinstance(given, dict) or not given:
        raise DatasetError(
            "no labels" if given in (None, {}, []) else f"labels {shown(given)}", expected=EXAMPLE, path=source
        )
    named = _named_values(given, source)
    ignore = _ignored(named, source)
    order = described.get("regions_class_order")
    if any(len(values) > 1 for values in named.values()):
        regions = _regions(named, order, source)
        found = LabelValues(labels=_labels_of(regions), regions=regions, ignore=ignore)
    else:
        if order not in (None, []):
            warnings.warn(
                f"{source}: regions_class_order is not used: no label has several values", UserWarning, stacklevel=2
            )
        found = LabelValues(labels=_with_background(named, source), ignore=ignore)
    if ignore in found.labels.values():
        raise DatasetError(
            f"labels: {IGNORE!r} has the value {ignore}, which is also that of another label",
            expected="a value of its own, such as the highest",
            path=source,
        )
    return found


def labelled_names(value: Any, where: str, source: Path) -> tuple[str, ...] | None:
    """The labels that were annotated in a case: a list of names, or a text with ``;`` between them; None for all.

    Raises:
        DatasetError: something other than names.
    """
    if value in (None, ""):
        return None
    names = [name.strip() for name in value.split(";") if name.strip()] if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise DatasetError(
            f"{where}: labelled {shown(value)}", expected='names of labels, as ["liver", "spleen"]', path=source
        )
    return tuple(names)


def check_labelled(
    cases: Sequence[tuple[str, tuple[str, ...] | None]], names: Sequence[str], source: Path | None
) -> None:
    """Check that what cases are labelled with are names of labels or regions.

    Raises:
        DatasetError: naming the case and the unknown name.
    """
    for case, labelled in cases:
        for name in labelled or ():
            if name not in names:
                raise DatasetError(
                    f"case {case!r} is labelled with {name!r}",
                    expected=f"names out of {', '.join(names)}",
                    fix=suggest(name, names),
                    path=source,
                )


def _named_values(labels: Mapping[str, Any], source: Path) -> dict[str, tuple[int, ...]]:
    """The values of each label, whichever of name and value is the key."""
    by_number = all(whole(key) is not None for key in labels) and all(
        isinstance(name, str) and number(name) is None for name in labels.values()
    )
    pairs: list[tuple[str, Any]] = [(str(name).strip(), key) for key, name in labels.items()] if by_number else [
        (str(key).strip(), value) for key, value in labels.items()
    ]  # fmt: skip
    read: dict[str, tuple[int, ...]] = {}
    for name, given in pairs:
        values = _values(name, given, source)
        if name in read:
            raise DatasetError(
                f"labels: two values ({_words(read[name])} and {_words(values)}) are called {name!r}",
                expected="one name per value",
                fix="give one of them another name, or one value in the label maps",
                path=source,
            )
        other = next((each for each, taken in read.items() if taken == values), None)
        if other is not None:
            several = "values" if len(values) > 1 else "value"
            raise DatasetError(
                f"labels: {other!r} and {name!r} both have the {several} {_words(values)}",
                expected="labels each with its own positive value",
                path=source,
            )
        read[name] = values
    return read


def _values(name: str, given: Any, source: Path) -> tuple[int, ...]:
    values = [whole(each) for each in given] if isinstance(given, list) and given else [whole(given)]
    if not name or any(value is None or not 0 <= value <= LARGEST_VALUE for value in values):
        raise DatasetError(
            f"labels: {name!r} has the value {shown(given)}",
            expected="a name, and a whole number from 0 on (a list of them for a region)",
            path=source,
        )
    return tuple(sorted({value for value in values if value is not None}))


def _words(values: tuple[int, ...]) -> str:
    return str(values[0]) if len(values) == 1 else str(list(values))


def _ignored(named: dict[str, tuple[int, ...]], source: Path) -> int | None:
    """The value of the label called "ignore", which is taken out of ``named``."""
    name = next((each for each in named if each.lower() == IGNORE), None)
    if name is None:
        return None
    values = named.pop(name)
    if len(values) > 1 or values == (0,):
        raise DatasetError(
            f"labels: {name!r} has the value {_words(values)}", expected="one value, not that of the background (0)",
            path=source,
        )  # fmt: skip
    return values[0]


def _with_background(named: Mapping[str, tuple[int, ...]], source: Path) -> dict[str, int]:
    labels = {name: values[0] for name, values in named.items()}
    if 0 not in labels.values():
        _refuse_other_background(named, source)
        labels = {"background": 0, **labels}
    return labels


def _refuse_other_background(named: Mapping[str, tuple[int, ...]], source: Path) -> None:
    taken = next((name for name in named if name.lower() == "background"), None)
    if taken is not None:
        raise DatasetError(
            f"labels: {taken!r} has the value {_words(named[taken])}", expected="the background to be 0", path=source
        )


def _regions(named: Mapping[str, tuple[int, ...]], order: Any, source: Path) -> Regions:
    values = {name: each for name, each in named.items() if each != (0,)}
    _refuse_other_background(values, source)
    numbers = [whole(each) for each in order] if isinstance(order, list) else []
    if order is None or None in numbers or not numbers:
        raise DatasetError(
            "labels that are regions (lists of values), and no regions_class_order"
            if order is None
            else f"regions_class_order {shown(order)}",
            expected=f"for each of {', '.join(values)} the value that it is written as, later ones over earlier ones",
            fix=f'"regions_class_order": {_suggested(values)}',
            path=source,
        )
    try:
        regions = Regions(values=values, class_order=tuple(each for each in numbers if each is not None))
    except ResvoxError as error:
        raise DatasetError(error.got, expected=error.expected, fix=error.fix, path=source) from error
    if regions.ambiguous:
        listed = ", ".join(f"{value} would be written as {regions.written_as(value)}" for value in regions.ambiguous)
        warnings.warn(
            f"{source}: regions_class_order {list(regions.class_order)}: {listed}, which belongs to other regions; "
            "list larger regions before those inside them",
            UserWarning,
            stacklevel=2,
        )
    return regions


def _suggested(values: Mapping[str, tuple[int, ...]]) -> list[int]:
    """For each region a value that no region of fewer values has, where there is one."""
    written = []
    for own in values.values():
        inner = {value for other in values.values() if len(other) < len(own) for value in other}
        written.append(next((value for value in own if value not in inner and value not in written), own[0]))
    return written


def _labels_of(regions: Regions) -> dict[str, int]:
    """Every value of a label map with a name."""
    labels = regions.labels()
    unnamed = [value for value in regions.label_values if value not in labels.values()]
    return {**labels, **{f"label_{value}": value for value in unnamed}}
