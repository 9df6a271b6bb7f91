"""Locks on cases: one owner, stale ones taken over, nothing left behind."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time

import pytest

import resvox.locks as claims_module
from resvox.locks import Claims


def test_a_case_has_one_holder_and_is_free_again_after_release(tmp_path):
    with Claims(tmp_path) as first, Claims(tmp_path) as second:
        assert first.take("a")
        assert not second.take("a")
        assert second.take("b")
        assert str(os.getpid()) in second.holder("a")
        first.release("a")
        assert second.take("a")


def test_the_folder_is_gone_when_the_last_one_ends(tmp_path):
    with Claims(tmp_path) as first:
        assert first.take("a")
        with Claims(tmp_path) as second:
            assert second.take("b")
        assert (tmp_path / ".claims").is_dir()  # the first still holds a claim
    assert not (tmp_path / ".claims").exists()


def test_of_many_threads_one_wins(tmp_path):
    won = []
    with Claims(tmp_path) as claims:
        gate = threading.Barrier(8)

        def race():
            gate.wait()
            if claims.take("a"):
                won.append(1)

        threads = [threading.Thread(target=race) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(won) == 1


def _leave_claim(folder, **changes):
    (folder / ".claims").mkdir(exist_ok=True)
    path = folder / ".claims" / "a.lock"
    content = {"token": "t", "pid": os.getpid(), "host": claims_module._host(), "born": ""}
    path.write_text(json.dumps({**content, **changes}))
    return path


def test_a_claim_of_a_dead_process_is_taken_over_at_once(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    _leave_claim(tmp_path, pid=dead.pid)
    with Claims(tmp_path) as claims:
        assert claims.take("a")


def test_a_claim_whose_number_was_given_to_another_process_is_taken_over(tmp_path):
    _leave_claim(tmp_path, born="1")  # this very process runs, but it was not born then
    with Claims(tmp_path) as claims:
        assert claims.take("a")


def test_a_claim_of_another_machine_is_respected_until_it_is_old(tmp_path):
    path = _leave_claim(tmp_path, host="elsewhere", pid=1)
    with Claims(tmp_path, stale_seconds=60) as claims:
        assert not claims.take("a")
        old = time.time() - 61
        os.utime(path, (old, old))
        assert claims.take("a")


def test_a_claim_cut_off_while_written_is_respected_until_it_is_old(tmp_path):
    (tmp_path / ".claims").mkdir()
    path = tmp_path / ".claims" / "a.lock"
    path.write_text("")
    with Claims(tmp_path, stale_seconds=60) as claims:
        assert not claims.take("a")
        assert claims.holder("a") == "another process"
        os.utime(path, (1, 1))
        assert claims.take("a")


def test_a_held_claim_is_kept_fresh(tmp_path):
    with Claims(tmp_path, beat_seconds=0.01) as claims:
        assert claims.take("a")
        path = tmp_path / ".claims" / "a.lock"
        os.utime(path, (1, 1))
        for _ in range(500):
            if path.stat().st_mtime > 1:
                break
            time.sleep(0.01)
        assert path.stat().st_mtime > 1


def test_a_claim_lost_to_another_is_left_to_it(tmp_path):
    with Claims(tmp_path) as claims:
        assert claims.take("a")
        path = _leave_claim(tmp_path, token="another process")
        claims.release("a")
        assert path.exists()
        path.unlink()


def test_a_fresh_claim_set_aside_by_mistake_is_put_back(tmp_path):
    path = _leave_claim(tmp_path, token="fresh")
    with Claims(tmp_path) as claims:
        claims._remove_stale(path, {"token": "the stale one that was seen"})
        assert json.loads(path.read_text())["token"] == "fresh"
        path.unlink()


@pytest.mark.parametrize("text", ["[1]", "{", "null"])
def test_a_claim_that_is_no_claim_is_not_a_crash(tmp_path, text):
    (tmp_path / ".claims").mkdir()
    (tmp_path / ".claims" / "a.lock").write_text(text)
    with Claims(tmp_path) as claims:
        assert not claims.take("a")


def test_an_error_of_the_file_system_does_not_end_the_renewal_of_claims(tmp_path, monkeypatch):
    real, failures = os.utime, []
    path = tmp_path / ".claims" / "a.lock"

    def fails_at_first(*given, **named):
        if len(failures) < 3:
            failures.append(given)
            raise OSError(errno.ESTALE, "Stale file handle")
        real(*given, **named)

    with Claims(tmp_path, beat_seconds=0.01) as claims:
        assert claims.take("a")
        real(path, (1, 1))
        monkeypatch.setattr(os, "utime", fails_at_first)
        for _ in range(500):
            if path.stat().st_mtime > 1:
                break
            time.sleep(0.01)
        assert path.stat().st_mtime > 1
    assert len(failures) == 3


def test_a_claim_that_cannot_be_read_is_left_behind_without_an_error(tmp_path, monkeypatch):
    def broken(path):
        raise OSError(errno.EIO, "Input/output error")

    with Claims(tmp_path) as claims:
        assert claims.take("a")
        monkeypatch.setattr(claims_module, "_read", broken)
        claims.release("a")
        assert not claims._held
