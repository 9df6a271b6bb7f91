"""The part of MONAI Label's protocol, called as its client and its OHIF extension call it."""

from __future__ import annotations

import email
import json

import numpy as np
import pytest
import requests
from server.toy import voxels, write_scan

from resvox import workflow


def parts(answer):
    """Name, file name and content of each part of a multipart answer."""
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + answer.content)
    return {
        part.get_param("name", header="content-disposition"): (part.get_filename(), part.get_payload(decode=True))
        for part in message.get_payload()
    }


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    return write_scan(tmp_path_factory.mktemp("scans") / "scan.nii.gz")


@pytest.fixture(scope="module")
def wanted(scan, models, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    return workflow.predict(models / "one", scan, out, engine="torch", precision="float32").cases[0].path


def test_info_names_models_and_labels(served):
    info = requests.get(f"{served.url}/info/", timeout=60).json()
    assert info["labels"] == ["bright", "dark"]
    assert info["models"]["one"]["labels"] == {"dark": 3, "bright": 7}
    assert info["models"]["one"]["type"] == "segmentation"
    assert {"trainers", "strategies", "scoring", "train_stats", "datastore"} <= set(info)


def test_slashes_are_exact(served):
    assert requests.get(f"{served.url}/info", timeout=60, allow_redirects=False).status_code == 404
    assert requests.get(f"{served.url}/train/", timeout=60).status_code == 404
    assert requests.get(f"{served.url}/auth/", timeout=60).json()["enabled"] is False


def test_a_session_is_made_used_and_removed(served, scan, wanted):
    made = requests.put(f"{served.url}/session/", files=[("files", ("Doe.nii.gz", scan.read_bytes()))], timeout=60)
    session = made.json()["session_id"]
    assert "Doe" not in made.text
    assert str(served.service.folders.root) not in made.text
    for _ in range(2):
        answer = requests.post(
            f"{served.url}/infer/one",
            params={"image": session, "session_id": session},
            data={"params": "{}"},
            timeout=60,
        )
        found = parts(answer)
        name, content = found["image"]
        assert name.endswith(".nii.gz")
        assert content == wanted.read_bytes()
        assert json.loads(found["params"][1])["label_names"] == {"dark": 3, "bright": 7}
    assert requests.get(f"{served.url}/session/{session}", timeout=60).status_code == 200
    assert requests.delete(f"{served.url}/session/{session}", timeout=60).status_code == 200
    assert requests.get(f"{served.url}/session/{session}", timeout=60).status_code == 404
    again = requests.post(f"{served.url}/infer/one", params={"session_id": session}, data={"params": "{}"}, timeout=60)
    assert again.status_code == 404
    folders = served.service.folders
    assert [*(folders.root / "jobs").iterdir(), *(folders.root / "sessions").iterdir(), *folders.spool.iterdir()] == []


def test_outputs(served, scan, wanted, tmp_path):
    def infer(output, **params):
        return requests.post(
            f"{served.url}/infer/one", params={"output": output}, data={"params": json.dumps(params)},
            files={"file": ("a.nii.gz", scan.read_bytes())}, timeout=60,
        )  # fmt: skip

    assert infer("image").content == wanted.read_bytes()
    assert infer("json").json()["label_names"] == {"dark": 3, "bright": 7}
    nrrd = infer("image", result_extension=".nrrd", result_dtype="uint8", result_compress=False)
    assert nrrd.content.startswith(b"NRRD")
    assert ".nrrd" in nrrd.headers["content-disposition"]
    refused = infer("dicom_seg")
    assert refused.status_code == 422
    assert "DICOM" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("params", "data", "status"),
    [
        ({}, {"params": "{}"}, 422),
        ({"image": "../../etc/passwd"}, {"params": "{}"}, 404),
        ({"image": "1.2.3"}, {"params": "{}"}, 404),
        ({"image": "1.2.3"}, {"params": "[]"}, 422),
        ({"image": "1.2.3"}, {"params": "{" * 2000}, 422),
        ({"image": "1.2.3"}, {"params": '{"result_extension": "/../x"}'}, 422),
        ({"session_id": "../.."}, {"params": "{}"}, 404),
    ],
)
def test_what_cannot_be_inferred_is_refused(served, params, data, status):
    answer = requests.post(f"{served.url}/infer/one", params=params, data=data, timeout=60)
    assert answer.status_code == status
    assert isinstance(answer.json()["detail"], str)


def test_a_bad_scan_has_its_reason_and_leaves_nothing(served, scan):
    answer = requests.post(
        f"{served.url}/infer/one",
        data={"params": "{}"},
        files={"file": ("a.nii.gz", scan.read_bytes()[:100])},
        timeout=60,
    )
    assert answer.status_code == 422
    assert "end-of-stream" in answer.json()["detail"]
    assert list((served.service.folders.root / "jobs").iterdir()) == []


def test_a_model_that_is_not_served_is_404(served, scan):
    answer = requests.post(f"{served.url}/infer/none", files={"file": ("a.nii.gz", scan.read_bytes())}, timeout=60)
    assert answer.status_code == 404


def test_voxels_are_those_of_predict(served, scan, wanted, tmp_path):
    answer = requests.post(
        f"{served.url}/infer/one",
        params={"output": "image"},
        files={"file": ("a.nii.gz", scan.read_bytes())},
        timeout=60,
    )
    (tmp_path / "got.nii.gz").write_bytes(answer.content)
    assert np.array_equal(voxels(tmp_path / "got.nii.gz"), voxels(wanted))
