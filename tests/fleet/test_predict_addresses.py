"""`predict` with addresses: the same results as with local folders, and nothing lost or done twice."""

from __future__ import annotations

import io
import json
import logging
import re
import threading
import time
import tracemalloc
import zipfile

import fsspec
import nibabel
import numpy as np
import pytest
from storage.webserver import serving
from typer.testing import CliRunner
from volumes.dicom_slices import make_slice

from resvox.cli import app
from resvox.errors import InferenceError, StorageError
from resvox.fleet.inputs import Rows
from resvox.fleet.options import FleetOptions
from resvox.workflow import predict, status

MEMORY = fsspec.filesystem("memory")


def scans(folder, count=4):
    """Tiny scans, no two alike."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        array = np.random.default_rng(number).integers(-900, 900, (5, 6, 7)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), folder / f"c{number}.nii.gz")
    return folder


def uploaded(folder, bucket):
    for path in sorted(folder.iterdir()):
        MEMORY.pipe_file(f"{bucket}/scans/{path.name}", path.read_bytes())
    return f"{bucket}/scans/"


def results(bucket, name="out"):
    found = MEMORY.find(f"{bucket}/{name}")
    return {path.rpartition("/")[2]: MEMORY.cat_file(path) for path in found if "/.resvox/" not in path}


def local_results(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.nii.gz")}


def manifest(bucket, rows, name="all.jsonl"):
    MEMORY.pipe_file(f"{bucket}/{name}", "".join(json.dumps(row) + "\n" for row in rows).encode())
    return f"{bucket}/{name}"


@pytest.fixture
def model(make_model, threshold_engine):
    return make_model()


def test_the_same_results_as_from_a_folder(model, bucket, tmp_path):
    folder = scans(tmp_path / "in")
    first = predict(model, uploaded(folder, bucket), f"{bucket}/out")
    assert str(first) == "4 written"
    assert first.ok
    predict(model, folder, tmp_path / "plain")
    assert results(bucket) == local_results(tmp_path / "plain")
    again = predict(model, f"{bucket}/scans/", f"{bucket}/out")
    assert str(again) == "4 already done"
    assert not list((tmp_path / "scratch").glob("run-*"))


def test_into_a_local_folder(model, bucket, tmp_path):
    folder = scans(tmp_path / "in", 2)
    assert str(predict(model, uploaded(folder, bucket), tmp_path / "out")) == "2 written"
    predict(model, folder, tmp_path / "plain")
    assert local_results(tmp_path / "out") == local_results(tmp_path / "plain")


def test_from_a_local_folder_into_a_store(model, bucket, tmp_path):
    assert str(predict(model, scans(tmp_path / "in", 2), f"{bucket}/out")) == "2 written"
    assert set(results(bucket)) == {"c0.nii.gz", "c1.nii.gz"}


def test_a_model_by_its_address(model, bucket, tmp_path):
    MEMORY.pipe_file(f"{bucket}/models/liver.safetensors", model.read_bytes())
    scans(tmp_path / "in", 1)
    assert str(predict(f"{bucket}/models/liver.safetensors", tmp_path / "in", tmp_path / "out")) == "1 written"
    with pytest.raises(StorageError, match=r"none.safetensors: no such file"):
        predict(f"{bucket}/none.safetensors", tmp_path / "in", tmp_path / "out")


def test_a_changed_scan_or_model_is_done_again(make_model, model, bucket, tmp_path):
    folder = scans(tmp_path / "in", 3)
    uploaded(folder, bucket)
    predict(model, f"{bucket}/scans/", f"{bucket}/out")
    MEMORY.pipe_file(f"{bucket}/scans/c1.nii.gz", (folder / "c2.nii.gz").read_bytes())
    changed = predict(model, f"{bucket}/scans/", f"{bucket}/out")
    assert str(changed) == "1 written, 2 already done"
    assert results(bucket)["c1.nii.gz"] == results(bucket)["c2.nii.gz"]
    assert str(predict(model, f"{bucket}/scans/", f"{bucket}/out", overlap=0.5)) == "3 written"
    assert str(predict(model, f"{bucket}/scans/", f"{bucket}/out", overlap=0.5, overwrite=True)) == "3 written"
    MEMORY.rm_file(f"{bucket}/out/c0.nii.gz")
    assert str(predict(model, f"{bucket}/scans/", f"{bucket}/out", overlap=0.5)) == "1 written, 2 already done"


def test_bad_rows_have_reasons_and_the_others_are_done(model, bucket, tmp_path):
    uploaded(scans(tmp_path / "in", 2), bucket)
    MEMORY.pipe_file(f"{bucket}/scans/text.nii.gz", b"dear aunt")
    listed = manifest(
        bucket,
        [
            {"id": "good", "uri": "scans/c0.nii.gz", "site": "Bern"},
            {"id": "text", "uri": f"{bucket}/scans/text.nii.gz", "site": "Basel"},
            {"id": "none", "uri": "scans/none.nii.gz"},
            {"id": "a/b", "uri": "scans/c1.nii.gz"},
            {"id": "good", "uri": "scans/c1.nii.gz"},
            {"id": "kind", "uri": "sw3://scans/c1.nii.gz"},
        ],
    )
    items = []
    result = predict(model, listed, f"{bucket}/out", on_row=items.append)
    assert not result.ok
    reasons = {item.row.number: item.reason for item in items}
    assert reasons[1] == ""
    assert reasons[2].startswith(f"{bucket}/scans/text.nii.gz: not gzip")
    assert reasons[3].startswith(f"{bucket}/scans/none.nii.gz: no such file")
    assert "'a/b'" in reasons[4]
    assert f"a result called good exists already in {bucket}/out/, made from {bucket}/scans/c0" in reasons[5]
    assert "an address with sw3://" in reasons[6]
    assert all("\n" not in reason and str(tmp_path) not in reason for reason in reasons.values())
    found = status(f"{bucket}/out", rows=tmp_path / "rows.csv")
    assert found.done == 1
    assert sorted(failed.case for failed in found.failed) == ["none", "row-4", "row-6", "text"]
    text = (tmp_path / "rows.csv").read_text()
    assert "Bern" in text
    assert "Basel" in text


def test_archives_prefixes_and_web_servers(model, bucket, tmp_path):
    folder = scans(tmp_path / "in", 1)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.write(folder / "c0.nii.gz", "deep/c0.nii.gz")
    MEMORY.pipe_file(f"{bucket}/packed.zip", content.getvalue())
    predict(model, folder, tmp_path / "plain")
    wanted = local_results(tmp_path / "plain")["c0.nii.gz"]
    with serving() as web:
        web.files["/c0.nii.gz"] = (folder / "c0.nii.gz").read_bytes()
        web.faults["/c0.nii.gz"] = [503, "cut"]
        rows = [{"id": "zip", "uri": "packed.zip"}, {"id": "web", "uri": f"{web.url}/c0.nii.gz?sig=secret"}]
        assert str(predict(model, manifest(bucket, rows), f"{bucket}/out")) == "2 written"
    assert results(bucket) == {"zip.nii.gz": wanted, "web.nii.gz": wanted}
    everything = b"".join(MEMORY.cat_file(path) for path in MEMORY.find(f"{bucket}/out/.resvox"))
    assert b"secret" not in everything


def test_credentials_are_in_no_log(model, bucket, tmp_path, monkeypatch, caplog, capfd):
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_CONNECTION_STRING"):
        monkeypatch.setenv(name, "hunter2-secret")
    caplog.set_level(logging.DEBUG)
    with serving() as web:
        rows = [{"id": "web", "uri": f"{web.url.replace('//', '//me:hunter2-secret@')}/none.nii.gz?sig=hunter2-secret"}]
        result = predict(model, manifest(bucket, rows), f"{bucket}/out", on_row=lambda item: print(item.reason))
    assert not result.ok
    written = b"".join(MEMORY.cat_file(path) for path in MEMORY.find(f"{bucket}/out"))
    shown = capfd.readouterr()
    own = "".join(record.getMessage() for record in caplog.records if record.name.startswith("resvox"))
    assert "none.nii.gz" in shown.out
    for text in (written.decode(), shown.out, shown.err, own, str(result)):
        assert "hunter2" not in text


def test_seven_parts_two_of_them_twice_are_one_run(model, bucket, tmp_path):
    folder = scans(tmp_path / "in", 12)
    uploaded(folder, bucket)
    rows = [
        {"id": path.stem.removesuffix(".nii"), "uri": f"scans/{path.name}", "bytes": path.stat().st_size}
        for path in folder.iterdir()
    ]
    listed = manifest(bucket, rows)
    predict(model, listed, f"{bucket}/whole")
    for part in (1, 2, 3, 4, 5, 6, 7, 3, 6):
        predict(model, listed, f"{bucket}/out", fleet=FleetOptions(shard=f"{part}/7"))
    assert results(bucket) == results(bucket, "whole")
    assert len(results(bucket)) == 12
    runs = list(MEMORY.find(f"{bucket}/out/.resvox/status"))
    lines = [json.loads(line) for path in runs for line in MEMORY.cat_file(path).splitlines()]
    done = [line["case"] for line in lines if line.get("status") == "written"]
    assert sorted(done) == sorted(row["id"] for row in rows)  # each once


def test_parts_of_a_local_folder(model, tmp_path):
    folder = scans(tmp_path / "in", 6)
    predict(model, folder, tmp_path / "whole")
    for part in (1, 2, 3):
        predict(model, folder, tmp_path / "out", fleet=FleetOptions(shard=f"{part}/3"))
    assert local_results(tmp_path / "out") == local_results(tmp_path / "whole")


def test_an_array_job_does_its_part(model, bucket, tmp_path, monkeypatch):
    uploaded(scans(tmp_path / "in", 6), bucket)
    notes = []
    for index in range(3):
        monkeypatch.setenv("JOB_COMPLETION_INDEX", str(index))
        monkeypatch.setenv("RESVOX_SHARDS", "3")
        predict(model, f"{bucket}/scans/", f"{bucket}/out", on_note=notes.append)
    assert len(results(bucket)) == 6
    assert notes[0] == "part 1/3 (by JOB_COMPLETION_INDEX) of the manifest; --shard 1/1 does all of it"


def test_a_folder_of_results_that_cannot_be_written_to_is_named_before_any_scan(model, bucket, tmp_path):
    uploaded(scans(tmp_path / "in", 1), bucket)
    (tmp_path / "file").write_text("x")
    with pytest.raises((StorageError, OSError)):
        predict(model, f"{bucket}/scans/", tmp_path / "file" / "out")
    with pytest.raises(StorageError, match="results on a web server"):
        predict(model, f"{bucket}/scans/", "https://host/out")
    with pytest.raises(InferenceError, match=r"-o seg.nii.gz, which is a file by its name"):
        predict(model, f"{bucket}/scans/", "seg.nii.gz")
    with pytest.raises(InferenceError, match="--report with addresses"):
        predict(model, f"{bucket}/scans/", f"{bucket}/out", report=True)


def test_status_while_and_after(model, bucket, tmp_path):
    with pytest.raises(StorageError, match="no run has worked here"):
        status(f"{bucket}/out")
    uploaded(scans(tmp_path / "in", 3), bucket)
    MEMORY.pipe_file(f"{bucket}/scans/bad.nii.gz", b"x")
    during = []
    predict(
        model, f"{bucket}/scans/", f"{bucket}/out", fleet=FleetOptions(core_hour_price=0.05),
        on_row=lambda item: during.append(status(f"{bucket}/out")),
    )  # fmt: skip
    assert all(found.total == 4 for found in during)
    found = status(f"{bucket}/out", core_hour_price=0.05)
    assert (found.done, found.working, len(found.failed)) == (3, 0, 1)
    assert found.failed[0].kind == "scan cannot be read"
    tally = found.tally
    assert {"check", "fetch", "read", "preprocess", "network", "write", "upload"} <= set(tally.seconds)
    assert tally.bytes["in"] == sum(path.stat().st_size for path in (tmp_path / "in").iterdir())
    assert tally.per_hour > 0
    assert tally.cost_per_1000 == pytest.approx(0.05 * tally.core_hours_per_1000)
    assert {case for _, case in tally.slowest} == {"c0", "c1", "c2"}
    MEMORY.pipe_file(f"{bucket}/scans/bad.nii.gz", (tmp_path / "in/c0.nii.gz").read_bytes())
    predict(model, f"{bucket}/scans/", f"{bucket}/out")
    assert status(f"{bucket}/out").failed == []


def left_claim(bucket, case, deaths):
    claim = {"case": case, "token": "t", "counts": True, "deaths": deaths, "expires": time.time() - 1}
    MEMORY.pipe_file(f"{bucket}/out/.resvox/claims/{case}.json", json.dumps(claim).encode())


def test_a_case_that_ended_a_process_is_done_last_and_alone_and_after_two_set_aside(model, bucket, tmp_path):
    uploaded(scans(tmp_path / "in", 4), bucket)
    left_claim(bucket, "c0", deaths=0)
    left_claim(bucket, "c1", deaths=1)
    items = []
    predict(model, f"{bucket}/scans/", f"{bucket}/out", on_row=items.append)
    assert [(item.row.id, item.status) for item in items] == [
        ("c2", "written"), ("c3", "written"), ("c0", "written"), ("c1", "failed"),
    ]  # fmt: skip
    assert re.search(r"c1.nii.gz: 2 processes ended while they worked on it .*--retry-aside", items[-1].reason)
    assert str(predict(model, f"{bucket}/scans/", f"{bucket}/out")) == "3 already done, 1 failed"
    again = predict(model, f"{bucket}/scans/", f"{bucket}/out", fleet=FleetOptions(retry_aside=True))
    assert str(again) == "1 written, 3 already done"
    assert status(f"{bucket}/out").working == 0


def test_a_case_of_another_process_is_waited_for_and_then_done(model, bucket, tmp_path):
    uploaded(scans(tmp_path / "in", 2), bucket)
    left_claim(bucket, "c0", deaths=0)
    place = f"{bucket}/out/.resvox/claims/c0.json"
    claim = {**json.loads(MEMORY.cat_file(place)), "counts": False, "expires": time.time() + 1}
    MEMORY.pipe_file(place, json.dumps(claim).encode())
    items = []
    assert str(predict(model, f"{bucket}/scans/", f"{bucket}/out", on_row=items.append)) == "2 written"
    assert [item.row.id for item in items] == ["c1", "c0"]


def test_a_store_that_does_not_answer_is_asked_again_at_the_end(model, bucket, tmp_path, monkeypatch):
    monkeypatch.setattr("resvox.storage.failures.TRIES", 2)
    folder = scans(tmp_path / "in", 1)
    with serving() as web:
        rows = [{"id": name, "uri": f"{web.url}/{name}.nii.gz"} for name in ("a", "b", "c")]
        for name in "abc":
            web.files[f"/{name}.nii.gz"] = (folder / "c0.nii.gz").read_bytes()
        web.faults["/a.nii.gz"] = [503] * 4
        web.faults["/b.nii.gz"] = [503] * 1000
        items = []
        result = predict(model, manifest(bucket, rows), f"{bucket}/out", on_row=items.append)
    assert [(item.row.id, item.status) for item in items] == [("c", "written"), ("a", "written"), ("b", "failed")]
    assert result.tally.kinds == {"store did not answer": 1}
    assert items[-1].reason.startswith(f"{web.url}/b.nii.gz: cannot be read after 2 tries (HTTP status 503)")


def test_the_command_line(model, bucket, tmp_path):
    folder = scans(tmp_path / "in", 2)
    (folder / "bad.nii.gz").write_text("x")
    uploaded(folder, bucket)
    run = CliRunner().invoke(app, ["predict", str(model), f"{bucket}/scans/", "-o", f"{bucket}/out", "--profile"])
    assert run.exit_code == 1
    assert f"error: {bucket}/scans/bad.nii.gz: not gzip" in " ".join(run.stderr.split())
    assert f"2 written, 1 failed -> {bucket}/out/" in run.stdout
    assert "scans an hour" in run.stdout
    shown = CliRunner().invoke(app, ["status", f"{bucket}/out", "--json"])
    found = json.loads(shown.stdout)
    assert (found["done"], found["failed"]) == (2, 1)
    words = CliRunner().invoke(app, ["status", f"{bucket}/out", "--core-hour-price", "0.05"]).stdout
    assert "2 of 3 done, 0 in work, 1 failed" in words
    assert "1 x scan cannot be read" in words
    assert "per core hour" in words
    wrong = CliRunner().invoke(app, ["predict", str(model), "s4://x/y.nii.gz", "-o", f"{bucket}/out"])
    assert wrong.stderr.startswith("error: s4://x/y.nii.gz: an address with s4://")


ROWS = 2_000


def test_memory_does_not_grow_with_the_manifest(model, bucket, tmp_path):
    """Rows whose results are there; `make test-fleet` does it with a hundred times as many."""
    small, large = (peak_of(model, bucket, tmp_path, count) for count in (ROWS // 10, ROWS))
    assert large - small < 500_000, (small, large)  # 2,000 rows that are kept take 1.5 MB and more


def peak_of(model, bucket, folder, count):
    """The most bytes that Python held while a manifest of rows that are done was gone through."""
    uploaded(scans(folder / "in", 1), bucket)
    one = predict(model, f"{bucket}/scans/", f"{bucket}/out")
    assert one.ok
    path = folder / f"{count}.csv"
    path.write_text("id,uri,site\n" + "".join(f"c0,{bucket}/scans/c0.nii.gz,{number}\n" for number in range(count)))
    tracemalloc.start()
    try:
        result = predict(model, path, f"{bucket}/out")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(result) == f"{count} already done"
    return peak


def test_scans_that_do_not_fit_into_scratch_together_are_done_one_after_the_other(model, bucket, tmp_path):
    uploaded(scans(tmp_path / "in"), bucket)
    size = max(path.stat().st_size for path in (tmp_path / "in").iterdir())
    MEMORY.pipe_file(f"{bucket}/scans/c1.nii.gz", b"x" * size)  # one of them cannot be read
    found = []
    options = FleetOptions(scratch_gb=1.5 * size / 1e9)
    run = threading.Thread(
        target=lambda: found.append(predict(model, f"{bucket}/scans/", f"{bucket}/out", fleet=options)), daemon=True
    )
    run.start()
    run.join(120)
    assert not run.is_alive(), "it waits for space for ever"
    assert str(found[0]) == "3 written, 1 failed"


def test_an_upload_that_is_refused_leaves_a_record(model, bucket, tmp_path, monkeypatch):
    uploaded(scans(tmp_path / "in", 1), bucket)

    def refused(source, location):
        raise StorageError("no permission", path=str(location))

    monkeypatch.setattr("resvox.fleet.runner.upload", refused)
    assert not predict(model, f"{bucket}/scans/", f"{bucket}/out").ok
    kept = json.loads(MEMORY.cat_file(f"{bucket}/out/.resvox/failed/c0.json"))
    assert "no permission" in kept["reason"]


def test_a_web_address_writes_nothing_outside_scratch(model, bucket, tmp_path):
    victim = tmp_path / "victim.nii.gz"
    with serving() as web:
        for up in range(12):
            web.files[f"/x/{'..%2f' * up}{str(victim).strip('/').replace('/', '%2f')}"] = b"taken"
        rows = [{"id": f"r{number}", "uri": f"{web.url}{path}"} for number, path in enumerate(web.files)]
        result = predict(model, manifest(bucket, rows), f"{bucket}/out")
    assert not result.ok
    assert not victim.exists()


def test_text_files_beside_scans_are_no_series(model, bucket, tmp_path):
    uploaded(scans(tmp_path / "in", 2), bucket)
    for name in ("README", "CHANGES", "Makefile", "sub/notes"):
        MEMORY.pipe_file(f"{bucket}/scans/{name}", b"text of a data set " * 20)
    assert str(predict(model, f"{bucket}/scans/", f"{bucket}/out")) == "2 written"


def test_a_series_without_endings_is_found_once(model, bucket, tmp_path):
    for number in range(4):
        make_slice(np.zeros((6, 7), np.int16), position=(0, 0, number)).save_as(tmp_path / "one")
        name = f"IM{number}" if number != 2 else "b/IM2"
        MEMORY.pipe_file(f"{bucket}/scans/{name}", (tmp_path / "one").read_bytes())
    rows = list(Rows([f"{bucket}/scans/"], tmp_path, channel_names=("CT",)))
    assert sorted(row.uris for row in rows) == [(f"{bucket}/scans/",), (f"{bucket}/scans/b/",)]
