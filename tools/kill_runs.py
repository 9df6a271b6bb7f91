"""Kills training, prediction and evaluation at random moments and checks that a resumed run equals an undisturbed one.

    python tools/kill_runs.py                                    # 5 moments of each command
    python tools/kill_runs.py --times 100 --out benchmarks/kills.md
    python tools/kill_runs.py --commands train --processes 2 --workers 2 --times 20

Each trial starts the command anew, sends SIGKILL or SIGTERM to its first process or to all of its processes at a moment
drawn between its start and the end of an undisturbed run, and runs it to the end: a training with --resume, the others
as they were. Compared with the undisturbed run are, of a training, the rows of metrics.csv but for the seconds and all
tensors of the model file; of a cross-validation the same of each fold, its card and the scores out of fold; of a
prediction, the files, the voxels and the cases in predict.jsonl; of an evaluation, the bytes of its JSON and CSV. A
trial also fails where a temporary file or a lock is left behind, where SIGTERM in the steps of a training did not exit
with 75, or where a traceback is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

COMMANDS = ("train", "predict", "evaluate", "folds")
LEFT_BEHIND = (".*.tmp", "*.partial*", ".claims", "*.lock")
PATIENCE_S = 600.0
FOLDS = 3
STOPPED = 75


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One kill: of which command, when, by which signal, of whom; and what was wrong afterwards."""

    command: str
    moment_s: float
    signal_name: str
    everyone: bool
    exit_code: int
    wrong: tuple[str, ...] = field(default=())


def environment() -> dict[str, str]:
    """The environment of the commands: this checkout, one thread."""
    source = str(Path(__file__).resolve().parents[1] / "src")
    others = {name: value for name, value in os.environ.items() if not name.startswith("RESVOX_")}
    return {**others, "PYTHONPATH": source, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "200"}


def start(*words: object) -> subprocess.Popen[str]:
    """The command line in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "resvox", *map(str, words)],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and standard error; what does not end in ten minutes is killed and counts as wrong."""
    try:
        _, errors = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        signal_all(process, signal.SIGKILL)
        _, errors = process.communicate()
        return -1, errors + "did not end"
    return process.returncode, errors


def signal_all(process: subprocess.Popen[str], number: int) -> None:
    """To every process of the session's group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def write_dataset(folder: Path, cases: int) -> Path:
    """Scans of noise with a bright ball, in nnU-Net's layout."""
    from resvox.volumes import Volume, write_label_map, write_volume

    rng = np.random.default_rng(0)
    for number in range(cases):
        centre = rng.integers(8, 16, size=(3, 1, 1, 1))
        label = ((np.indices((24, 24, 24)) - centre) ** 2).sum(axis=0) < 36
        scan = (rng.normal(0, 30, label.shape) + 200 * label).astype(np.float32)
        spacing_mm = (2.0, 1.0, 1.0)
        write_volume(Volume(scan, spacing_mm=spacing_mm), folder / "imagesTr" / f"case{number:02d}_0000.nii.gz")
        write_label_map(
            Volume(label.astype(np.uint8), spacing_mm=spacing_mm), folder / "labelsTr" / f"case{number:02d}.nii.gz"
        )
    described = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "ball": 1}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(described))
    return folder


def write_plan(data: Path, path: Path, steps: int) -> Path:
    """A network of a few thousand weights, with everything that draws random numbers."""
    from resvox.training import draw_plan, read_dataset, take_fingerprint

    plan = draw_plan(
        take_fingerprint(read_dataset(data)),
        device="cpu",
        encoder="resnet10",
        encoder_depth=2,
        decoder_filters=(8, 8),
        patch_size=(8, 16, 16),
        batch_size=2,
        steps=steps,
        warmup_steps=2,
        validation_interval=8,
        checkpoint_interval=5,
    )
    return plan.save(path)


@dataclass(frozen=True, kw_only=True)
class Command:
    """How a command is run into a folder, how it is run again after a kill, and what is compared."""

    words: Callable[[Path], list[object]]
    again: tuple[str, ...]
    differences: Callable[[Path, Path], list[str]]


