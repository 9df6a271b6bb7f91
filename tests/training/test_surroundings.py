"""What a run's surroundings do to it: signals, kills, full disks, damaged files, other data, batch systems."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lightning_fabric import Fabric
from torch.multiprocessing import ProcessExitedException
from typer.testing import CliRunner

import resvox
from resvox import workflow
from resvox.cli import app
from resvox.errors import PlanError, ResvoxError, RunStoppedError
from resvox.locks import Claims
from resvox.training import draw_plan, fit, processes, read_dataset, take_fingerprint
from resvox.training.checkpoints import Progress, is_readable, load_checkpoint, save_checkpoint
from resvox.training.logs import MetricsFile, read_metrics
from resvox.training.run_folder import LOCK, RunFolder, changed_files, refuse_other_cases
from resvox.training.segmentation.task import Segmentation
from resvox.training.stopping import StopGuard, signals_wait, start_worker
from resvox.weights import read_header


@pytest.fixture
def dataset(folder_of):
    return read_dataset(folder_of(ids=("a", "b", "c")))


def at_step(step, what):
    """An ``on_step`` that calls ``what`` once."""

    def on_step(report):
        if report.step == step:
            what()

    return on_step


class KilledError(Exception):
    """Stands for kill -9: it ends the run where it is, without a checkpoint."""


def kill():
    raise KilledError


def run_to(step, dataset, plan, folder):
    """A run that is killed after a step."""
    with pytest.raises(KilledError):
        fit(dataset, plan, folder, on_step=at_step(step, kill), progress=False)


def same_runs(one, other):
    rows, wanted = (read_metrics(run / "metrics.csv") for run in (one, other))
    assert [row["step"] for row in rows] == [row["step"] for row in wanted]
    for row, twin in zip(rows, wanted, strict=True):
        for name in set(row) - {"seconds"}:
            assert row[name] == (None if twin[name] is None else pytest.approx(twin[name], rel=1e-5)), name
    model, twin = (resvox.load_model(run / "model.safetensors").state_dict() for run in (one, other))
    for name in twin:
        torch.testing.assert_close(model[name], twin[name], rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------------------ signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("step", [2, 3, 7])
def test_a_signal_ends_the_step_and_the_run_goes_on_as_if_nothing_had_happened(
    dataset, tiny_plan, tmp_path, number, step
):
    before = signal.getsignal(number)
    with pytest.raises(RunStoppedError) as caught:
        fit(
            dataset,
            tiny_plan,
            tmp_path / "run",
            progress=False,
            on_step=at_step(step, lambda: os.kill(os.getpid(), number)),
        )
    assert signal.getsignal(number) is before
    assert caught.value.exit_code == 75
    assert f"stopped by {signal.Signals(number).name} after step {step + 1}" in str(caught.value)
    assert "--resume goes on" in str(caught.value)
    assert load_checkpoint(tmp_path / "run/checkpoints/last.pt")["progress"].step == step + 1
    fit(dataset, tiny_plan, tmp_path / "run", resume=True, progress=False)
    fit(dataset, tiny_plan, tmp_path / "whole", progress=False)
    same_runs(tmp_path / "run", tmp_path / "whole")  # also where the stop came at a step that validates: 4 and 8


def test_a_signal_cuts_a_validation_short_and_the_resumed_run_makes_up_for_it(
    dataset, tiny_plan, tmp_path, monkeypatch
):
    validate = Segmentation.validate

    def stopped(self, cases, job, state):
        signal.raise_signal(signal.SIGTERM)
        state.check_stop()
        raise AssertionError("went on")

    with monkeypatch.context() as patched:
        patched.setattr(Segmentation, "validate", stopped)
        with pytest.raises(RunStoppedError):
            fit(dataset, tiny_plan, tmp_path / "run", progress=False)
    assert load_checkpoint(tmp_path / "run/checkpoints/last.pt")["progress"].validation_due
    assert Segmentation.validate is validate
    fit(dataset, tiny_plan, tmp_path / "run", resume=True, progress=False)
    fit(dataset, tiny_plan, tmp_path / "whole", progress=False)
    same_runs(tmp_path / "run", tmp_path / "whole")


@pytest.fixture
def python_ctrl_c():
    """Python's own reaction to Ctrl-C, which is ignored in a process that a shell started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_further_signals_change_nothing_and_a_second_ctrl_c_interrupts(python_ctrl_c):
    with StopGuard() as guard:
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM, signal.SIGUSR1):
            signal.raise_signal(number)
        assert guard.signal_name == "SIGUSR1"
    with StopGuard() as guard:
        signal.raise_signal(signal.SIGINT)
        assert guard.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_signal_while_cases_are_prepared_keeps_them(dataset, tiny_plan, tmp_path, monkeypatch):
    prepare = Segmentation.prepare

    def signalled(self, cases, job, *, share, progress):
        def then(done, total, case):
            signal.raise_signal(signal.SIGTERM)
            progress(done, total, case)

        prepare(self, cases, job, share=share, progress=then)

    monkeypatch.setattr(Segmentation, "prepare", signalled)
    with pytest.raises(RunStoppedError, match="before the first step; what is prepared is kept"):
        fit(dataset, tiny_plan, tmp_path / "run", progress=False)
    assert len(list((tmp_path / "run/cache").iterdir())) == 1


