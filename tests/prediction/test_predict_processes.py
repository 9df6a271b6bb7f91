"""What a kill leaves behind, and several processes on one folder; real processes, real signals."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import nibabel
import numpy as np
import pytest

from resvox.errors import InferenceError
from resvox.locks import Claims
from resvox.prediction import batch
from resvox.workflow import predict

SOURCE = Path(__file__).resolve().parents[2] / "src"


@pytest.fixture
def start_python():
    """Start a Python program in a process of its own; what still runs at the end is ended."""
    started = []

    def start(code: str, *arguments: object) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", textwrap.dedent(code), *map(str, arguments)],
            stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


# os.replace is the moment a label map appears: stopped just before the second, its file lies there half-named.
KILLED = """
    import os, sys, time
    from resvox.workflow import predict

    real, seen = os.replace, []
    def replace(source, target):
        if str(target).endswith(".nii.gz"):
            seen.append(target)
            if len(seen) == 2:
                print("writing", target)
                time.sleep(600)
        real(source, target)

    os.replace = replace
    predict(sys.argv[1], sys.argv[3:], sys.argv[2])
"""


def test_kill_9_leaves_no_half_written_map_and_a_rerun_does_the_rest(start_python, make_model, write_scan, tmp_path):
    scans = [write_scan(tmp_path / f"{name}.nii.gz") for name in ("a", "b")]
    out = tmp_path / "out"
    process = start_python(KILLED, make_model(), out, *scans)
    assert process.stdout.readline().startswith("writing")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert [path.name for path in out.glob("[!.]*.nii.gz")] == ["a.nii.gz"]
    assert np.asarray(nibabel.load(out / "a.nii.gz").dataobj).shape == (9, 10, 11)
    assert [path.name for path in (out / ".claims").iterdir()] == ["b.nii.gz.lock"]
    left_behind = list(out.glob(".b.*"))
    assert len(left_behind) == 1
    others = [out / f".{name}.0123abcd.partial.nii.gz" for name in ("b_too", "b.1", "a")]
    for other in others:  # another process's files of other cases stay
        other.touch()

    again = predict(make_model(), scans, out)
    assert [case.status for case in again.cases] == ["present", "written"]
    assert not left_behind[0].exists()
    assert all(other.exists() for other in others)
    assert not (out / ".claims").exists()
    assert np.asarray(nibabel.load(out / "b.nii.gz").dataobj).shape == (9, 10, 11)


SHARED = """
    import json, sys, time
    from resvox.workflow import predict

    result = predict(sys.argv[1], sys.argv[3:], sys.argv[2], on_windows=lambda *_: time.sleep(0.05))
    print(json.dumps({case.id: case.status for case in result.cases}))