def commands(work: Path, processes: int, workers: int, steps: int, cases: int) -> dict[str, Command]:
    """The three commands on data written to ``work``; the model of prediction is that of an undisturbed training."""
    data = write_dataset(work / "data", cases)
    plan = write_plan(data, work / "plan.yaml", steps)
    model, predictions = work / "train-whole", work / "predict-whole"
    train = ["train", data, "--plan", plan, "--device", "cpu", "--processes", processes, "--workers", workers]
    predict = ["predict", model, data / "imagesTr", "--device", "cpu", "--processes", processes]
    return {
        "train": Command(words=lambda out: [*train, "-o", out], again=("--resume",), differences=different_runs),
        "folds": Command(
            words=lambda out: [*train, "--folds", FOLDS, "-o", out], again=("--resume",), differences=different_folds
        ),
        "predict": Command(words=lambda out: [*predict, "-o", out], again=(), differences=different_predictions),
        "evaluate": Command(
            words=lambda out: [
                "evaluate",
                predictions,
                data / "labelsTr",
                "-o",
                out / "s.json",
                "--csv",
                out / "s.csv",
            ],
            again=(),
            differences=different_bytes,
        ),
    }


def different_runs(run: Path, whole: Path) -> list[str]:
    """Rows of metrics.csv without the seconds, and tensors of the model file."""
    from safetensors.numpy import load_file

    found = []
    rows, wanted = (rows_of(each / "metrics.csv") for each in (run, whole))
    if rows != wanted:
        found.append(f"metrics.csv: {len(rows)} rows of {len(wanted)}, {sum(map(ne, rows, wanted))} differ")
    tensors, others = (load_file(each / "model.safetensors") for each in (run, whole))
    differ = [name for name in others if not np.array_equal(tensors.get(name), others[name])]
    return [*found, *([f"model.safetensors: {len(differ)} tensors differ"] if differ else [])]


def different_folds(run: Path, whole: Path) -> list[str]:
    """Each fold as `different_runs`, its card, and the scores out of fold."""
    from resvox.weights import read_header

    found = []
    for fold in range(FOLDS):
        own, others = (each / f"fold_{fold}" for each in (run, whole))
        found += [f"fold {fold}: {each}" for each in different_runs(own, others)]
        cards = [read_header(each / "model.safetensors").metadata for each in (own, others)]
        found += [] if cards[0] == cards[1] else [f"fold {fold}: another card"]
    for name in ("folds.json", "cross_validation.json", "cross_validation.csv"):
        found += [] if (run / name).read_text() == (whole / name).read_text() else [f"{name} differs"]
    return found


def ne(one: object, other: object) -> bool:
    """Whether two rows differ."""
    return one != other