def test_the_command_line_ends_with_the_documented_code(monkeypatch):
    def train(*arguments, **options):
        raise RunStoppedError("stopped by SIGTERM after step 3; the checkpoint is written")

    monkeypatch.setattr(workflow, "train", train)
    result = CliRunner().invoke(app, ["train", "data", "-o", "run"])
    assert result.exit_code == 75
    assert result.stderr == "error: stopped by SIGTERM after step 3; the checkpoint is written\n"


# ------------------------------------------------------------------------------------- from a stop to a model file


def test_finish_writes_the_model_of_a_stopped_run_which_can_still_go_on(dataset, tiny_plan, tmp_path):
    plan = tiny_plan.with_changes(checkpoint_interval=1)
    run_to(6, dataset, plan, tmp_path / "run")
    assert not (tmp_path / "run/model.safetensors").exists()
    result = fit(dataset, plan, tmp_path / "run", finish=True, progress=False)
    assert result.model_path.is_file()
    assert read_header(result.model_path).metadata["training"]["steps"] == 6
    assert [row["step"] for row in result.history] == [1, 2, 3, 4, 5, 6]
    assert result.history[-1]["dice_mean"] is not None  # step 6 is none that validates; the end is validated
    fit(dataset, plan, tmp_path / "run", resume=True, progress=False)
    assert [row["step"] for row in read_metrics(tmp_path / "run/metrics.csv")] == list(range(1, 9))


def test_finish_needs_a_checkpoint(dataset, tiny_plan, tmp_path):
    with pytest.raises(PlanError, match="no checkpoint to make a model of"):
        fit(dataset, tiny_plan, tmp_path / "run", finish=True, progress=False)
    assert not (tmp_path / "run").exists()


# ------------------------------------------------------------------------------------------- damaged checkpoints