"""


def test_two_processes_share_a_folder_and_do_each_case_once(start_python, make_model, write_scan, tmp_path):
    names = [f"case{number}" for number in range(6)]
    scans = [write_scan(tmp_path / f"{name}.nii.gz") for name in names]
    processes = [start_python(SHARED, make_model(), tmp_path / "out", *scans) for _ in range(2)]
    outcomes = [json.loads(process.communicate(timeout=300)[0].splitlines()[-1]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    written = [name for outcome in outcomes for name, status in outcome.items() if status == "written"]
    assert sorted(written) == names
    lines = (tmp_path / "out" / "predict.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["case"] for line in lines) == names
    assert not (tmp_path / "out" / ".claims").exists()


def test_a_case_that_another_process_does_not_finish_is_reported(make_model, write_scan, tmp_path, monkeypatch):
    monkeypatch.setattr(batch, "PATIENCE_SECONDS", 0)
    scan = write_scan(tmp_path / "a.nii.gz")
    with Claims(tmp_path / "out") as other:
        assert other.take("a.nii.gz")
        result = predict(make_model(), scan, tmp_path / "out")
    assert [case.status for case in result.cases] == ["elsewhere"]
    assert not result.ok
    assert str(result) == "1 left to another process"
    assert f"process {os.getpid()}" in result.cases[0].reason
    assert not (tmp_path / "out" / "a.nii.gz").exists()


@pytest.mark.parametrize("finishes", [True, False])
def test_a_case_of_another_process_is_waited_for_and_done_where_that_one_ends(
    make_model, write_scan, tmp_path, monkeypatch, finishes
):
    monkeypatch.setattr(batch, "QUIET_SECONDS", 0.0)
    scans = [write_scan(tmp_path / f"{name}.nii.gz") for name in "ab"]
    done = tmp_path / "done"
    predict(make_model(), scans, done)
    notes, seen = [], []

    def other_process(text):  # it ends while this one waits
        notes.append(text)
        if finishes:
            shutil.copy(done / "a.nii.gz", tmp_path / "out" / "a.nii.gz")
            line = (done / "predict.jsonl").read_text().splitlines()[0]
            with (tmp_path / "out" / "predict.jsonl").open("a") as log:
                log.write(line + "\n")
        other.release("a.nii.gz")

    with Claims(tmp_path / "out") as other:
        assert other.take("a.nii.gz")
        result = predict(make_model(), scans, tmp_path / "out", on_note=other_process, on_case=seen.append)
    assert [case.status for case in result.cases] == ["present" if finishes else "written", "written"]
    assert result.ok
    assert [case.id for case in seen] == ["b", "a"]
    assert re.fullmatch(rf"waiting for a, which process {os.getpid()} on \S+ is doing", notes[0])


def test_overwriting_does_not_redo_what_a_process_beside_has_just_redone(make_model, write_scan, tmp_path):
    scans = [write_scan(tmp_path / f"{name}.nii.gz") for name in "abcd"]
    predict(make_model(), scans, tmp_path / "out")
    for name in "abcd":
        os.utime(tmp_path / "out" / f"{name}.nii.gz", (1, 1))

    def meanwhile(outcome):  # the other process does d while this one does a, b and has claimed c
        os.utime(tmp_path / "out" / "d.nii.gz")

    result = predict(make_model(), scans, tmp_path / "out", overwrite=True, on_case=meanwhile)
    assert [case.status for case in result.cases] == ["written", "written", "written", "present"]


def test_processes_of_one_call_share_the_cases_and_tell_one_story(make_model, write_scan, tmp_path):
    names = [f"case{number}" for number in range(5)]
    scans = [write_scan(tmp_path / f"{name}.nii.gz") for name in names]
    (tmp_path / "text.nii.gz").write_text("no scan")
    heard = []
    result = predict(
        make_model(),
        [*scans, tmp_path / "text.nii.gz"],
        tmp_path / "out",
        processes=2,
        engine="torch",
        on_case=lambda outcome: heard.append((outcome.id, outcome.status)),
    )
    assert [(case.id, case.status) for case in result.cases] == [
        *((name, "written") for name in names),
        ("text", "failed"),
    ]
    assert set(heard) >= {(name, "written") for name in names}
    lines = [json.loads(line) for line in (tmp_path / "out" / "predict.jsonl").read_text().splitlines()]
    assert sorted(line["case"] for line in lines if line["status"] == "written") == names
    assert not (tmp_path / "out" / ".claims").exists()


def test_a_process_that_is_killed_is_told(make_model, write_scan, tmp_path, monkeypatch):
    import resvox.prediction.processes as processes

    monkeypatch.setattr(processes, "_work", _die)
    with pytest.raises(InferenceError, match=r"exit code 9 without a result.*fewer --processes"):
        predict(make_model(), write_scan(tmp_path / "a.nii.gz"), tmp_path / "out", processes=2, engine="torch")
    assert (tmp_path / "out" / "a.nii.gz").exists()


def _die(*arguments):
    os._exit(9)


@pytest.mark.parametrize(("ending", "device"), [(".xml", "auto"), (".pt", "cuda:1")])
def test_a_network_for_processors_alone_is_not_placed_on_a_gpu(make_model, tmp_path, monkeypatch, ending, device):
    import resvox.prediction.processes as processes
    from resvox.prediction.options import PredictOptions
    from resvox.weights import read_header

    monkeypatch.setattr("resvox.inference.engines.devices.gpu_count", lambda: 2)
    model = tmp_path / f"m{ending}"
    model.write_bytes(b"")
    described = {"file": model.name, "metadata": read_header(make_model()).metadata}
    model.with_suffix(".json").write_text(json.dumps(described))
    assert processes._placed(PredictOptions(model=model), 1).device == device
