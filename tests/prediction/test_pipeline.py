"""Three cases at a time: in order, each in its stage's thread, none lost whatever fails."""

from __future__ import annotations

import threading
import time

import pytest

from resvox.prediction.outcomes import CaseOutcome
from resvox.prediction.pipeline import Stages, run_stages


class Work:
    """Stages that note who did what when, and fail where they are told to."""

    def __init__(self, fails=(), present=()):
        self.fails, self.present = set(fails), set(present)
        self.events, self.closed, self.lock = [], [], threading.Lock()

    def note(self, stage, job):
        with self.lock:
            self.events.append((stage, job))
        if (stage, job) in self.fails:
            raise ValueError(f"{stage} of {job}")

    def admit(self, job):
        self.note("admit", job)
        return CaseOutcome(id=job, status="present") if job in self.present else None

    def read(self, job):
        self.note("read", job)
        return f"{job} read by {threading.current_thread().name}"

    def compute(self, job, read):
        assert read.startswith(f"{job} read by resvox-read")
        assert threading.current_thread() is threading.main_thread()
        self.note("compute", job)
        return job

    def write(self, job, made):
        assert made == job
        self.note("write", job)
        return CaseOutcome(id=job, status="written")

    def stages(self):
        return Stages(
            admit=self.admit,
            read=self.read,
            compute=self.compute,
            write=self.write,
            fail=lambda job, error: CaseOutcome(id=job, status="failed", reason=str(error), error=error),
            close=self.closed.append,
        )


def test_outcomes_come_in_order_and_every_admitted_case_is_closed_once():
    work = Work(fails={("admit", "b"), ("read", "c"), ("compute", "d"), ("write", "e")}, present={"f"})
    outcomes = list(run_stages("abcdefg", work.stages()))
    assert [(case.id, case.status) for case in outcomes] == [
        ("a", "written"),
        ("b", "failed"),
        ("c", "failed"),
        ("d", "failed"),
        ("e", "failed"),
        ("f", "present"),
        ("g", "written"),
    ]
    assert [case.reason for case in outcomes[1:5]] == ["admit of b", "read of c", "compute of d", "write of e"]
    assert sorted(work.closed) == ["a", "c", "d", "e", "g"]


def test_the_next_case_is_read_while_one_is_computed_and_only_that_one():
    work = Work()
    reading = {job: threading.Event() for job in "abcd"}
    real_read, real_compute = work.read, work.compute

    def read(job):
        reading[job].set()
        return real_read(job)

    def compute(job, read):
        following = chr(ord(job) + 1)
        if following in reading:
            assert reading[following].wait(5)  # it is begun though this one is not done
        time.sleep(0.01)
        assert not reading.get(chr(ord(job) + 2), threading.Event()).is_set()
        return real_compute(job, read)

    work.read, work.compute = read, compute
    assert len(list(run_stages("abcd", work.stages()))) == 4


def test_an_interrupt_in_the_network_ends_the_run_with_what_was_being_written():
    work = Work()

    def interrupted(job, read):
        if job == "b":
            raise KeyboardInterrupt
        return job

    work.compute = interrupted
    with pytest.raises(KeyboardInterrupt):
        list(run_stages("abc", work.stages()))
    assert ("write", "a") in work.events
    assert ("write", "b") not in work.events


def test_no_jobs_no_outcomes():
    assert list(run_stages([], Work().stages())) == []
