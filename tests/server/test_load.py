"""200 jobs of 8 clients, 20 of them bad: right results, right reasons, bounded memory, nothing left on the disk."""

from __future__ import annotations

import io
import re
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests
from server.processes import ServerProcess
from server.test_jobs import BAD
from server.toy import write_scan

from resvox import workflow
from resvox.server.folders import size_of

pytestmark = pytest.mark.serve
JOBS, CLIENTS, GOOD = 200, 8, 6
ALLOWED_MB = 400  # of growth between the twentieth job and the last


def bad_uploads(good: bytes):
    """20 uploads that cannot be segmented: files, model, and the reason that is expected."""
    made = [([(name, make(good))], "one", reason) for name, make, reason in BAD.values()]
    pair = [("a.nii.gz", good), ("b.nii.gz", good)]
    made += [([("a.nii.gz", good)], "two", "2"), (pair, "one", "2 scans in one job")]
    encrypted = io.BytesIO()
    with zipfile.ZipFile(encrypted, "w") as archive:
        archive.writestr("a.dcm", b"x")
    made.append(([("a.zip", encrypted.getvalue()[:-10])], "one", "zip"))
    huge = np.frombuffer(bytes(good[:0]) + bytes(352), np.uint8).copy()
    huge[:4] = np.frombuffer(np.int32(348).tobytes(), np.uint8)
    huge[40:48] = np.frombuffer(np.array([3, 30000, 30000, 30000], np.int16).tobytes(), np.uint8)
    huge[70:74] = np.frombuffer(np.array([4, 16], np.int16).tobytes(), np.uint8)
    huge[76:92] = np.frombuffer(np.ones(4, np.float32).tobytes(), np.uint8)
    huge[108:112] = np.frombuffer(np.float32(352).tobytes(), np.uint8)
    huge[344:348] = np.frombuffer(b"n+1\0", np.uint8)
    made.append(([("a.nii", huge.tobytes())], "one", "million voxels by its header"))
    return (made * 2)[:20]


def test_200_jobs_of_8_clients(models, tmp_path):
    paths = [write_scan(tmp_path / f"s{number}.nii.gz", seed=number, shape=(40, 40, 30)) for number in range(GOOD)]
    made = workflow.predict(models / "one", paths, tmp_path / "out", engine="torch", precision="float32")
    good = [
        ([("Doe.nii.gz", path.read_bytes())], case.path.read_bytes())
        for path, case in zip(paths, made.cases, strict=True)
    ]
    bad = bad_uploads(paths[0].read_bytes())
    server = ServerProcess(
        tmp_path / "data", str(models / "one"), str(models / "two"), "--engine", "torch", "--precision", "float32",
        "--max-queue", "300", "--device", "cpu", "--max-upload-mb", "50", "--config", str(limits(tmp_path)),
    ).start()  # fmt: skip
    memory, watching = [], threading.Event()

    def watch():
        while not watching.wait(0.5):
            memory.append(server.memory_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()

    def one(number: int) -> str:
        is_bad = number % 10 == 7
        files, model, reason = bad[number // 10] if is_bad else (good[number % GOOD][0], "one", "")
        answer = requests.post(
            f"{server.url}/jobs", data={"model": model}, files=[("files", each) for each in files], timeout=120
        )
        if is_bad and answer.status_code == 422:
            assert re.search(reason, answer.json()["detail"])
            return "refused"
        assert answer.status_code == 202, answer.text
        job = answer.json()
        while not job["finished"]:
            job = requests.get(f"{server.url}/jobs/{job['id']}", params={"wait": 30}, timeout=60).json()
        if is_bad:
            assert job["state"] == "failed"
            assert re.search(reason, job["reason"]), (reason, job["reason"])
        else:
            assert job["state"] == "done", job
            got = requests.get(server.url + job["files"]["labels"]["url"], timeout=60).content
            assert got == good[number % GOOD][1]
        assert requests.delete(f"{server.url}/jobs/{job['id']}", timeout=60).status_code == 204
        return job["state"]

    with ThreadPoolExecutor(CLIENTS) as clients:
        outcomes = list(clients.map(one, range(JOBS)))
    watching.set()
    watcher.join()
    assert outcomes.count("done") == 180
    assert outcomes.count("failed") + outcomes.count("refused") == 20
    early = max(memory[: max(len(memory) // 10, 1)])
    print(f"resident memory: {early:.0f} MB early, {max(memory):.0f} MB at most")
    assert max(memory) < early + ALLOWED_MB
    data = server.data
    assert size_of(data / "jobs") == size_of(data / "spool") == size_of(data / "sessions") == 0
    assert list((data / "jobs").iterdir()) == []
    assert "Doe" not in server.logs[0].read_text()
    assert server.stop() == 0


def limits(folder):
    path = folder / "serve.toml"
    path.write_text("max_unpacked_mb = 5\nmax_megavoxels = 5\n")
    return path