def rows_of(path: Path) -> list[dict[str, str]]:
    """Rows of metrics.csv but for the seconds."""
    with path.open(newline="") as file:
        return [{name: cell for name, cell in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def different_predictions(out: Path, whole: Path) -> list[str]:
    """Names of files, voxels, and the cases that predict.jsonl holds."""
    from resvox.volumes import read_volume

    names, wanted = (sorted(path.name for path in each.iterdir()) for each in (out, whole))
    if names != wanted:
        return [f"files {sorted(set(names) ^ set(wanted))}"]
    maps = [name for name in wanted if name.endswith(".nii.gz")]
    found = [
        f"{name} differs"
        for name in maps
        if not np.array_equal(read_volume(out / name).array, read_volume(whole / name).array)
    ]
    lines, others = (logged(each / "predict.jsonl") for each in (out, whole))
    if lines != others:
        found.append(f"predict.jsonl: {len(lines)} cases of {len(others)}")
    return found


def logged(path: Path) -> list[Any]:
    """The files named in a log of predictions, each as often as it is there."""
    return sorted(str(Path(json.loads(line)["file"]).name) for line in path.read_text().splitlines())


def different_bytes(out: Path, whole: Path) -> list[str]:
    """Files that are missing or differ, paths of the folders themselves aside."""
    found = []
    for path in sorted(whole.iterdir()):
        other = out / path.name
        same = other.is_file() and other.read_text().replace(str(out), "") == path.read_text().replace(str(whole), "")
        found += [] if same else [f"{path.name} differs"]
    return found


def try_once(name: str, command: Command, out: Path, whole: Path, seconds: float, draw: random.Random) -> Trial:
    """One kill and what came of it."""
    moment, number = draw.uniform(0, seconds), draw.choice([signal.SIGKILL, signal.SIGTERM])
    everyone = draw.random() < 0.5
    out.mkdir()
    process = start(*command.words(out))
    time.sleep(moment)
    if everyone:
        signal_all(process, number)
    elif process.poll() is None:
        process.send_signal(number)
    code, errors = finish(process)
    wrong = ["a traceback"] if "Traceback (most recent call last)" in errors and code not in (0, -number) else []
    in_steps = (out / "metrics.csv").exists() and not (out / "model.safetensors").exists()
    if name == "train" and number == signal.SIGTERM and in_steps and code not in (0, STOPPED):
        wrong.append(f"SIGTERM: exit code {code}: {errors.strip()[-200:]}")
    signal_all(process, signal.SIGKILL)  # children of a killed process that have not noticed yet
    code_again, errors = finish(start(*command.words(out), *command.again)) if code else (0, "")
    if code_again:
        wrong.append(f"run again: exit code {code_again}: {errors.strip()[-200:]}")
    else:
        wrong += command.differences(out, whole)
        wrong += [f"left behind: {path.name}" for pattern in LEFT_BEHIND for path in out.rglob(pattern)]
    return Trial(
        command=name, moment_s=moment, signal_name=signal.Signals(number).name, everyone=everyone, exit_code=code,
        wrong=tuple(wrong),
    )  # fmt: skip


def report(trials: list[Trial], durations: dict[str, float], options: argparse.Namespace) -> str:
    """A Markdown page: one row per command and signal, then each trial that went wrong."""
    lines = [
        "# Runs killed at random moments",
        "",
        f"Written by `tools/kill_runs.py --times {options.times} --processes {options.processes} "
        f"--workers {options.workers} --seed {options.seed}`.",
        "",
        "| command | signal | moments | undisturbed run (s) | equal to an undisturbed run |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for name, seconds in durations.items():
        for number in ("SIGKILL", "SIGTERM"):
            of = [trial for trial in trials if (trial.command, trial.signal_name) == (name, number)]
            equal = sum(not trial.wrong for trial in of)
            lines.append(f"| {name} | {number} | {len(of)} | {seconds:.1f} | {equal} |")
    for trial in trials:
        if trial.wrong:
            whom = "all processes" if trial.everyone else "the first process"
            lines += ["", f"* {trial.command}, {trial.signal_name} to {whom} after {trial.moment_s:.2f} s, "
                      f"exit code {trial.exit_code}: {'; '.join(trial.wrong)}"]  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the trials; 1 where one went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5, help="kills of each command")
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--processes", type=int, default=1, help="processes of training and prediction")
    parser.add_argument("--workers", type=int, default=1, help="loader workers of training")
    parser.add_argument("--steps", type=int, default=30, help="steps of the training")
    parser.add_argument("--cases", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, help="write the report there as well")
    options = parser.parse_args()
    draw, trials, durations = random.Random(options.seed), [], {}
    with tempfile.TemporaryDirectory(prefix="resvox-kills-") as folder:
        work = Path(folder)
        for name, command in commands(work, options.processes, options.workers, options.steps, options.cases).items():
            whole, began = work / f"{name}-whole", time.monotonic()
            whole.mkdir()
            code, errors = finish(start(*command.words(whole)))
            if code:
                raise SystemExit(f"{name} fails undisturbed: {errors}")
            if name not in options.commands:
                continue
            durations[name] = time.monotonic() - began
            for number in range(options.times):
                trial = try_once(name, command, work / f"{name}-{number}", whole, durations[name], draw)
                trials.append(trial)
                how = f"{trial.signal_name} after {trial.moment_s:.2f} s, exit code {trial.exit_code}"
                print(f"{name} {number + 1}/{options.times}: {how}: {'; '.join(trial.wrong) or 'equal'}", flush=True)
    text = report(trials, durations, options)
    print(text)
    if options.out is not None:
        options.out.write_text(text)
    return int(any(trial.wrong for trial in trials))


if __name__ == "__main__":
    sys.exit(main())
