"""Jobs over HTTP: results are those of `resvox predict`, bad scans fail alone with their reason, nothing is left."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
import requests
from server.toy import until, voxels, write_scan, zipped_series

from resvox import workflow
from resvox.server.folders import size_of

CHOICES = {"engine": "torch", "precision": "float32"}


def submit(served, files, model="one", **fields):
    return requests.post(
        f"{served.url}/jobs", data={"model": model, **fields}, files=[("files", each) for each in files], timeout=60
    )


def finished(served, answer):
    assert answer.status_code == 202, answer.text
    job = requests.get(f"{served.url}/jobs/{answer.json()['id']}", params={"wait": 30}, timeout=60).json()
    assert job["state"] in ("done", "failed", "cancelled"), job
    return job


def download(served, job, kind, path):
    answer = requests.get(served.url + job["files"][kind]["url"], timeout=60)
    assert answer.status_code == 200
    path.write_bytes(answer.content)
    return path


def removed(served, job):
    assert requests.delete(f"{served.url}/jobs/{job['id']}", timeout=60).status_code == 204


@pytest.fixture(autouse=True)
def nothing_is_left(served):
    yield
    for job in requests.get(f"{served.url}/jobs", params={"limit": 500}, timeout=60).json()["jobs"]:
        removed(served, job)
    folders = served.service.folders
    assert size_of(folders.root / "jobs") == size_of(folders.spool) == 0
    assert list((folders.root / "jobs").iterdir()) == []


def test_a_label_map_is_that_of_predict(served, models, tmp_path):
    scan = write_scan(tmp_path / "scan.nii.gz")
    job = finished(served, submit(served, [("Xanthippe, Jane.nii.gz", scan.read_bytes())], report="true"))
    assert job["state"] == "done", job
    got = download(served, job, "labels", tmp_path / "got.nii.gz")
    wanted = workflow.predict(models / "one", scan, tmp_path / "out", **CHOICES).cases[0].path
    assert np.array_equal(voxels(got), voxels(wanted))
    assert got.read_bytes() == wanted.read_bytes()
    assert set(np.unique(voxels(got))) == {0, 3, 7}
    assert set(job["volumes_ml"]) == {"dark", "bright"}
    page = download(served, job, "view", tmp_path / "view.html").read_text()
    assert "Xanthippe" not in page
    assert "niivue" in page
    with zipfile.ZipFile(download(served, job, "report", tmp_path / "report.zip")) as archive:
        assert archive.namelist() == ["report.html", "views/scan.html"]
    assert "seg" not in job["files"]


@pytest.mark.parametrize("name", ["nrrd", "seg.nrrd", "mha", "nii"])
def test_formats(served, models, tmp_path, name):
    from resvox.volumes import read_volume

    scan = write_scan(tmp_path / "scan.nii")
    job = finished(served, submit(served, [("a.nii", scan.read_bytes())], format=name))
    got = read_volume(download(served, job, "labels", tmp_path / f"got.{name}"))
    wanted = read_volume(workflow.predict(models / "one", scan, tmp_path / "out", **CHOICES).cases[0].path)
    assert np.array_equal(got.array, wanted.array)
    assert got.grid.matches(wanted.grid)


def test_a_zipped_series_has_a_segmentation_of_its_slices(served, models, tmp_path):
    import pydicom

    job = finished(served, submit(served, [("study.zip", zipped_series(tmp_path / "series"))], dicom="seg"))
    assert job["state"] == "done", job
    wanted = workflow.predict(models / "one", tmp_path / "series", tmp_path / "out", dicom="seg", **CHOICES)
    got = download(served, job, "labels", tmp_path / "got.nii.gz")
    assert np.array_equal(voxels(got), voxels(wanted.cases[0].path))
    seg = pydicom.dcmread(download(served, job, "seg", tmp_path / "got.dcm"))
    other = pydicom.dcmread(tmp_path / "out" / "series_seg.dcm")
    assert seg.PixelData == other.PixelData
    assert seg.SeriesInstanceUID == other.SeriesInstanceUID


@pytest.mark.parametrize("cut", [None, 100])
def test_a_scan_is_removed_when_its_job_is_over(served, tmp_path, cut):
    scan = write_scan(tmp_path / "a.nii.gz").read_bytes()[:cut]
    job = finished(served, submit(served, [("a.nii.gz", scan)]))
    folder = served.service.folders.job(job["id"])
    until(lambda: not (folder / "upload").exists(), 10)
    until(lambda: not (folder / "work").exists(), 10)
    assert (folder / "result").exists() == (cut is None)


def test_loose_files_of_a_series_are_one_scan(served, tmp_path):
    zipped_series(tmp_path / "series")
    files = [(path.name, path.read_bytes()) for path in (tmp_path / "series").iterdir()]
    job = finished(served, submit(served, files))
    assert job["state"] == "done", job
    assert "seg" in job["files"]


def test_channels_are_files_in_the_order_given(served, models, tmp_path):
    scans = [write_scan(tmp_path / "in" / f"case_000{number}.nii.gz", seed=number) for number in range(2)]
    job = finished(served, submit(served, [(path.name, path.read_bytes()) for path in scans], model="two"))
    got = voxels(download(served, job, "labels", tmp_path / "got.nii.gz"))
    wanted = workflow.predict(models / "two", tmp_path / "in", tmp_path / "out", **CHOICES).cases[0].path
    assert np.array_equal(got, voxels(wanted))
    turned = finished(served, submit(served, [(path.name, path.read_bytes()) for path in scans[::-1]], model="two"))
    assert not np.array_equal(got, voxels(download(served, turned, "labels", tmp_path / "turned.nii.gz")))


def nrrd(sizes: str, extra: str = "") -> bytes:
    return f"NRRD0004\ntype: short\ndimension: 3\nsizes: {sizes}\n{extra}encoding: raw\n\n".encode()


def bomb() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.nii", bytes(6_000_000))
    return content.getvalue()


def leading_out() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("../../a.dcm", b"x")
    return content.getvalue()


BAD = {
    "truncated": ("a.nii.gz", lambda good: good[: len(good) // 2], "truncated or damaged gzip data"),
    "not an image": ("a.nii.gz", lambda good: b"hello", "header|gzip"),
    "not DICOM": ("IM0001", lambda good: b"hello", "no images"),
    "a bomb": ("a.zip", lambda good: bomb(), "unpacks to more than the limit"),
    "names": ("a.zip", lambda good: leading_out(), "leads out of it"),
    "not a zip": ("a.zip", lambda good: b"PK\3\4 no", "damaged or truncated zip"),
    "a large header": ("a.nrrd", lambda good: nrrd("30000 30000 30000"), "27,000,000 million voxels by its header"),
    "another file": ("a.nrrd", lambda good: nrrd("2 2 2", "data file: /etc/passwd\n"), "voxels are in another file"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_scan_fails_alone_with_its_reason(served, tmp_path, kind):
    name, make, reason = BAD[kind]
    good = write_scan(tmp_path / "good.nii.gz").read_bytes()
    bad = submit(served, [(name, make(good))])
    after = submit(served, [("good.nii.gz", good)])
    job = finished(served, bad)
    import re

    assert job["state"] == "failed"
    assert re.search(reason, job["reason"]), job["reason"]
    assert str(served.service.folders.root) not in job["reason"]
    assert job["kind"] in ("scan", "refused")
    assert finished(served, after)["state"] == "done"


def test_wrong_channels_are_named(served, tmp_path):
    good = write_scan(tmp_path / "good.nii.gz").read_bytes()
    assert "2" in finished(served, submit(served, [("a.nii.gz", good)], model="two"))["reason"]
    job = finished(served, submit(served, [("a.nii.gz", good), ("b.nii.gz", good)]))
    assert "2 scans in one job" in job["reason"]


def test_a_job_that_waits_is_cancelled_at_once_and_one_that_runs_at_its_next_window(served, tmp_path):
    scan = write_scan(tmp_path / "large.nii.gz", shape=(120, 120, 90)).read_bytes()
    running, waiting = (submit(served, [("a.nii.gz", scan)]).json() for _ in range(2))
    more = [submit(served, [("a.nii.gz", scan)]).json() for _ in range(2)]
    for job in (*more, waiting, running):
        assert requests.post(f"{served.url}/jobs/{job['id']}/cancel", timeout=60).status_code == 200
    for job in (running, waiting, *more):
        got = requests.get(f"{served.url}/jobs/{job['id']}", params={"wait": 30}, timeout=60).json()
        assert got["state"] == "cancelled", got


@pytest.mark.parametrize(
    ("fields", "status"),
    [({"model": "none"}, 404), ({"format": "exe"}, 422), ({"series": "../x"}, 422), ({"push": "true"}, 422)],
)
def test_requests_that_cannot_be_are_refused(served, tmp_path, fields, status):
    answer = submit(served, [("a.nii.gz", b"x")], **fields)
    assert answer.status_code == status
    assert isinstance(answer.json()["detail"], str)


@pytest.mark.parametrize(
    "path",
    ["/jobs/../../etc/passwd", "/jobs/..%2f..%2fetc%2fpasswd", "/jobs/%2e%2e/files/labels", "/assets/../app.py",
     "/assets/..%2fapp.py", "/session/..%2f..%2fjobs", "/jobs/" + 32 * "0" + "/files/..%2foutcome.json",
     "/jobs/" + 32 * "0" + "/files/labels", "//etc/passwd", "/assets/app.css/../../../../../etc/passwd"],
)  # fmt: skip
def test_no_path_of_a_request_is_one_of_the_disk(served, path):
    import http.client

    connection = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=60)
    connection.request("GET", path)  # as it is: clients such as requests shorten it
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status in (404, 405, 422)
    assert b"root:" not in body
    connection.close()


def test_the_view_has_no_access_to_the_servers_origin(served, tmp_path):
    job = finished(
        served, submit(served, [("a.nii.gz", write_scan(tmp_path / "a.nii.gz").read_bytes())], report="true")
    )
    answer = requests.get(served.url + job["files"]["view"]["url"], timeout=60)
    assert answer.headers["content-security-policy"].startswith("sandbox allow-scripts")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_models_and_figures(served):
    models = requests.get(f"{served.url}/models", timeout=60).json()["models"]
    assert [(each["name"], each["labels"]) for each in models] == [
        ("one", {"dark": 3, "bright": 7}),
        ("two", {"dark": 3, "bright": 7}),
    ]
    assert all("torch" in each["engine"] for each in models)
    assert requests.get(f"{served.url}/healthz", timeout=60).json() == {"status": "ok"}
    text = requests.get(f"{served.url}/metrics", timeout=60).text
    assert 'resvox_worker_up{device="cpu"} 1.0' in text


def test_the_log_holds_events_and_nothing_of_a_scan(served, tmp_path, caplog):
    import logging

    from resvox.server.logs import LOGGER, event

    scan = write_scan(tmp_path / "a.nii.gz").read_bytes()
    LOGGER.propagate = True
    with caplog.at_level(logging.INFO, logger=LOGGER.name):
        finished(served, submit(served, [("Doe_Jane_1950.nii.gz", scan)]))
        finished(served, submit(served, [("Doe_Jane_1950.nii.gz", scan[:50])]))
    lines = [json.loads(record.message) for record in caplog.records if record.name == LOGGER.name]
    assert {"job accepted", "job started", "job over", "request"} <= {line["event"] for line in lines}
    assert "Doe" not in caplog.text
    assert "gzip" not in caplog.text  # not even the reason
    with pytest.raises(ValueError, match="reason"):
        event("x", reason="Doe")
