"""`kill -9` of worker and server at random moments: no accepted job is lost, and none is done twice."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter

import pytest
import requests
from server.processes import ServerProcess
from server.toy import write_scan

from resvox import workflow
from resvox.server.folders import size_of

pytestmark = pytest.mark.serve
KILLS = 20
CHOICES = ("--engine", "torch", "--precision", "float32", "--device", "cpu", "--max-queue", "1000")


class Submitter(threading.Thread):
    """Sends jobs until it is stopped; what was answered 202 counts as accepted."""

    def __init__(self, server, scans):
        super().__init__(daemon=True)
        self.server, self.scans, self.accepted, self.end = server, scans, {}, threading.Event()

    def run(self):
        number = 0
        while not self.end.wait(0.15):
            name = sorted(self.scans)[number % len(self.scans)]
            number += 1
            try:
                answer = requests.post(
                    f"{self.server.url}/jobs", data={"model": "one"},
                    files=[("files", ("scan.nii.gz", self.scans[name]))], timeout=60,
                )  # fmt: skip
            except requests.RequestException:
                continue  # not accepted: the server was killed meanwhile
            if answer.status_code == 202:
                self.accepted[answer.json()["id"]] = name


def test_no_accepted_job_is_lost_or_done_twice(models, tmp_path):
    paths = [write_scan(tmp_path / f"scan{number}.nii.gz", seed=number, shape=(60, 60, 40)) for number in range(3)]
    wanted = workflow.predict(models / "one", paths, tmp_path / "out", engine="torch", precision="float32")
    expected = {path.name: case.path.read_bytes() for path, case in zip(paths, wanted.cases, strict=True)}
    server = ServerProcess(tmp_path / "data", str(models / "one"), *CHOICES).start()
    submitter = Submitter(server, {path.name: path.read_bytes() for path in paths})
    submitter.start()
    rng = random.Random(0)
    kinds = ["worker", "server"] * (KILLS // 2)
    rng.shuffle(kinds)
    for kind in kinds:
        time.sleep(rng.uniform(0.05, 2.5))
        if kind == "server":
            server.kill()
            server.start(ready=False)
        else:
            server.kill_worker()
    submitter.end.set()
    submitter.join()
    accepted = submitter.accepted
    assert len(accepted) > 20
    for job_id, name in accepted.items():
        while not (job := state(server, job_id))["finished"]:
            pass
        assert job["state"] == "done", job
        got = requests.get(server.url + job["files"]["labels"]["url"], timeout=60).content
        assert got == expected[name]
    done = Counter(
        line["job"]
        for log in server.logs
        for line in map(json.loads, filter(lambda text: text.startswith("{"), log.read_text().splitlines()))
        if line["event"] == "job over"
    )
    assert set(done.values()) <= {1}
    stored = {each["id"] for each in requests.get(f"{server.url}/jobs?limit=500", timeout=60).json()["jobs"]}
    assert set(accepted) <= stored
    for job_id in stored:
        state(server, job_id)
        assert requests.delete(f"{server.url}/jobs/{job_id}", timeout=60).status_code == 204
    assert server.stop() == 0
    assert size_of(server.data / "jobs") == size_of(server.data / "spool") == 0
    print(f"{len(accepted)} accepted jobs, {len(kinds)} kills, {len(server.logs)} servers")


def state(server, job_id):
    answer = requests.get(f"{server.url}/jobs/{job_id}", params={"wait": 30}, timeout=60)
    assert answer.status_code == 200, f"job {job_id} is lost"
    return answer.json()


def test_a_stop_finishes_or_requeues_and_a_second_server_is_refused(models, tmp_path):
    scan = write_scan(tmp_path / "scan.nii.gz", shape=(100, 100, 60)).read_bytes()
    server = ServerProcess(tmp_path / "data", str(models / "one"), *CHOICES).start()
    jobs = [
        requests.post(
            f"{server.url}/jobs", data={"model": "one"}, files={"files": ("a.nii.gz", scan)}, timeout=60
        ).json()
        for _ in range(6)
    ]
    with pytest.raises(AssertionError, match="another resvox serve uses this folder"):
        ServerProcess(tmp_path / "data", str(models / "one"), *CHOICES).start()
    assert server.stop() == 0
    assert server.workers == []
    server.start()
    for job in jobs:
        got = state(server, job["id"])
        assert (got["state"], got["attempts"]) == ("done", 0)
    assert server.stop() == 0
