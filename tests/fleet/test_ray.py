"""Scans in a store with the protocol of S3, done by actors of Ray: the same results, whatever is killed.

Slow: `make test-fleet`; RESVOX_FLEET_SCANS=2000 RESVOX_FLEET_KILLS=30 is the full size.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from fleet.faulty import faulty
from fleet.store import s3_server
from fleet.test_predict_addresses import local_results, scans

import resvox

pytestmark = pytest.mark.fleet
SCANS = int(os.environ.get("RESVOX_FLEET_SCANS", "200"))
KILLS = int(os.environ.get("RESVOX_FLEET_KILLS", "3"))
KEYS = {"AWS_ACCESS_KEY_ID": "test-key", "AWS_SECRET_ACCESS_KEY": "hunter2-secret", "AWS_DEFAULT_REGION": "us-east-1"}
SOURCE = Path(resvox.__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def store():
    """The port of a server with the protocol of S3."""
    with s3_server() as port:
        yield port


@pytest.fixture
def client(store, monkeypatch):
    """fsspec's client of that server."""
    import s3fs

    for name, value in {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{store}"}.items():
        monkeypatch.setenv(name, value)
    return s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)


@pytest.fixture
def bucket(client):
    name = f"bucket-{random.randrange(10**9)}"
    client.mkdir(name)
    return name


def command(words, *, tmp_path, endpoint, code="from resvox.cli import main; main()", **more):
    environment = {
        **os.environ, **KEYS, "PYTHONPATH": f"{SOURCE}", "AWS_ENDPOINT_URL": endpoint,
        "RESVOX_SCRATCH": str(tmp_path / "scratch"), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)], env=environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, **more,
    )  # fmt: skip


