"""One process that damages and reads one kind of file, with a limit on memory and time; a line of JSON per mutation.

``python -m fuzz.worker SUBJECT FIRST COUNT``: mutation N is the same in every run.
"""

from __future__ import annotations

import json
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from fuzz.subjects import SUBJECTS, Subject

from resvox.errors import ResvoxError

MEMORY_BYTES = 2 * 2**30  # of one read, on top of what the process has loaded
TIME_S = 20


class TimeIsUpError(BaseException):
    """A read took longer than `TIME_S`."""


def _alarm(*_: object) -> None:
    raise TimeIsUpError


def main(name: str, first: int, count: int) -> None:
    subject = SUBJECTS[name]
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _alarm)
    with tempfile.TemporaryDirectory() as folder:
        pristine = Path(folder) / "pristine"
        pristine.mkdir()
        names = [path.relative_to(pristine) for path in subject.make(pristine)]
        pristine_data = {each: (pristine / each).read_bytes() for each in names}
        whole = Path(folder) / "damaged"
        shutil.copytree(pristine, whole)
        if not name.startswith("dataset.json"):
            subject.read(whole / names[0])  # imports everything, and shows that the undamaged file is read
        limit = _used_bytes() + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for number in range(first, first + count):
            rng = Random(f"{name}/{number}")
            victim = rng.choice(names)
            path = whole / victim
            path.write_bytes(subject.damage(pristine_data[victim], rng))
            print(json.dumps({"number": number, **attempt(subject, path)}), flush=True)
            path.write_bytes(pristine_data[victim])


def attempt(subject: Subject, path: Path) -> dict[str, Any]:
    """What reading a file leads to: an answer, a refusal in one line, or a fault."""
    signal.alarm(TIME_S)
    try:
        answer = subject.read(path)
    except ResvoxError as error:
        text = str(error)
        return {"outcome": "refused"} if "\n" not in text and text else {"outcome": "fault", "why": f"lines: {text!r}"}
    except TimeIsUpError:
        return {"outcome": "fault", "why": f"longer than {TIME_S} s"}
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        why = f"{type(error).__name__}: {str(error)[:160]} ({Path(last.filename).name}:{last.lineno})"
        return {"outcome": "fault", "why": why}
    finally:
        signal.alarm(0)
    return {"outcome": "read", "why": ""} if subject.reference is None else compare(answer, subject, path)


def compare(answer: Any, subject: Subject, path: Path) -> dict[str, Any]:
    """The answer beside that of the reference reader, where that has one."""
    assert subject.reference is not None
    try:
        expected = np.asarray(subject.reference(path))
    except Exception:
        return {"outcome": "read", "why": ""}
    if expected.shape != answer.shape:
        return {"outcome": "fault", "why": f"shape {answer.shape}, reference reader {expected.shape}"}
    scale = np.nanmax(np.abs(expected.astype(np.float64)), initial=1.0)
    if not np.allclose(answer, expected, rtol=1e-5, atol=1e-6 * float(scale), equal_nan=True):
        return {"outcome": "fault", "why": "values unlike the reference reader's"}
    return {"outcome": "read", "why": "equal"}


def _used_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