def garbage(content):
    return [
        b"",
        b"garbage" * 99,
        bytes(len(content)),
        content[: len(content) // 2],
        pickle.dumps({"version": 2}),
        pickle.dumps([1, 2]),
    ]


@pytest.mark.parametrize("number", range(6))
def test_a_damaged_checkpoint_is_one_line_and_no_advice_loses_work(dataset, tiny_plan, tmp_path, number):
    run_to(6, dataset, tiny_plan, tmp_path / "run")
    last, best = tmp_path / "run/checkpoints/last.pt", tmp_path / "run/checkpoints/best.pt"
    last.write_bytes(garbage(last.read_bytes())[number])
    with pytest.raises(ResvoxError) as caught:
        fit(dataset, tiny_plan, tmp_path / "run", resume=True, progress=False)
    text = str(caught.value)
    assert text.startswith(f"{last}: ")
    assert "--finish writes the model of the best weights" in text
    assert "overwrite" not in text
    assert "weights_only" not in text
    assert read_metrics(tmp_path / "run/metrics.csv")[-1]["step"] == 6
    result = fit(dataset, tiny_plan, tmp_path / "run", finish=True, progress=False)
    best_step = load_checkpoint(best)["progress"].best_step
    assert read_header(result.model_path).metadata["training"]["step"] == best_step == 4
    assert read_metrics(tmp_path / "run/metrics.csv")[-1]["step"] == 6  # the log is kept


def test_a_missing_last_checkpoint_does_not_start_over_what_has_a_best_one(dataset, tiny_plan, tmp_path):
    run_to(6, dataset, tiny_plan, tmp_path / "run")
    (tmp_path / "run/checkpoints/last.pt").unlink()
    with pytest.raises(ResvoxError, match=r"last\.pt: no such checkpoint.*--finish"):
        fit(dataset, tiny_plan, tmp_path / "run", resume=True, progress=False)
    assert (tmp_path / "run/checkpoints/best.pt").is_file()


@pytest.mark.parametrize("step", [6, 8])
@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"x")])
def test_best_weights_that_are_gone_are_chosen_anew(dataset, tiny_plan, tmp_path, capsys, damage, step):
    if step == 8:
        fit(dataset, tiny_plan, tmp_path / "run", progress=False)
    else:
        run_to(step, dataset, tiny_plan, tmp_path / "run")
    damage(tmp_path / "run/checkpoints/best.pt")
    result = fit(dataset, tiny_plan, tmp_path / "run", resume=True)
    assert "best.pt of step" in capsys.readouterr().err
    assert is_readable(tmp_path / "run/checkpoints/best.pt")
    assert result.best_score is not None


@contextmanager
def suppress_one_line_errors(path):
    """Nothing but an error of one line that names the file may leave the block."""
    caught = None
    try:
        yield
    except ResvoxError as error:
        caught = str(error)
    assert caught is None or ("\n" not in caught and str(path) in caught)


