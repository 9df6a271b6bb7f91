"""Runs or score files against each other, on the cases that they share."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resvox.files import write_atomically

if TYPE_CHECKING:
    from resvox.evaluation.comparison.paired import Difference


@dataclass(frozen=True, kw_only=True)
class CompareResult:
    """Differences of every set of scores to the first one.

    Args:
        metric: which score was compared.
        names: of the sets, in the order given.
        differences: for each label, and for the mean over labels.
    """

    metric: str
    names: tuple[str, ...]
    differences: tuple[Difference, ...]

    def to_dict(self) -> dict[str, Any]:
        """The numbers as JSON holds them."""
        differences = [each.to_dict() for each in self.differences]
        return {"metric": self.metric, "sets": list(self.names), "differences": differences}


def compare(
    sources: Sequence[str | os.PathLike[str]],
    *,
    metric: str = "dice",
    json_path: str | os.PathLike[str] | None = None,
) -> CompareResult:
    """Compare sets of scores with paired statistics: each with the first one.

    Args:
        sources: at least two folders of runs, or JSON files of `evaluate`.
        metric: "dice", "hd95_mm" or "surface_dice"; the validation of a run has Dice alone.
        json_path: also write the result there as JSON.

    Raises:
        EvaluationError: no scores, fewer than two sets, or no case in common.
    """
    from resvox.evaluation.comparison.paired import compare_scores
    from resvox.evaluation.comparison.sources import read_scores

    names = _names([Path(each) for each in sources])
    sets = {name: read_scores(Path(each), metric) for name, each in zip(names, sources, strict=True)}
    result = CompareResult(metric=metric, names=tuple(names), differences=compare_scores(sets))
    if json_path is not None:
        write_atomically(Path(json_path), json.dumps(result.to_dict(), indent=2, ensure_ascii=False) + "\n")
    return result


def _names(paths: Sequence[Path]) -> list[str]:
    """The last parts of the paths, as many as differ; equal paths get a number."""
    depth = 1
    longest = max((len(path.resolve().parts) for path in paths), default=1)
    while depth < longest and len({path.resolve().parts[-depth:] for path in paths}) < len(
        {p.resolve() for p in paths}
    ):
        depth += 1
    plain = ["/".join(path.resolve().parts[-depth:]) for path in paths]
    return [name if plain.count(name) == 1 else f"{name} ({at + 1})" for at, name in enumerate(plain)]
