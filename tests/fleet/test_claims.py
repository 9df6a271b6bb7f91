"""Claims and records in a store: one process does a case, and what a dead one had is done by another."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from resvox.errors import StorageError
from resvox.fleet.claims import ObjectClaims
from resvox.fleet.layout import Maker, OutputFolder, refuse_other_source
from resvox.fleet.statuses import read_status
from resvox.locks import describe_process
from resvox.storage import Location
from resvox.storage.objects import write_bytes


@pytest.fixture
def out(bucket):
    return OutputFolder(Location.parse(f"{bucket}/out"))


def test_one_holder(out):
    with ObjectClaims(out) as first, ObjectClaims(out) as second:
        assert first.take("a").taken
        held = second.take("a")
        assert not held.taken
        assert held.owner.startswith("process ")
        first.release("a")
        assert second.take("a").taken
    assert out.record("claims", "a") is None


def leave(out, case, **changes):
    claim = {"case": case, "token": "t", "worker": "w", "counts": True, "deaths": 0, "expires": time.time() + 600}
    write_bytes(out.place("claims", case), json.dumps({**claim, **describe_process(), **changes}).encode())


def test_the_claim_of_a_process_that_has_ended_is_taken_over_and_counted(out):
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    with ObjectClaims(out) as claims:
        leave(out, "a", pid=child.pid)
        assert claims.take("a", if_deaths=False).deaths == 1
        assert out.record("claims", "a")["token"] == "t"  # untouched
        held = claims.take("a")
        assert (held.taken, held.deaths) == (True, 1)
        leave(out, "b", pid=child.pid, counts=False)
        held = claims.take("b", if_deaths=False)
        assert (held.taken, held.deaths) == (True, 0)


def test_a_claim_of_another_machine_ends_when_it_expires(out):
    with ObjectClaims(out) as claims:
        leave(out, "a", host="elsewhere|pid:[1]")
        assert not claims.take("a").taken
        leave(out, "a", host="elsewhere|pid:[1]", expires=time.time() - 1)
        assert claims.take("a").taken


def test_a_claim_of_a_worker_that_is_known_to_be_gone(out):
    with ObjectClaims(out, gone=["w"]) as claims:
        leave(out, "a", host="elsewhere|pid:[1]")
        assert claims.take("a").taken


def test_a_claim_is_renewed_while_it_is_held(out):
    with ObjectClaims(out, lease_s=0.3) as claims:
        claims.take("a")
        first = out.record("claims", "a")["expires"]
        deadline = time.monotonic() + 10
        while out.record("claims", "a")["expires"] == first and time.monotonic() < deadline:
            time.sleep(0.05)
        assert out.record("claims", "a")["expires"] > first


def test_a_claim_that_was_taken_over_is_left_to_its_holder(out):
    with ObjectClaims(out, lease_s=0.2) as claims:
        claims.take("a")
        claims._held["a"]["expires"] = 0.0
        leave(out, "a", token="other")
        claims.release("a")
        assert out.record("claims", "a")["token"] == "other"


def test_a_result_is_done_with_its_files_and_its_record(out):
    assert out.done("a") is None
    write_bytes(out.location / "a.nii.gz", b"12345")
    assert out.done("a") is None  # a file without a record
    assert out.finish("a", {"case": "a", "files": {"a.nii.gz": 5}})
    assert out.done("a")["case"] == "a"
    assert not out.finish("a", {"case": "a", "files": {}})  # of two that did it, one is first
    write_bytes(out.location / "a.nii.gz", b"123")
    assert out.done("a") is None
    write_bytes(out.place("done", "a"), b'{"case": ')
    assert out.done("a") is None


def test_another_model_or_other_options_are_another_maker():
    maker = Maker(model="m", settings={"axes": (0, 1)})
    record = {"model": "m", "settings": {"axes": [0, 1]}}
    assert maker.made(record)
    assert not maker.made({**record, "model": "n"})
    assert not maker.made({**record, "settings": {}})


def test_another_scan_of_the_same_name_is_refused():
    record = {"case": "a", "sources": [{"uri": "s3://b/1/a.nii"}]}
    refuse_other_source(record, [{"uri": "s3://b/1/a.nii", "etag": "new"}], Location.parse("s3://o/"))
    with pytest.raises(
        StorageError, match=r"^s3://b/2/a.nii: a result called a exists already in s3://o/, made from s3://b/1"
    ):
        refuse_other_source(record, [{"uri": "s3://b/2/a.nii"}], Location.parse("s3://o/"))


def test_a_claim_beside_its_result_is_swept_and_a_living_one_stays(out):
    leave(out, "a", expires=0)
    leave(out, "b", expires=0)
    leave(out, "c", token="other")
    for case in ("a", "c"):
        out.finish(case, {"case": case, "files": {}})
    ObjectClaims(out).sweep()
    assert out.record("claims", "a") is None
    assert out.record("claims", "b") is not None  # whose process ended before the result
    assert out.record("claims", "c") is not None
    assert read_status(out.location).working == 0
    leave(out, "d")
    assert read_status(out.location).working == 1


def test_a_claim_is_renewed_after_a_write_that_failed(out, monkeypatch):
    """A network file system may fail once (ESTALE, EIO) without the claim being lost."""
    failed = []

    def failing_once(location, content):
        if not failed:
            failed.append(location)
            raise OSError(116, "Stale file handle")
        write_bytes(location, content)

    with ObjectClaims(out, lease_s=0.3) as claims:
        claims.take("a")
        first = out.record("claims", "a")["expires"]
        monkeypatch.setattr("resvox.fleet.claims.write_bytes", failing_once)
        deadline = time.monotonic() + 10
        while out.record("claims", "a")["expires"] == first and time.monotonic() < deadline:
            time.sleep(0.05)
        assert failed
        assert out.record("claims", "a")["expires"] > first
