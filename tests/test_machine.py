"""Threads and cache folders, as the environment names them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from resvox.errors import ResvoxError
from resvox.inference.engines.cache import KEPT, write_cached
from resvox.machine import engine_cache_folder, prepared_cases_folder, usable_threads
from resvox.training.run_folder import RunFolder


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch, tmp_path):
    for name in ("RESVOX_CACHE", "RESVOX_PREPARED", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def test_threads(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert usable_threads() == 3
    for value in ("", "0", "many", "-1"):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert usable_threads() >= 1


@pytest.mark.parametrize(
    ("cache", "prepared", "engines_in", "cases_in"),
    [
        (None, None, "home/.cache/resvox/engines", None),
        ("", None, None, None),
        ("{}/c", None, "c", "c/prepared"),
        ("{}/c", "{}/p", "c", "p"),
        ("{}/c", "", "c", None),
        (None, "{}/p", "home/.cache/resvox/engines", "p"),
        ("~/c", "~/p", "home/c", "home/p"),
        ("  ~/c ", None, "home/c", "home/c/prepared"),
    ],
)
def test_folders(monkeypatch, tmp_path, cache, prepared, engines_in, cases_in):
    for name, value in (("RESVOX_CACHE", cache), ("RESVOX_PREPARED", prepared)):
        if value is not None:
            monkeypatch.setenv(name, value.format(tmp_path))
    assert engine_cache_folder() == (None if engines_in is None else tmp_path / engines_in)
    assert prepared_cases_folder() == (None if cases_in is None else tmp_path / cases_in)
    run = RunFolder(tmp_path / "run")
    assert run.cache == (tmp_path / cases_in if cases_in else tmp_path / "run" / "cache")


def test_a_home_folder_that_is_not_known_is_named(monkeypatch):
    monkeypatch.setenv("RESVOX_CACHE", "~no-such-user-here/c")
    with pytest.raises(ResvoxError, match=r"RESVOX_CACHE='~no-such-user-here/c', and no home folder is known for it"):
        engine_cache_folder()


def test_the_engine_cache_removes_only_its_own_files(monkeypatch, tmp_path):
    """Both variables may name one folder, and a user may keep other files there."""
    monkeypatch.setenv("RESVOX_CACHE", str(tmp_path))
    monkeypatch.setenv("RESVOX_PREPARED", str(tmp_path))
    others = [tmp_path / f"{number}{'0' * 31}{ending}" for number in range(8) for ending in (".json", ".ov", ".npy")]
    others += [tmp_path / f"case_{number}-0123456789abcdef" / "image.npy" for number in range(8)]
    others += [tmp_path / "notes.txt", tmp_path / ".notes.0123abcd.partial", tmp_path / ".hidden"]
    for path in others:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    for number in range(KEPT + 8):
        write_cached(f"{number:032x}.ov", b"compiled")
    assert [path for path in others if not path.is_file()] == []
    assert len(list(Path(tmp_path).rglob("*"))) == len(others) + 8 + KEPT


class Started:
    """Instead of processes: what each one would see of its threads."""

    def __init__(self) -> None:
        self.threads: list[str | None] = []

    def Pipe(self, duplex):
        from resvox.prediction.outcomes import PredictResult

        result = PredictResult(cases=(), out=Path())
        return SimpleNamespace(recv=lambda: result), SimpleNamespace(close=lambda: None)

    def Process(self, target, args, daemon=False):
        def start():
            numbers = [str(each) for each in args if isinstance(each, int)]
            self.threads.append(numbers[-1] if numbers else os.environ.get("OMP_NUM_THREADS"))

        return SimpleNamespace(
            start=start, is_alive=lambda: False, join=lambda: None, pid=1, exitcode=0, terminate=lambda: None
        )


@pytest.fixture
def started(monkeypatch):
    """No process is started; this one may use 8 of 64 processors."""
    found = Started()
    monkeypatch.setattr("multiprocessing.get_context", lambda method: found)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return found


@pytest.mark.parametrize(("named", "threads"), [(None, "4"), ("3", "3")])
def test_processes_share_the_processors_unless_the_user_names_a_number(monkeypatch, started, named, threads):
    from resvox.prediction import processes
    from resvox.prediction.cases import Work
    from resvox.prediction.options import Callbacks, PredictOptions
    from resvox.prediction.outcomes import PredictResult

    if named is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", named)
    torch = SimpleNamespace(count=8, get_num_threads=lambda: torch.count, set_num_threads=lambda n: seen.append(n))
    seen: list[int] = []
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(processes, "_placed", lambda options, rank: options)

    def first(options, callbacks, work):
        started.threads.append(str(usable_threads()))
        return PredictResult(cases=(), out=Path())

    monkeypatch.setattr(processes, "predict_cases", first)
    processes.predict_in_processes(PredictOptions(model="m", processes=2), Callbacks(), Work(cases=()))
    assert started.threads == [threads, threads]
    assert os.environ.get("OMP_NUM_THREADS") == named
    assert seen == ([] if named else [4, 8])  # torch was imported before, with all of them
