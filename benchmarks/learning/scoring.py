"""Scores of predictions in files, the lines of a results file, and the Markdown page with its plot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from brats_data import read_nifti, spacing_of
from contender import HALF, PREDICTIONS, Description

Array = np.ndarray[Any, Any]


def quick_dice(prediction: Array, truth: Array, regions: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """Dice of each region: what can be printed at once."""
    found = {}
    for name, values in regions.items():
        ours, theirs = np.isin(prediction, values), np.isin(truth, values)
        found[name] = 2 * int((ours & theirs).sum()) / max(1, int(ours.sum()) + int(theirs.sum()))
    return found


def predictions(runs: Path, part: str = PREDICTIONS) -> dict[str, tuple[Path, int]]:
    """The file of each held-out case under ``runs/fold_<n>/<part>``, and its fold."""
    found = {}
    for path in sorted(runs.glob(f"fold_*/{part}/*.npz")):
        found[path.stem] = (path, int(path.parent.parent.name.removeprefix("fold_")))
    return found


def score_runs(runs: Path, folds: Path, results: Path, name: str, part: str = PREDICTIONS) -> None:
    """Append a line to the results for each case, with resvox's metrics on the grid of the scan."""
    from resvox.evaluation.segmentation import score_case
    from resvox.volumes import Volume

    known = {(line["framework"], line["case"], line.get("part", PREDICTIONS)) for line in read_lines(results)}
    for case, (path, fold) in predictions(runs, part).items():
        if (name, case, part) in known:
            continue
        drawn = folds / f"fold_{fold}" / "truth" / f"{case}.nii"
        truth, spacing_mm = read_nifti(drawn).astype(np.uint8), spacing_of(drawn)
        with np.load(path) as held:
            predicted = held["label"]
        regions = Description.read(folds / f"fold_{fold}").regions
        scores = score_case(Volume(predicted, spacing_mm=spacing_mm), Volume(truth, spacing_mm=spacing_mm), regions)
        facts = json.loads((runs / f"fold_{fold}" / "facts.json").read_text())
        line = {
            "framework": name, "case": case, "fold": fold, "part": part, "facts": facts,
            "scores": {label: score.to_dict() for label, score in scores.items()},
        }  # fmt: skip
        with results.open("a") as file:
            file.write(json.dumps(line) + "\n")


def read_lines(results: Path) -> list[dict[str, Any]]:
    """The lines of a results file."""
    return [json.loads(line) for line in results.read_text().splitlines()] if results.is_file() else []


def case_scores(lines: Sequence[Mapping[str, Any]], metric: str) -> dict[str, dict[str, dict[str, float | None]]]:
    """framework -> case -> region -> value."""
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    for line in lines:
        cases = found.setdefault(line["framework"], {})
        cases[line["case"]] = {label: values[metric] for label, values in line["scores"].items()}
    return found


def without_half(lines: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The lines of the ends of trainings."""
    return [line for line in lines if line.get("part") != HALF]


def page(lines: Sequence[Mapping[str, Any]], title: str, introduction: str, first: str) -> str:
    """Tables of means, of cases, and of the paired differences of every framework to ``first``.

    Where nothing of ``first`` is there, they are those to the first framework that is.
    """
    half = case_scores([line for line in lines if line.get("part") == HALF], "dice")
    lines = without_half(lines)
    dice, distance = case_scores(lines, "dice"), case_scores(lines, "hd95_mm")
    names, regions = list(dice), list(lines[0]["scores"])
    first = first if first in dice else names[0]
    rows = [f"# {title}", "", introduction, ""]
    rows += [
        f"| framework | {' | '.join(regions)} | mean Dice | at half the time | mean HD95 in mm | steps per fold | "
        "patch, batch |"
    ]
    rows += ["|" + " --- |" * (len(regions) + 6)]
    for name in names:
        facts = [line["facts"] for line in lines if line["framework"] == name]
        means = [_mean(dice[name], region) for region in regions]
        steps = sorted({int(each["steps"]) for each in facts})
        patch = "x".join(map(str, facts[0]["patch_size"])) + f", {facts[0]['batch_size']}"
        far = [_mean(distance[name], region) for region in regions]
        early = _text(float(np.mean([_mean(half[name], region) for region in regions]))) if name in half else "-"
        rows += [
            f"| {name} | {' | '.join(f'{each:.3f}' for each in means)} | **{np.mean(means):.3f}** | "
            f"{early} | {np.nanmean(far):.1f} | {steps[0]} to {steps[-1]} | {patch} |"
        ]
    rows += ["", f"Dice of each case ({', '.join(regions)}):", ""]
    cases = sorted({case for name in names for case in dice[name]})
    rows += [f"| framework | {' | '.join(cases)} |", "|" + " --- |" * (len(cases) + 1)]
    for name in names:
        cells = [", ".join(_text(dice[name].get(case, {}).get(region)) for region in regions) for case in cases]
        rows += [f"| {name} | {' | '.join(cells)} |"]
    return "\n".join([*rows, "", *_paired(dice, regions, first), ""])


def _paired(dice: Mapping[str, Any], regions: Sequence[str], first: str) -> list[str]:
    """Differences of Dice over patients x regions, with Wilcoxon's test and Holm's correction."""
    from scipy.stats import wilcoxon

    from resvox.evaluation.comparison.paired import holm

    rows = [f"Paired over patients and regions, {first} less the other; Wilcoxon's test, two-sided:", ""]
    rows += ["| other | pairs | mean difference | better / worse | p (Holm) |", "|" + " --- |" * 5]
    found = {}
    for name in dice:
        if name == first:
            continue
        both = [
            (dice[first][case][region], dice[name][case][region])
            for case in dice[first]
            for region in regions
            if case in dice[name] and None not in (dice[first][case][region], dice[name][case][region])
        ]
        found[name] = np.array([a - b for a, b in both])
    adjusted = holm([float(wilcoxon(each).pvalue) if np.any(each) else 1.0 for each in found.values()])
    for (name, differences), p in zip(found.items(), adjusted, strict=True):
        signs = f"{int((differences > 0).sum())} / {int((differences < 0).sum())}"
        rows += [f"| {name} | {len(differences)} | {differences.mean():+.3f} | {signs} | {p:.3f} |"]
    return rows


def _mean(cases: Mapping[str, Mapping[str, float | None]], region: str) -> float:
    values = [case[region] for case in cases.values() if case[region] is not None]
    return float(np.mean(values)) if values else float("nan")


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def plot(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    """A point for each patient and region, one column for each framework."""
    import matplotlib.pyplot as plt

    dice, regions = case_scores(without_half(lines), "dice"), list(lines[0]["scores"])
    figure, (axes,) = plt.subplots(1, len(regions), figsize=(9, 3), sharey=True, squeeze=False)
    for axis, region in zip(axes, regions, strict=True):
        for case in sorted(next(iter(dice.values()))):
            axis.plot([dice[name].get(case, {}).get(region) for name in dice], "o-", lw=0.8, ms=3, label=case)
        axis.set_xticks(range(len(dice)), list(dice), fontsize=7, rotation=20)
        axis.set_title(region, fontsize=9)
        axis.set_ylim(0, 1)
    axes[0].set_ylabel("Dice")
    axes[-1].legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
