"""Damage files at random and read them: ``python -m fuzz.run --mutations 2000 --output docs/fuzz.md``.

Every kind of file is read in processes of its own, so that a crash of a library or a hang costs one mutation. The exit
code is 1 where a mutation led to anything but an answer or one line.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

SILENCE_S = 90.0  # without a line from a worker: it hangs where no signal reaches it
TESTS = Path(__file__).parents[1]


@dataclass
class Tally:
    """The outcomes of one kind of file."""

    name: str
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def take(self, result: dict[str, object]) -> None:
        outcome, why = str(result["outcome"]), str(result.get("why", ""))
        self.outcomes["equal" if why == "equal" else outcome] += 1
        if outcome == "fault":
            self.faults.append(f"{self.name} mutation {result['number']}: {why}")


def run_subject(name: str, mutations: int, *, first: int = 0) -> Tally:
    """Damage one kind of file so many times."""
    tally, begun, number = Tally(name), time.perf_counter(), first
    while number < first + mutations:
        number = _run_worker(name, number, first + mutations - number, tally)
    tally.seconds = time.perf_counter() - begun
    return tally


def _run_worker(name: str, first: int, count: int, tally: Tally) -> int:
    """Let one process work until it is done or ends early; the number of the next mutation."""
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent / "src"), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-m", "fuzz.worker", name, str(first), str(count)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    lines: queue.Queue[str] = queue.Queue()
    errors: list[str] = []
    assert process.stdout is not None
    assert process.stderr is not None
    readers = [
        threading.Thread(target=_lines_into, args=(process.stdout, lines.put), daemon=True),
        threading.Thread(target=_lines_into, args=(process.stderr, errors.append), daemon=True),
    ]
    for reader in readers:
        reader.start()
    following = first
    while following < first + count:
        try:
            line = lines.get(timeout=SILENCE_S)
        except queue.Empty:
            process.kill()
            tally.take({"number": following, "outcome": "fault", "why": f"no answer for {SILENCE_S:g} s"})
            return following + 1
        if not line:  # the end of its output
            break
        if line.startswith("{"):
            result = json.loads(line)
            tally.take(result)
            following = int(result["number"]) + 1
    code = process.wait()
    if code == 1 and following == first:  # Python's own exit: the worker cannot begin, and never will
        raise RuntimeError("".join(errors))
    if following < first + count:
        why = f"the process ended with code {code}: {''.join(errors)[-300:]!r}"
        tally.take({"number": following, "outcome": "fault", "why": why})
        following += 1
    return following


def _lines_into(stream: object, put: object) -> None:
    for line in stream:  # type: ignore[attr-defined]
        put(line)  # type: ignore[operator]
    put("")  # type: ignore[operator]


def table(tallies: list[Tally], mutations: int) -> str:
    """The page of figures."""
    rows = [
        f"| {t.name} | {t.outcomes.total()} | {t.outcomes['read'] + t.outcomes['equal']} | "
        f"{t.outcomes['equal'] or '-'} | {t.outcomes['refused']} | {len(t.faults)} | {t.seconds:.0f} |"
        for t in tallies
    ]
    return "\n".join([
        "# Damaged files",
        "",
        f"Files of each kind were damaged at random {mutations} times (flipped bits, extreme numbers, pieces cut out,",
        "repeated or overwritten; in text also values, keys, cells, separators and encodings) and read. Each must lead",
        "to an answer, or to one line: no traceback, no crash, no wait of more than 20 s, no more than 2 GB of memory.",
        f"Made by `make fuzz` on {date.today()}.",
        "",
        "| kind | mutations | read | of those equal to the reference | refused in one line | faults | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
        "The references are nibabel, SimpleITK (NRRD, MetaImage), tifffile, Pillow (PNG) and pydicom. Where both",
        "read a damaged file, other values than the reference's count as a fault.",
        "",
    ])  # fmt: skip


def main() -> int:
    from fuzz.subjects import SUBJECTS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutations", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first mutation")
    parser.add_argument("--output", type=Path, help="a Markdown file for the figures")
    parser.add_argument("subjects", nargs="*", help=f"some of: {', '.join(SUBJECTS)}")
    asked = parser.parse_args()
    tallies = []
    for name in asked.subjects or SUBJECTS:
        tallies.append(run_subject(name, asked.mutations, first=asked.first))
        print(f"{name}: {dict(tallies[-1].outcomes)} in {tallies[-1].seconds:.0f} s", flush=True)
        for fault in tallies[-1].faults:
            print(f"  {fault}", flush=True)
    if asked.output is not None:
        asked.output.write_text(table(tallies, asked.mutations), encoding="utf-8")
    return 1 if any(tally.faults for tally in tallies) else 0


if __name__ == "__main__":
    sys.exit(main())
