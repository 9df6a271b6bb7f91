"""Programs of others against the server: MONAI Label's client, Orthanc, schemathesis."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest
import requests
from delivery.series import write_series
from server.processes import ServerProcess
from server.toy import until, voxels, write_scan

from resvox import workflow
from resvox.server.folders import size_of

pytestmark = pytest.mark.serve
CHOICES = ("--engine", "torch", "--precision", "float32", "--device", "cpu")
PREDICT = {"engine": "torch", "precision": "float32"}
TOKEN = "a-token-of-the-tests"


@pytest.mark.parametrize("token", ["", TOKEN])
def test_monai_labels_client_gets_the_label_map_of_predict(models, tmp_path, token):
    python = os.environ["RESVOX_MONAILABEL_PYTHON"]  # set by `make test-serve`
    scan = write_scan(tmp_path / "scan.nii.gz")
    wanted = workflow.predict(models / "one", scan, tmp_path / "out", **PREDICT).cases[0].path
    (tmp_path / "token").write_text(token)
    access = ("--token-file", str(tmp_path / "token")) if token else ()
    server = ServerProcess(tmp_path / "data", str(models / "one"), *CHOICES, *access).start()
    script = Path(__file__).with_name("monailabel_calls.py")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [python, str(script), server.url, str(scan), str(tmp_path), token],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers = json.loads(done.stdout)
    assert answers["auth"] is bool(token)
    assert answers["info"]["models"]["one"]["labels"] == {"dark": 3, "bright": 7}
    assert answers["params"]["label_names"] == {"dark": 3, "bright": 7}
    assert np.array_equal(voxels(answers["image"]), voxels(wanted))
    assert Path(answers["image"]).read_bytes() == wanted.read_bytes()
    from resvox.volumes import read_volume

    assert np.array_equal(read_volume(answers["nrrd"]).array, read_volume(wanted).array)
    assert size_of(server.data / "jobs") == size_of(server.data / "sessions") == 0
    assert server.stop() == 0


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


@pytest.fixture
def orthanc(tmp_path):
    """Orthanc with its DICOMweb plugin on the loopback; its URL."""
    program = shutil.which("Orthanc")
    assert program is not None, "make test-serve installs orthanc and orthanc-dicomweb"
    port = free_port()
    config = {
        "Name": "test", "StorageDirectory": str(tmp_path / "orthanc"), "IndexDirectory": str(tmp_path / "orthanc"),
        "HttpPort": port, "DicomServerEnabled": False, "RemoteAccessAllowed": False, "AuthenticationEnabled": True,
        "RegisteredUsers": {"resvox": "secret"}, "Plugins": ["/usr/share/orthanc/plugins/libOrthancDicomWeb.so"],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }  # fmt: skip
    (tmp_path / "orthanc").mkdir()
    (tmp_path / "orthanc.json").write_text(json.dumps(config))
    log = (tmp_path / "orthanc.log").open("w")
    process = subprocess.Popen([program, str(tmp_path / "orthanc.json")], stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"

    def answers():
        try:
            return requests.get(f"{url}/dicom-web/studies", auth=("resvox", "secret"), timeout=5).ok
        except requests.RequestException:
            return False

    until(answers, 60)
    yield url
    process.terminate()
    process.wait(60)
    log.close()


def test_a_series_comes_from_orthanc_and_its_segmentation_goes_back(models, tmp_path, orthanc):
    import pydicom
    from dicomweb_client.api import DICOMwebClient

    series = write_series(tmp_path / "series")
    datasets = [pydicom.dcmread(path) for path in series.iterdir()]
    session = requests.Session()
    session.auth = ("resvox", "secret")
    client = DICOMwebClient(f"{orthanc}/dicom-web", session=session)
    client.store_instances(datasets)
    uid = str(datasets[0].SeriesInstanceUID)
    os.environ["RESVOX_SERVE_DICOMWEB_USER"] = "resvox:secret"
    try:
        server = ServerProcess(
            tmp_path / "data", str(models / "one"), *CHOICES, "--dicomweb", f"{orthanc}/dicom-web"
        ).start()
    finally:
        del os.environ["RESVOX_SERVE_DICOMWEB_USER"]
    body = {"model": "one", "series_uid": uid, "push": True}
    job = requests.post(f"{server.url}/jobs/fetch", json=body, timeout=60).json()
    job = requests.get(f"{server.url}/jobs/{job['id']}", params={"wait": 30}, timeout=60).json()
    assert job["state"] == "done", job

    wanted = workflow.predict(models / "one", series, tmp_path / "out", dicom="seg", **PREDICT).cases[0].path
    (tmp_path / "got.nii.gz").write_bytes(requests.get(server.url + job["files"]["labels"]["url"], timeout=60).content)
    assert np.array_equal(voxels(tmp_path / "got.nii.gz"), voxels(wanted))

    found = client.search_for_series(search_filters={"Modality": "SEG"})
    assert [each["0020000E"]["Value"][0] for each in found] == [job["pushed"]["SeriesInstanceUID"]]
    back = client.retrieve_instance(*job["pushed"].values())
    own = pydicom.dcmread(tmp_path / "out" / "series_seg.dcm")
    assert back.PixelData == own.PixelData
    assert back.SOPInstanceUID == own.SOPInstanceUID
    assert [each.SegmentLabel for each in back.SegmentSequence] == [each.SegmentLabel for each in own.SegmentSequence]
    assert back.PerFrameFunctionalGroupsSequence == own.PerFrameFunctionalGroupsSequence
    back.save_as(tmp_path / "back.dcm", enforce_file_format=True)
    labels = workflow.convert_labels(tmp_path / "back.dcm", tmp_path / "back.nii.gz", scan=series)
    assert set(labels.labels) >= {"dark", "bright"}

    ohif = requests.post(
        f"{server.url}/infer/one", params={"image": uid, "output": "image"}, data={"params": "{}"}, timeout=60
    )
    assert ohif.content == (tmp_path / "got.nii.gz").read_bytes()
    missing = requests.post(f"{server.url}/jobs/fetch", json={**body, "series_uid": "1.2.3.4"}, timeout=60).json()
    missing = requests.get(f"{server.url}/jobs/{missing['id']}", params={"wait": 30}, timeout=60).json()
    assert "no such series" in missing["reason"]
    assert server.stop() == 0


def test_schemathesis_finds_no_5xx_and_no_undocumented_status(models, tmp_path):
    program = os.environ["RESVOX_SCHEMATHESIS"]  # set by `make test-serve`
    server = ServerProcess(
        tmp_path / "data", str(models / "one"), *CHOICES, "--max-queue", "5000", "--max-upload-mb", "20"
    ).start()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    done = subprocess.run(
        [program, "run", f"{server.url}/openapi.json", "--checks", checks, "--max-examples", "60", "--seed", "1",
         "--phases", "examples,coverage,fuzzing,stateful", "--request-timeout", "60", "--continue-on-failure",
         "--no-color"],
        capture_output=True, text=True, env=environment, cwd=tmp_path,
    )  # fmt: skip
    print(done.stdout[-6000:])
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert requests.get(f"{server.url}/healthz", timeout=60).ok
    assert "unexpected error" not in server.logs[0].read_text()
    assert server.stop() == 0


def test_beyond_the_loopback_a_token_is_needed(models, tmp_path):
    with pytest.raises(AssertionError, match="without a token"):
        ServerProcess(tmp_path / "data", str(models / "one"), "--host", "0.0.0.0").start()
    assert not (tmp_path / "data").exists()
