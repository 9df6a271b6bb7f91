"""A study: every framework trains on the folds of a dataset for the same time, predicts, and is scored."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from brats_data import read_nifti
from contender import HALF, Description
from scoring import page, plot, predictions, quick_dice, read_lines, score_runs

HERE = Path(__file__).parent
FRAMEWORKS = ("resvox", "nnunet", "monai")
TITLES = {"resvox": "resvox", "nnunet": "nnU-Net", "monai": "MONAI"}
SLACK = 900  # seconds beside the budget after which a fold is given up


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is compared on.

    Args:
        title: of the page.
        data: the cases and what is held out in each fold, in a sentence for the page.
        write_folds: from the packed data and a folder to the folders of the folds in it.
        folds: how many.
        text: the help of the command line.
        spacing_mm: where ``--spacing`` is not given; None: that of the scans, which is 1 mm.
    """

    title: str
    data: str
    write_folds: Callable[[Path, Path], list[Path]]
    folds: int
    text: str
    spacing_mm: float | None = None


def runs_of(options: argparse.Namespace, framework: str) -> Path:
    """The folder of a framework's folds; a variant of resvox has its own."""
    name = f"{framework}_{options.variant}" if options.variant and framework == "resvox" else framework
    runs: Path = options.work / "runs" / name
    return runs


def commands(options: argparse.Namespace, framework: str) -> dict[int, list[str]]:
    """The command of each fold that is asked for."""
    python = options.nnunet_python if framework == "nnunet" else sys.executable
    found = {}
    for fold in options.folds:
        out = runs_of(options, framework) / f"fold_{fold}"
        command = [str(python), "-W", "ignore", str(HERE / f"train_{framework}.py")]
        command += [str(options.work / "folds" / f"fold_{fold}"), str(out), "--seconds", str(options.budget)]
        command += ["--device", options.device, "--seed", str(options.seed)]
        command += [] if options.spacing is None else ["--spacing", str(options.spacing)]
        if options.variant and framework == "resvox":
            command += ["--changes", json.dumps(options.changes), "--fields", json.dumps(options.fields)]
        if options.at_once > 1:
            cores = sorted(os.sched_getaffinity(0))
            each = len(cores) // options.at_once
            first = fold % options.at_once * each
            command += ["--cores", ",".join(map(str, cores[first : first + each]))]
        found[fold] = command
    return found


def train(options: argparse.Namespace, framework: str) -> None:
    """All folds of a framework that are not done, so many at a time."""
    waiting = [
        (runs_of(options, framework) / f"fold_{fold}", command)
        for fold, command in commands(options, framework).items()
        if not (runs_of(options, framework) / f"fold_{fold}" / "facts.json").is_file()
    ]
    limit = options.budget + options.slack
    while waiting:
        now, waiting = waiting[: options.at_once], waiting[options.at_once :]
        began, running = time.monotonic(), []
        for out, command in now:
            out.mkdir(parents=True, exist_ok=True)
            log = (out / "log.txt").open("w")
            running.append((out, subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT), log))
        for out, process, log in running:
            try:
                code: object = process.wait(timeout=max(1.0, limit - (time.monotonic() - began)))
            except subprocess.TimeoutExpired:
                process.kill()
                code = "given up"
            log.close()
            print(f"{framework} {out.name}: {code} after {time.monotonic() - began:.0f} s", flush=True)
            if code != 0:
                print("\n".join((out / "log.txt").read_text().splitlines()[-8:]), flush=True)


def print_dice(options: argparse.Namespace, framework: str) -> None:
    """Dice of what is predicted so far."""
    for part in ("full", HALF, "mirrored"):
        found = []
        for case, (path, fold) in predictions(runs_of(options, framework), part).items():
            regions = Description.read(options.work / "folds" / f"fold_{fold}").regions
            truth = read_nifti(options.work / "folds" / f"fold_{fold}" / "truth" / f"{case}.nii")
            with np.load(path) as held:
                scores = quick_dice(held["label"], truth, regions)
            found.append(list(scores.values()))
            print(framework, part, case, " ".join(f"{name} {value:.3f}" for name, value in scores.items()), flush=True)
        if found:
            means = np.mean(found, axis=0)
            print(f"{framework} {part}, mean of {len(found)}: {np.round(means, 3)}, all {means.mean():.3f}", flush=True)


def report(options: argparse.Namespace, study: Study) -> None:
    """Score what is predicted, append it to the results, and write the page with its plot."""
    results = options.work / "results.jsonl"
    folders = sorted(options.work.glob("runs/resvox_*"))
    variants = {path.name: f"resvox, {path.name.partition('_')[2]}" for path in folders}
    for framework, title in {**TITLES, **variants}.items():
        runs = options.work / "runs" / framework
        score_runs(runs, options.work / "folds", results, title)
        score_runs(runs, options.work / "folds", results, title, HALF)
        if predictions(runs, "mirrored"):
            score_runs(runs, options.work / "folds", results, f"{title}, --mirror", "mirrored")
    lines = read_lines(results)
    facts = lines[0]["facts"]
    spacing = "the spacing of the scans" if options.spacing is None else f"{options.spacing:g} mm"
    introduction = (
        f"Written by `benchmarks/learning` on {datetime.date.today()}: {options.budget:g} s of training for each fold "
        f"at {spacing}, {options.at_once} folds at a time; {facts['machine']}. {study.data} "
        "Scored on the grid of the scans."
    )
    options.report.write_text(page(lines, study.title, introduction, TITLES["resvox"]))
    plot(lines, options.report.with_suffix(".png"))


def compare(study: Study) -> None:
    """The command line of a study."""
    parser = argparse.ArgumentParser(description=study.text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--packed", type=Path, required=True)
    parser.add_argument("--budget", type=float, default=900, help="seconds of training for each fold")
    parser.add_argument("--device", default="cpu")
    spacing = "that of the scans" if study.spacing_mm is None else f"{study.spacing_mm:g}"
    parser.add_argument("--spacing", type=float, default=study.spacing_mm, help=f"in mm; {spacing} if not given")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-once", type=int, default=1, help="folds at a time, each with its share of the cores")
    parser.add_argument("--variant", default="", help="name of other settings of resvox, which get a row of their own")
    parser.add_argument("--changes", type=json.loads, default={}, help="of the variant: keywords of `train`, as JSON")
    parser.add_argument("--fields", type=json.loads, default={}, help="of the variant: fields of the plan, as JSON")
    parser.add_argument("--folds", type=int, nargs="+", default=list(range(study.folds)))
    parser.add_argument("--frameworks", nargs="+", default=FRAMEWORKS)
    parser.add_argument("--nnunet-python", type=Path, default=Path(".venv-nnunet/bin/python"))
    parser.add_argument("--slack", type=float, default=SLACK, help="seconds beside the budget")
    parser.add_argument("--report", type=Path, default=None, help="train no more: score, and write this page")
    options = parser.parse_args()
    if (options.changes or options.fields) and not options.variant:
        parser.error("--changes and --fields are those of a --variant NAME")
    study.write_folds(options.packed, options.work / "folds")
    if options.report is not None:
        report(options, study)
        return
    for framework in options.frameworks:
        train(options, framework)
        print_dice(options, framework)
    (options.work / "done.json").write_text(json.dumps({"frameworks": list(options.frameworks)}))