def filled(client, bucket, folder):
    """The scans of a folder in a bucket, with their manifest there."""
    rows = []
    for path in sorted(folder.iterdir()):
        client.pipe_file(f"{bucket}/scans/{path.name}", path.read_bytes())
        rows.append(
            {"id": path.name.removesuffix(".nii.gz"), "uri": f"scans/{path.name}", "bytes": path.stat().st_size}
        )
    client.pipe_file(f"{bucket}/all.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows).encode())
    return f"s3://{bucket}/all.jsonl"


def results(client, bucket):
    found = client.find(f"{bucket}/out")
    return {path.rpartition("/")[2]: client.cat_file(path) for path in found if "/.resvox/" not in path}


def finished(child, timeout=570):
    out, err = child.communicate(timeout=timeout)
    assert child.returncode == 0, out + err
    return out


@pytest.fixture
def plain(make_model, tmp_path, store):
    """A folder of scans, and what `predict` makes of it on one machine."""
    folder = scans(tmp_path / "in", SCANS)
    start = time.monotonic()
    words = ("predict", make_model(), folder, "-o", tmp_path / "plain", "--engine", "torch-plain", "--processes", "2")
    finished(command(words, tmp_path=tmp_path, endpoint=f"http://127.0.0.1:{store}"))
    print(f"\nplain folder, 2 processes: {SCANS} scans, {time.monotonic() - start:.1f} s with the start")
    return folder, local_results(tmp_path / "plain")


def ray_words(make_model, listed, bucket):
    return (
        "predict", make_model(), listed, "-o", f"s3://{bucket}/out", "--engine", "torch-plain", "--cluster", "ray",
        "--workers", "2", "--profile",
    )  # fmt: skip


def test_all_results_are_those_of_one_machine(make_model, plain, client, bucket, store, tmp_path):
    folder, wanted = plain
    words = ray_words(make_model, filled(client, bucket, folder), bucket)
    start = time.monotonic()
    out = finished(command(words, tmp_path=tmp_path, endpoint=f"http://127.0.0.1:{store}"))
    print(f"Ray, 2 workers, S3: {time.monotonic() - start:.1f} s with the start\n{out}")
    assert results(client, bucket) == wanted
    again = finished(command(words, tmp_path=tmp_path, endpoint=f"http://127.0.0.1:{store}"))
    assert f"{SCANS} already done" in again


def test_a_store_with_faults(make_model, plain, client, bucket, store, tmp_path):
    folder, wanted = plain
    words = ray_words(make_model, filled(client, bucket, folder), bucket)
    with faulty(store, 0.05) as (address, counts):
        finished(command(words, tmp_path=tmp_path, endpoint=address))
    print(dict(counts))
    assert counts["busy"]
    assert counts["cut"]
    assert results(client, bucket) == wanted


def test_the_address_of_a_cluster_that_is_gone_is_not_taken(make_model, tmp_path):
    folder, place = scans(tmp_path / "in", 2), Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
    (place / "ray").mkdir()
    (place / "ray/ray_current_cluster").write_text("127.0.0.1:1")
    code = f"import os; os.environ['RAY_TMPDIR'] = {str(place)!r}; from resvox.cli import main; main()"
    words = ("predict", make_model(), folder, "-o", tmp_path / "out", "--engine", "torch-plain", "--cluster", "ray")
    finished(command((*words, "--workers", "1"), tmp_path=tmp_path, endpoint="http://127.0.0.1:9", code=code))
    shutil.rmtree(place, ignore_errors=True)
    assert len(local_results(tmp_path / "out")) == 2


def working(client, bucket):
    """The processes that hold claims."""
    pids = set()
    for path in client.find(f"{bucket}/out/.resvox/claims"):
        try:
            pids.add(json.loads(client.cat_file(path))["pid"])
        except (FileNotFoundError, ValueError):
            continue
    return sorted(pids)


@pytest.mark.parametrize("who", ["actor", "driver"])
def test_kills(make_model, plain, client, bucket, store, tmp_path, who):
    folder, wanted = plain
    words = ray_words(make_model, filled(client, bucket, folder), bucket)
    endpoint = f"http://127.0.0.1:{store}"
    chance, kills = random.Random(who), 0
    while kills < KILLS:
        child = command(words, tmp_path=tmp_path, endpoint=endpoint, start_new_session=True)
        while child.poll() is None:
            pids = working(client, bucket)
            if not pids:
                time.sleep(0.2)
                continue
            time.sleep(chance.random())
            target = chance.choice(pids) if who == "actor" else child.pid
            try:
                os.kill(target, signal.SIGKILL)
            except ProcessLookupError:
                continue
            kills += 1
            if who == "driver" or kills >= KILLS:
                break
            time.sleep(3)
        if who == "driver":
            child.wait()
            kept = results(client, bucket)
            assert all(kept[name] == wanted[name] for name in kept)  # none half
        else:
            child.communicate()
        if len(results(client, bucket)) == len(wanted):
            break
    print(f"{kills} kills of {who}")
    assert kills
    finished(command((*words, "--retry-aside"), tmp_path=tmp_path, endpoint=endpoint))
    assert results(client, bucket) == wanted
    assert working(client, bucket) == []


POISON = """
import os
import resvox.fleet.runner as runner
read = runner.FleetRunner._read
def ends(self, ahead, job):
    if any(item.row.id == "c1" for item in job.todo):
        os.kill(os.getpid(), 9)
    return read(self, ahead, job)
runner.FleetRunner._read = ends
"""


def test_a_scan_that_ends_its_actor_is_set_aside(make_model, client, bucket, store, tmp_path):
    folder = scans(tmp_path / "in", 12)
    words = ray_words(make_model, filled(client, bucket, folder), bucket)
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(
        "import sys\nclass Finder:\n    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'resvox.fleet.actor':\n            sys.meta_path.remove(self)\n"
        f"            exec({POISON!r}, {{}})\n        return None\nsys.meta_path.insert(0, Finder())\n"
    )
    code = (
        f"import os; os.environ['PYTHONPATH'] = {str(tmp_path / 'site')!r} + ':' + os.environ['PYTHONPATH']; "
        "from resvox.cli import main; main()"
    )
    child = command(words, tmp_path=tmp_path, endpoint=f"http://127.0.0.1:{store}", code=code)
    out, err = child.communicate(timeout=300)
    assert child.returncode == 1, out + err
    assert "11 written, 1 failed" in out or "already done" in out
    assert "c1.nii.gz: 2 processes ended while they worked on it" in " ".join(err.split())
    assert sorted(results(client, bucket)) == sorted(f"c{number}.nii.gz" for number in range(12) if number != 1)


def test_no_voxel_is_in_the_object_store_of_ray_and_no_key_in_its_logs(make_model, client, bucket, store, tmp_path):
    folder = scans(tmp_path / "in", 20)
    words = ray_words(make_model, filled(client, bucket, folder), bucket)
    place = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # the names of sockets must be short
    code = (
        "import ray, sys; ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, "
        f"_temp_dir={str(place)!r}); from resvox.cli.app import app; import resvox.cli; "
        "app(standalone_mode=False); "
        "from ray._private.internal_api import memory_summary; print('SUMMARY', memory_summary(stats_only=True))"
    )
    out = finished(command(words, tmp_path=tmp_path, endpoint=f"http://127.0.0.1:{store}", code=code))
    print(out)
    assert "Plasma memory usage 0 MiB" in out
    logs = "".join(path.read_text(errors="replace") for path in place.rglob("*") if path.is_file())
    shutil.rmtree(place, ignore_errors=True)
    assert "hunter2" not in logs


def test_memory_of_the_driver_does_not_grow_with_the_manifest(make_model, store, tmp_path):
    """2,000 and 200,000 rows whose results exist."""
    folder = scans(tmp_path / "in", 1)
    words = ("--engine", "torch-plain", "--cluster", "ray", "--workers", "2", "-o", f"file://{tmp_path}/out")
    peaks = {}
    for count in (1, 2_000, int(os.environ.get("RESVOX_FLEET_ROWS", "200000"))):
        manifest = tmp_path / f"{count}.csv"
        manifest.write_text("id,uri\n" + f"c0,{folder}/c0.nii.gz\n" * count)
        child = command(
            ("predict", make_model(), manifest, *words), tmp_path=tmp_path, endpoint=f"http://127.0.0.1:{store}",
            code="from resvox.cli.app import app; import resvox.cli; app(standalone_mode=False); "
            "print('PEAK', next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))",
        )  # fmt: skip
        out = finished(child)
        peaks[count] = int(out.rpartition("PEAK")[2]) * 1024
    print({count: f"{peak / 1e6:.0f} MB" for count, peak in peaks.items()})
    assert max(peaks.values()) - peaks[2_000] < 40e6
