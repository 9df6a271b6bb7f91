"""Scratch: bounded, and empty afterwards, also after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from resvox.errors import StorageError
from resvox.storage import Scratch

KILLED = """
import os, sys
from resvox.storage import Scratch
with Scratch(sys.argv[1]) as scratch:
    (scratch.new_folder() / "scan.nii.gz").write_bytes(b"voxels")
    print(scratch.folder.name, flush=True)
    sys.stdin.read()
"""


def test_nothing_is_left(tmp_path):
    with Scratch(tmp_path / "scratch") as scratch:
        (scratch.new_folder() / "a").write_bytes(b"x")
        assert list((tmp_path / "scratch").glob("run-*/*/a"))
    assert list((tmp_path / "scratch").iterdir()) == []


def test_what_a_killed_process_left_is_swept_and_a_living_one_keeps_its_own(tmp_path):
    root = tmp_path / "scratch"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", KILLED, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    killed, living = (child.stdout.readline().strip() for child in children)
    os.kill(children[0].pid, signal.SIGKILL)
    children[0].wait()
    assert (root / killed).is_dir()
    with Scratch(root):
        assert not (root / killed).exists()
        assert (root / living).is_dir()
    children[1].communicate("")
    assert not (root / living).exists()


def test_space_is_bounded(tmp_path):
    with Scratch(tmp_path, limit_gb=1e-6) as scratch:  # 1000 bytes
        scratch.reserve(600)
        waiting = threading.Thread(target=scratch.reserve, args=(600,))
        waiting.start()
        waiting.join(0.1)
        assert waiting.is_alive()
        scratch.free(600)
        waiting.join(5)
        assert not waiting.is_alive()
        assert scratch.largest == 600
        scratch.free(600)
        scratch.reserve(5000)  # larger than the limit: alone
        assert scratch.used == 5000


def test_one_that_waits_ends_when_the_run_is_stopped(tmp_path):
    with Scratch(tmp_path, limit_gb=1e-6) as scratch:
        scratch.reserve(600)
        threading.Timer(0.05, scratch.close).start()
        with pytest.raises(StorageError, match="is being stopped"):
            scratch.reserve(600)


def test_a_disk_that_is_too_small_is_named(tmp_path):
    with Scratch(tmp_path) as scratch, pytest.raises(StorageError, match=r"GB free; expected .*RESVOX_SCRATCH"):
        scratch.reserve(10**18)


def test_a_limit_must_be_one(tmp_path):
    with pytest.raises(StorageError, match="a scratch of 0 GB"):
        Scratch(tmp_path, limit_gb=0)
