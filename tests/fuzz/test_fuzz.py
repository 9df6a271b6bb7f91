"""A few damaged files of the kinds that are read fast in every test run; 2,000 of each kind by ``make fuzz``."""

from __future__ import annotations

import warnings
from random import Random

import pytest
from fuzz.run import Tally, run_subject, table
from fuzz.subjects import SUBJECTS, Subject
from fuzz.worker import attempt

FAST = ["dataset.json (labels)", "manifest (labels)", "manifest (classes)", "plan", "NIfTI (.nii)", "TIFF"]


@pytest.mark.parametrize("name", FAST)
def test_damaged_files_are_read_or_refused_in_one_line(name, tmp_path):
    subject = SUBJECTS[name]
    (path,) = subject.make(tmp_path)
    data = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(40):
            path.write_bytes(subject.damage(data, Random(f"test {name}/{number}")))
            assert attempt(subject, path)["outcome"] != "fault", number


@pytest.mark.fuzz
@pytest.mark.parametrize("name", list(SUBJECTS))
def test_two_thousand_damaged_files(name):
    tally = run_subject(name, 2000)
    assert tally.faults == []
    assert tally.outcomes.total() == 2000


@pytest.mark.parametrize(
    ("error", "outcome"), [(None, "read"), (KeyError("x"), "fault"), (MemoryError(), "fault"), (OSError("x"), "fault")]
)
def test_anything_but_an_answer_or_one_line_is_a_fault(tmp_path, error, outcome):
    def read(path):
        if error is not None:
            raise error

    subject = Subject(make=lambda folder: [], read=read, damage=lambda data, rng: data)
    assert attempt(subject, tmp_path)["outcome"] == outcome


def test_the_table_of_figures():
    tally = Tally("NIfTI")
    for result in (
        {"outcome": "read", "why": "equal"},
        {"outcome": "refused"},
        {"outcome": "fault", "why": "x", "number": 3},
    ):
        tally.take(result)
    assert "| NIfTI | 3 | 1 | 1 | 1 | 1 | 0 |" in table([tally], 3)
    assert tally.faults == ["NIfTI mutation 3: x"]
