"""Folds that train at the same time: the GPU and the threads that the process of each gets."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest

import resvox.workflow.folds.training as folds_training
from resvox.machine import THREADS
from resvox.workflow import TrainOptions
from resvox.workflow.folds.folder import Folds, FoldsFolder
from resvox.workflow.folds.shares import GPUS

FOLDS = Folds(count=4, cases={"a": 0, "b": 1, "c": 2, "d": 3})


class StandIn:
    """A process that ends after some polls; it keeps the variables with which it was started."""

    polls = (5, 1, 5, 1)  # of each fold
    started: ClassVar[dict[int, dict[str, str]]] = {}

    def __init__(self, *, target, args):
        self.fold, self.pid, self.exitcode = args[1], 4711, 0
        self.left = self.polls[self.fold]

    def start(self):
        self.started[self.fold] = dict(os.environ)

    def is_alive(self):
        self.left -= 1
        return self.left > 0


def divided_variables():
    """Those that are set for each fold; PyTorch sets others when it is first asked for GPUs."""
    return {name: os.environ.get(name) for name in (GPUS, THREADS)}


@pytest.fixture
def started(monkeypatch):
    """Four folds, two at a time, on a machine of 16 processors of which this process may use 8; their variables."""

    def start(**options):
        monkeypatch.setattr(StandIn, "started", {})
        monkeypatch.setattr(folds_training, "POLL_SECONDS", 0)
        context = SimpleNamespace(Process=StandIn)
        monkeypatch.setattr(folds_training.multiprocessing, "get_context", lambda kind: context)
        monkeypatch.setattr(os, "cpu_count", lambda: 16)
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
        before = divided_variables()
        job = folds_training.FoldsJob(
            dataset=None, plan=None, folder=FoldsFolder(Path("run")), folds=FOLDS, colours={},
            options=TrainOptions(folds=4, folds_at_once=2, **options),
        )  # fmt: skip
        folds_training._train_at_once(job, [0, 1, 2, 3], str)
        assert divided_variables() == before
        return StandIn.started

    return start


def test_folds_at_once_get_the_gpu_that_is_free(started, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-abc")
    found = started(device="cuda")
    # folds 0 and 1 begin; 1 ends first, so that 2 follows on its GPU; then 0 ends
    assert [found[fold]["CUDA_VISIBLE_DEVICES"] for fold in range(4)] == ["5", "GPU-abc", "GPU-abc", "5"]


@pytest.mark.parametrize(("visible", "options"), [("3", {}), ("", {}), ("-1", {}), ("0,1", {"processes": 2})])
def test_no_gpu_is_chosen_where_there_is_no_choice(started, monkeypatch, visible, options):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert {each["CUDA_VISIBLE_DEVICES"] for each in started(**options).values()} == {visible}


def test_folds_at_once_divide_the_threads_that_may_be_used(started, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert {each["OMP_NUM_THREADS"] for each in started(device="cpu").values()} == {"4"}
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert {each["OMP_NUM_THREADS"] for each in started(device="cpu").values()} == {"3"}