@given(place=st.floats(0, 1, exclude_max=True), change=st.sampled_from(["flip", "cut", "insert", "zero"]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_checkpoint_is_read_or_refused_in_one_line(tmp_path, tiny_plan, place, change):
    path = tmp_path / "last.pt"
    save_checkpoint(path, plan=tiny_plan.to_dict(), progress=Progress(step=3), model={"w": torch.ones(2)})
    content = bytearray(path.read_bytes())
    at = int(place * len(content))
    if change == "flip":
        content[at] ^= 1 << (at % 8)
    elif change == "cut":
        del content[at : at + 16]
    elif change == "insert":
        content[at:at] = b"\x00abc"
    else:
        content[at : at + 64] = bytes(len(content[at : at + 64]))
    path.write_bytes(content)
    with suppress_one_line_errors(path):
        load_checkpoint(path)


def test_a_checkpoint_of_another_network_is_one_line(dataset, tiny_plan, tmp_path):
    run_to(5, dataset, tiny_plan, tmp_path / "run")
    last = tmp_path / "run/checkpoints/last.pt"
    content = torch.load(last, weights_only=True)
    content["model"] = {"w": torch.ones(2)}
    torch.save(content, last)
    with pytest.raises(ResvoxError, match=r"last\.pt: the checkpoint does not fit the plan's network"):
        fit(dataset, tiny_plan, tmp_path / "run", resume=True, progress=False)


# ------------------------------------------------------------------------------------------------- the dataset


def test_cases_added_or_removed_before_a_resume_are_refused_by_name(
    folder_of, image_writer, scan_maker, tiny_plan, tmp_path
):
    folder = folder_of(ids=tuple("abcdef"))
    run_to(6, read_dataset(folder), tiny_plan, tmp_path / "run")
    (folder / "labelsTr/b.nii.gz").unlink()
    (folder / "imagesTr/b_0000.nii.gz").unlink()
    scan, label = scan_maker(9, (16, 16, 16))
    image_writer(folder / "imagesTr/new_0000.nii.gz", scan, (2.0, 1.0, 1.0))
    image_writer(folder / "labelsTr/new.nii.gz", label, (2.0, 1.0, 1.0))
    with pytest.raises(PlanError) as caught:
        fit(read_dataset(folder), tiny_plan, tmp_path / "run", resume=True, progress=False)
    assert "the dataset has changed since the checkpoint, cases: 1 added (new), 1 removed (b)" in str(caught.value)
    assert fit(read_dataset(folder), tiny_plan, tmp_path / "run", finish=True, progress=False).model_path.is_file()


def test_a_file_that_changed_is_remarked_and_one_that_moved_is_not(
    folder_of, image_writer, scan_maker, tiny_plan, tmp_path, capsys
):
    folder = folder_of(ids=("a", "b", "c"))
    run_to(6, read_dataset(folder), tiny_plan, tmp_path / "run")
    moved = shutil.copytree(folder, tmp_path / "moved")  # other paths and dates
    fit(read_dataset(moved), tiny_plan.with_changes(max_minutes=1e-9), tmp_path / "run", resume=True)
    assert "have changed" not in capsys.readouterr().err
    scan, _ = scan_maker(9, (16, 16, 16))
    image_writer(moved / "imagesTr/b_0000.nii.gz", scan, (2.0, 1.0, 1.0))
    fit(read_dataset(moved), tiny_plan, tmp_path / "run", resume=True)
    assert "warning: the files of 1 cases have changed since the checkpoint (b)" in capsys.readouterr().err


def test_a_case_that_changes_sides_is_refused_and_old_checkpoints_know_none():
    saved = {"train": {"a": 1, "b": 2}, "validation": {"c": 3}}
    with pytest.raises(PlanError, match=r"1 moved between training and validation \(b\)"):
        refuse_other_cases(saved, {"train": {"a": 1}, "validation": {"b": 2, "c": 3}}, "last.pt")
    refuse_other_cases({}, saved, "last.pt")
    assert changed_files({}, saved) == ""
    assert changed_files(saved, {"train": {"a": None, "b": 2}, "validation": {"c": 3}}) == ""


# ------------------------------------------------------------------------------------------------------- locks


def test_a_second_training_in_a_live_folder_is_refused(dataset, tiny_plan, tmp_path):
    refused = []

    def second():
        for options in ({"resume": True}, {"overwrite": True}, {"finish": True}):
            with pytest.raises(
                PlanError, match=r"process \d+ on .* is training in this folder.*another folder"
            ) as caught:
                fit(dataset, tiny_plan, tmp_path / "run", progress=False, **options)
            refused.append(caught.value)

    plan = tiny_plan.with_changes(checkpoint_interval=2)
    fit(dataset, plan, tmp_path / "run", progress=False, on_step=at_step(3, second))
    assert len(refused) == 3
    assert [row["step"] for row in read_metrics(tmp_path / "run/metrics.csv")] == list(range(1, 9))
    assert not (tmp_path / "run/.claims").exists()


def lock_of_another_machine(folder, monkeypatch):
    """The lock of a process that is gone, as another machine left it."""
    lock = folder / ".claims" / f"{LOCK}.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text(json.dumps({"token": "x", "pid": 4711, "host": "node3|pid:[1]", "born": "1"}))
    monkeypatch.setattr(Claims.__init__, "__kwdefaults__", {"beat_seconds": 0.1, "stale_seconds": 1.0})
    return lock


def test_a_requeued_job_takes_over_when_the_lock_of_its_first_part_stays_silent(
    dataset, tiny_plan, tmp_path, monkeypatch, capsys
):
    lock_of_another_machine(tmp_path / "run", monkeypatch)
    fit(dataset, tiny_plan.with_changes(steps=1), tmp_path / "run")
    assert "to see whether process 4711 on node3 still trains" in capsys.readouterr().err
    assert (tmp_path / "run/model.safetensors").is_file()


def test_a_job_on_another_machine_whose_heart_beats_keeps_the_folder(tmp_path, monkeypatch):
    lock = lock_of_another_machine(tmp_path / "run", monkeypatch)

    def beat():
        os.utime(lock, (time.time() + 1, time.time() + 1))

    locked = RunFolder(tmp_path / "run").locked(print, beat)
    with pytest.raises(PlanError, match="process 4711 on node3 is training in this folder"), locked:
        raise AssertionError("took the lock")


# ------------------------------------------------------------------------------------------------------ full disks


def no_space(*arguments, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_names_file_reason_and_way_on(dataset, tiny_plan, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(MetricsFile, "write", no_space)
        with pytest.raises(ResvoxError, match=r"run: the disk is full \(No space left on device\).*--resume"):
            fit(dataset, tiny_plan, tmp_path / "run", progress=False)

    def unwritten(content, path):
        path.write_bytes(b"half")
        raise RuntimeError(
            "[enforce fail at inline_container.cc:603] . unexpected pos 64 vs 0"
        )  # as torch.save says it

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", unwritten)
        with pytest.raises(ResvoxError, match=r"best\.pt: the checkpoint could not be written.*disk full.*--resume"):
            fit(dataset, tiny_plan, tmp_path / "run", resume=True, progress=False)
    assert not list((tmp_path / "run").rglob(".*.tmp"))
    assert not list((tmp_path / "run").rglob("*.partial*"))
    fit(dataset, tiny_plan, tmp_path / "run", resume=True, progress=False)


# ------------------------------------------------------------------------------------- validation without foreground


def test_validation_cases_without_labels_do_not_choose_the_model(folder_of, image_writer, tiny_plan, tmp_path, capsys):
    folder = folder_of(ids=("a", "b"))
    dataset = read_dataset(folder)
    (held,) = dataset.split(fraction=0.2, seed=0).validation
    image_writer(held.label, np.zeros((16, 16, 16), np.uint8), (2.0, 1.0, 1.0))
    result = fit(dataset, tiny_plan, tmp_path / "run")
    assert "no validation gave a score; the model holds the weights of step 8" in capsys.readouterr().err
    assert read_header(result.model_path).metadata["training"]["step"] == 8
    assert result.best_score is None
    trained = load_checkpoint(tmp_path / "run/checkpoints/last.pt")["model"]
    for name, tensor in resvox.load_model(result.model_path).state_dict().items():
        assert torch.equal(tensor, trained[name])


# --------------------------------------------------------------------------------------------- machines and planning


def test_cuda_that_is_missing_is_one_line_before_anything_is_read(folder_of, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(PlanError, match=r"device='cuda', and PyTorch .*fix: --device cpu"):
        workflow.train(tmp_path / "not read", tmp_path / "run", device="cuda")
    plan = workflow.train(folder_of(), tmp_path / "run", device="cuda", plan_only=True).plan  # for another machine
    assert plan.steps == 20_000


def test_sizes_with_too_few_axes_are_one_line(folder_of, tmp_path):
    for options in ({"patch_size": (64, 64)}, {"spacing_mm": (1.0, 1.0)}):
        with pytest.raises(PlanError, match=r"for 3D data; expected 3 numbers, one per axis; fix: give them as D,H,W"):
            workflow.train(folder_of(), tmp_path / "run", plan_only=True, **options)


def test_a_ct_that_is_constant_under_the_labels_is_not_clipped_to_nothing(folder_of, image_writer, tmp_path):
    folder = folder_of(ids=("a",))
    image_writer(folder / "imagesTr/a_0000.nii.gz", np.full((16, 16, 16), 60, np.int16), (2.0, 1.0, 1.0))
    plan = draw_plan(take_fingerprint(read_dataset(folder)), device="cpu")
    assert [dict(each) for each in plan.normalization] == [{"kind": "zscore"}]
    assert "the values under the labels are all 60" in plan.notes["normalization"]


SLURM = {"SLURM_JOB_ID": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_NTASKS": "4",
         "SLURM_JOB_NAME": "train.sh", "SLURM_NODELIST": "nowhere", "SLURM_NNODES": "2"}  # fmt: skip
LEFT_OVER = {"MASTER_ADDR": "nowhere", "MASTER_PORT": "1", "LOCAL_RANK": "3", "NODE_RANK": "2", "WORLD_SIZE": "8"}


@pytest.mark.parametrize("variables", [SLURM, LEFT_OVER, {**SLURM, **LEFT_OVER}])
def test_variables_of_batch_systems_do_not_change_a_run(dataset, tiny_plan, tmp_path, monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    fabric = processes.make_fabric(tiny_plan, devices=1, num_nodes=1, accelerator="cpu", precision=None)
    assert (fabric.world_size, fabric.global_rank) == (1, 0)
    spawning = processes.make_fabric(tiny_plan, devices=2, num_nodes=1, accelerator="cpu", precision=None)
    environment = spawning.strategy.cluster_environment
    assert not environment.creates_processes_externally
    assert environment.main_address == "127.0.0.1"
    assert environment.main_port == environment.main_port > 1024
    assert (environment.local_rank(), environment.node_rank()) == (0, 0)
    result = fit(dataset, tiny_plan.with_changes(steps=1), tmp_path / "run", progress=False, accelerator="cpu")
    assert result.model_path.is_file()


def test_several_copies_of_srun_are_refused_with_the_way_on(tiny_plan, monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    with pytest.raises(PlanError, match=r"srun has started 4 copies of a training of 1 processes.*srun -n 1"):
        processes.make_fabric(tiny_plan, devices=1, num_nodes=1, accelerator="cpu", precision=None)


# ------------------------------------------------------------------------------------- real processes that are killed

KILLED_WORKER = """
import multiprocessing, os, signal, sys
from resvox.training import Plan, fit, read_dataset

def on_step(report):
    if report.step == 3:
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

if __name__ == "__main__":
    fit(read_dataset(sys.argv[1]), Plan.load(sys.argv[2]), sys.argv[3], workers=1, on_step=on_step, progress=False)
"""


def test_a_killed_worker_is_named_as_one(folder_of, tiny_plan, tmp_path):
    plan = tiny_plan.with_changes(steps=500, validation_interval=500).save(tmp_path / "plan.yaml")
    (tmp_path / "run.py").write_text(KILLED_WORKER)
    environment = {
        **os.environ,
        "PYTHONPATH": os.path.dirname(os.path.dirname(resvox.__file__)),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "run.py", str(folder_of()), str(plan), "run"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    last = done.stderr.strip().splitlines()[-1]
    assert "a worker process that cuts patches was ended from outside" in last
    assert "--resume goes on from the last checkpoint; use fewer --workers" in last


STOPPED_WITH_WORKERS = """
import multiprocessing, os, signal, sys
from resvox.errors import RunStoppedError
from resvox.training import Plan, fit, read_dataset

def on_step(report):
    if report.step == 3:
        os.kill(os.getpid(), signal.SIGTERM)

def train(data, plan, run):
    try:
        fit(read_dataset(data), Plan.load(plan), run, workers=2, on_step=on_step, progress=False)
    except RunStoppedError:
        sys.exit(3)  # as PyTorch ends the processes it spawns: the frames of the run are alive while Python ends

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=train, args=sys.argv[1:])
    process.start()
    process.join(90)
    ended = process.exitcode
    process.kill()
    sys.exit(ended if ended is not None else 99)
"""


def test_a_stopped_run_does_not_wait_for_its_workers(folder_of, tiny_plan, tmp_path):
    plan = tiny_plan.with_changes(steps=500, validation_interval=500).save(tmp_path / "plan.yaml")
    (tmp_path / "run.py").write_text(STOPPED_WITH_WORKERS)
    source = os.path.dirname(os.path.dirname(resvox.__file__))
    done = subprocess.run(
        [sys.executable, "run.py", str(folder_of()), str(plan), "run"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (3, "")
    assert load_checkpoint(tmp_path / "run/checkpoints/last.pt")["progress"].step == 4


def test_a_signal_that_ends_processes_while_they_start_is_a_stop(dataset, tiny_plan, tmp_path, monkeypatch):
    def launch(self, function):
        signal.raise_signal(signal.SIGTERM)
        raise ProcessExitedException("process 0 terminated with signal SIGTERM", 0, 1, -15, "SIGTERM")

    monkeypatch.setattr(Fabric, "launch", launch)
    with pytest.raises(RunStoppedError, match=r"stopped by SIGTERM while its processes started.*--resume"):
        fit(dataset, tiny_plan, tmp_path / "run", progress=False)


def _start_slowly(worker):
    time.sleep(0.5)
    start_worker(worker)


def test_a_signal_to_all_processes_spares_workers_that_are_starting():
    others = multiprocessing.active_children()
    loader = torch.utils.data.DataLoader([1.0, 2.0, 3.0], batch_size=1, num_workers=1, worker_init_fn=_start_slowly)
    with signals_wait():
        batches = iter(loader)
    (worker,) = [child for child in multiprocessing.active_children() if child not in others]
    os.kill(worker.pid, signal.SIGTERM)
    assert torch.cat(list(batches)).tolist() == [1.0, 2.0, 3.0]
