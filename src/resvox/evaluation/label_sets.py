"""Which labels are scored: their names, their values, and the value whose voxels are left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from resvox.errors import EvaluationError

LARGEST_VALUE = 2**53  # up to here a float holds every whole number
IGNORE = "ignore"  # nnU-Net's name of the label of voxels that were not annotated
Labels = Mapping[str, "int | Sequence[int]"]


@dataclass(frozen=True, kw_only=True)
class LabelSet:
    """The labels that get a score.

    Args:
        scored: name and values of each label; a region has several. The background, value 0, is not among them.
        ignored: values of the reference whose voxels are left out of every score.
        labelled: of cases whose references were annotated with some of the labels alone, the names of these; of such a
            case only they are scored.
        unscored: further values with a meaning.
    """

    scored: Mapping[str, tuple[int, ...]]
    ignored: tuple[int, ...] = ()
    labelled: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unscored: tuple[int, ...] = ()

    @classmethod
    def of(cls, labels: Labels | LabelSet, *, ignore: int | None = None) -> LabelSet:
        """The labels of ``{name: value}`` or, for regions, ``{name: [value, ...]}``.

        Args:
            labels: a label called "ignore" is not scored, as nnU-Net has it: its voxels are left out.
            ignore: another value to leave out.

        Raises:
            EvaluationError: no label besides the background, a value that is not a whole number of 0 or more, or two
                names for the same values.
        """
        if isinstance(labels, LabelSet):
            return labels
        ignored = [] if ignore is None else [_whole("ignore", ignore, lowest=-LARGEST_VALUE)]
        scored: dict[str, tuple[int, ...]] = {}
        for name, value in labels.items():
            values = _values(name, value)
            if name.lower() == IGNORE:
                ignored += values
            elif values != (0,):
                scored[name] = values
        _check(labels, scored)
        return cls(scored=scored, ignored=tuple(sorted(set(ignored))))

    def of_case(self, case: str) -> LabelSet:
        """The labels that are scored in a case; values of the others are known and have no score."""
        names = self.labelled.get(case)
        if names is None:
            return self
        kept = {name: values for name, values in self.scored.items() if name in names}
        others = {value for values in self.scored.values() for value in values}
        return replace(self, scored=kept, unscored=tuple(sorted(others)))

    @property
    def known(self) -> set[int]:
        """Every value with a meaning, the background included."""
        return {0, *self.ignored, *self.unscored, *(value for values in self.scored.values() for value in values)}

    def to_dict(self) -> dict[str, int | tuple[int, ...]]:
        """Name and value, or values, of the scored labels."""
        return {name: values[0] if len(values) == 1 else values for name, values in self.scored.items()}


def _values(name: str, value: Any) -> tuple[int, ...]:
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping)):
        values = tuple(_whole(name, each) for each in value)
        if not values or (0 in values and len(values) > 1):
            raise EvaluationError(
                f"region {name!r} with values {list(values)}",
                expected="the values of its labels, without the background (0)",
            )
        return tuple(sorted(set(values)))
    return (_whole(name, value),)


def _whole(name: str, value: Any, *, lowest: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not lowest <= value <= LARGEST_VALUE:
        raise EvaluationError(
            f"label {name!r} with value {value!r}",
            expected="a whole number" + (" of 0 or more" if lowest == 0 else "") + ", or a list of them for a region",
        )
    return int(value)


def _check(labels: Labels, scored: Mapping[str, tuple[int, ...]]) -> None:
    if len(set(scored.values())) != len(scored):
        raise EvaluationError(
            f"labels {dict(labels)} with one value under two names", expected="one name for every value"
        )
    if not scored:
        raise EvaluationError(
            f"labels {dict(labels)}",
            expected="at least one label besides the background (0)",
            fix="give names and values, e.g. {'liver': 1}",
        )
