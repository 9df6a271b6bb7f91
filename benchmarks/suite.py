"""The benchmarks of a processor that need no other environment, as one run; and two commits against each other.

They are prediction beside MONAI, start, training step, construction and loss.

    python benchmarks/suite.py                        # all of them: an hour or more on two idle cores
    python benchmarks/suite.py --quick                # small inputs, to see that all run
    python benchmarks/suite.py --only loss_memory
    python benchmarks/suite.py --check ../resvox-old  # the quick ones with an older checkout, in turns: ratios

Each benchmark is a process of its own. What they print is written to OUT/benchmarks.md, and to OUT/benchmarks.json with
the seconds and the features of the machine. With --check a benchmark that takes more processor seconds than with the
older checkout, by more than --tolerance, ends the run with exit code 1.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Any

from prediction.measure import processor

HERE = pathlib.Path(__file__).resolve().parent
PACKAGES = ("resvox", "torch", "monai", "openvino", "onnxruntime", "numpy")


@dataclass(frozen=True)
class Benchmark:
    """A benchmark of the suite.

    Args:
        name: of the script, without its ending.
        whole: its options for the figures that are quoted.
        quick: its options for a run of a minute or less, which writes no page of this folder; None where it has none.
    """

    name: str
    whole: tuple[str, ...] = ()
    quick: tuple[str, ...] | None = None


BENCHMARKS = (
    Benchmark("predict_vs_peers", ("--speed", "--steps", "500"), ("--small", "--steps", "5", "--repeats", "1")),
    Benchmark("start_up", (), ("--runs", "2")),
    Benchmark("training_step"),
    Benchmark("build_time"),
    Benchmark("loss_memory", (), ("--quick",)),
)
# What is timed with two checkouts; the paths of peers are the same in both.
CHECKED = (
    Benchmark("predict_vs_peers", quick=("--small", "--steps", "5", "--repeats", "1", "--paths", "resvox-float32")),
    Benchmark("start_up", quick=("--runs", "2")),
    Benchmark("loss_memory", quick=("--quick",)),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small inputs")
    parser.add_argument("--only", nargs="+", choices=[each.name for each in BENCHMARKS], help="these")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("benchmark-results"), help="the folder")
    parser.add_argument("--check", type=pathlib.Path, metavar="CHECKOUT", help="of an older commit")
    parser.add_argument("--turns", type=int, default=3, help="of each checkout, with --check")
    parser.add_argument("--tolerance", type=float, default=0.15, help="with --check, as a fraction")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.check:
        return check(options)
    rows = []
    for each in BENCHMARKS:
        given = each.quick if options.quick else each.whole
        if given is None or (options.only and each.name not in options.only):
            continue
        print(f"{each.name} {' '.join(given)}", flush=True)
        rows.append({"name": each.name, "options": given, **run(each.name, given)})
        write(options.out, "benchmarks", rows, [f"# {row['name']}\n\n{row['text']}" for row in rows])
    return int(any(row["code"] for row in rows))


def check(options: argparse.Namespace) -> int:
    """Run the quick benchmarks with both checkouts in turns, and compare the least processor seconds of each."""
    rows, lines = [], ["| benchmark | before, CPU s | now, CPU s | now / before |", "|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as work:
        for each in CHECKED:
            if each.quick is None or (options.only and each.name not in options.only):
                continue
            row = compared(each, options, pathlib.Path(work))
            rows.append(row)
            lines.append(f"| {each.name} | {row['before']:.1f} | {row['now']:.1f} | {row['ratio']:.2f} |")
            print(lines[-1], flush=True)
    write(options.out, "check", rows, ["# This checkout against an older one\n", "\n".join(lines)])
    return int(any(row["ratio"] > 1 + options.tolerance for row in rows))


def compared(each: Benchmark, options: argparse.Namespace, work: pathlib.Path) -> dict[str, Any]:
    """The least processor seconds of a benchmark with either checkout; the first turn fills their caches."""
    checkouts = {"before": options.check.resolve(), "now": HERE.parent}
    least = dict.fromkeys(checkouts, float("inf"))
    for turn in range(options.turns + 1):
        for name, checkout in checkouts.items() if turn % 2 else reversed(checkouts.items()):
            environment = {"PYTHONPATH": str(checkout / "src"), "RESVOX_CACHE": str(work / name)}
            own = ("--work", str(work / f"{each.name}-{name}")) if each.name == "predict_vs_peers" else ()
            done = run(each.name, (*(each.quick or ()), *own), environment)
            if done["code"]:
                raise SystemExit(f"{each.name} does not run with {checkout}: {done['text'][-2000:]}")
            if turn:
                least[name] = min(least[name], done["cpu_seconds"])
    return {"name": each.name, **least, "ratio": least["now"] / least["before"]}


def run(name: str, given: tuple[str, ...], environment: dict[str, str] | None = None) -> dict[str, Any]:
    """A benchmark's exit code, what it printed, and the seconds of its processes."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, str(HERE / f"{name}.py"), *given]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(environment or {})})
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    text = done.stdout if done.returncode == 0 else done.stdout + done.stderr
    cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    return {"code": done.returncode, "seconds": time.perf_counter() - start, "cpu_seconds": cpu, "text": text}


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "date": str(datetime.date.today()),
        "processor": processor(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "packages": versions,
    }


def write(out: pathlib.Path, name: str, rows: list[dict[str, Any]], texts: list[str]) -> None:
    """Write the Markdown and the JSON of the benchmarks so far."""
    features = machine()
    packages = ", ".join(f"{key} {value}" for key, value in features["packages"].items())
    head = (
        f"{features['date']}; {features['processor']}, {features['cores']} cores; load average "
        f"{features['load_average']:.1f}; Python {features['python']}, {packages}."
    )
    (out / f"{name}.md").write_text("\n\n".join([head, *texts]) + "\n")
    (out / f"{name}.json").write_text(json.dumps({"machine": features, "benchmarks": rows}, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
