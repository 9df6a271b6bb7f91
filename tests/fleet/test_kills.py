"""Processes that are ended in the middle: every case is done once, none half, none lost. Slow: `make test-fleet`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fleet.test_predict_addresses import local_results, scans

import resvox
from resvox.fleet.layout import OutputFolder
from resvox.storage import Location
from resvox.workflow import status

pytestmark = pytest.mark.fleet

POISON = """
import os, sys
import resvox.prediction.segmenter as segmenter
read = segmenter.Segmenter.read
def ends(self, case):
    if case.id == "c1":
        os.kill(os.getpid(), 9)
    return read(self, case)
segmenter.Segmenter.read = ends
from resvox.cli import main
main()
"""


@pytest.fixture
def command(make_model, tmp_path):
    def run(*words, code="from resvox.cli import main; main()", **more):
        source = Path(resvox.__file__).resolve().parents[1]
        environment = {**os.environ, "PYTHONPATH": str(source), "RESVOX_SCRATCH": str(tmp_path / "scratch")}
        return subprocess.Popen(
            [sys.executable, "-c", code, *map(str, words)], env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more,
        )  # fmt: skip

    return run


def test_a_scan_that_ends_its_process_is_set_aside_and_the_others_are_done(make_model, tmp_path, command):
    folder = scans(tmp_path / "in", 4)
    out = f"file://{tmp_path}/out"
    words = ("predict", make_model(), f"file://{folder}/", "-o", out, "--engine", "torch-plain")
    ended = [command(*words, code=POISON).wait() for _ in range(3)]
    assert ended == [-9, -9, 1]
    assert sorted(local_results(tmp_path / "out")) == ["c0.nii.gz", "c2.nii.gz", "c3.nii.gz"]
    (failed,) = status(out).failed
    assert failed.kind == "set aside"
    assert re.search(r"c1.nii.gz: 2 processes ended while they worked on it .*--retry-aside", failed.reason)
    assert status(out).working == 0
    again = command(*words, "--retry-aside")
    assert again.wait() == 0
    assert len(local_results(tmp_path / "out")) == 4


def test_a_job_that_is_stopped_gives_back_its_claims(make_model, tmp_path, command):
    folder = scans(tmp_path / "in", 40)
    out = tmp_path / "out"
    words = ("predict", make_model(), f"file://{folder}/", "-o", f"file://{out}", "--engine", "torch-plain")
    child = command(*words)
    deadline = time.monotonic() + 120
    while not list(out.glob("*.nii.gz")) and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.02)
    child.send_signal(signal.SIGTERM)
    _, shown = child.communicate(timeout=120)
    assert child.returncode in (0, 130), shown
    assert status(out).working == 0
    assert not list((tmp_path / "scratch").glob("run-*"))
    assert command(*words).wait() == 0
    assert len(local_results(out)) == 40
    for path in out.glob("*.nii.gz"):
        assert OutputFolder(Location.parse(out)).done(path.name.removesuffix(".nii.gz"))["files"] == {
            path.name: path.stat().st_size
        }
